"""The blueprint ``batches``: how a batch stands, what of it was refused, and calling it off."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import UUID

from flask import Blueprint, request
from flask.wrappers import Response
from sqlalchemy import Connection

from smsapi.auth.guard import caller
from smsapi.auth.schemas import EmptySchema
from smsapi.batches import progress, schemas, store
from smsapi.batches.models import Batch
from smsapi.batches.present import Standstill, present_batch
from smsapi.batches.store import Reject
from smsapi.csvfiles import write_row
from smsapi.deps import Deps
from smsapi.errors import NotFound
from smsapi.messages.models import messages
from smsapi.messages.present import present_message
from smsapi.messages.schemas import MessageListSchema, MessageQuery
from smsapi.messages.store import list_messages
from smsapi.messages.underway import let_begun_end
from smsapi.messages.waiting import read_holds
from smsapi.pacing.gates import read_stops
from smsapi.web.answers import Answer, answer
from smsapi.web.body import load_optional_body, load_query
from smsapi.web.context import deps, to_response
from smsapi.web.fields import StrictSchema
from smsapi.web.once import answer_once
from smsapi.web.operations import operation
from smsapi.web.pagination import Page, PageQuery, page_of
from smsapi.web.paths import id_in_path
from smsapi.workers.store import count_alive

blueprint = Blueprint("batches", __name__)

_CSV: Final = "text/csv"
_EXPORT_PAGE: Final = 1_000
_COLUMNS: Final = ("row", "value", "code", "message")
_page_query = PageQuery()
_message_query = schemas.BatchMessageQuerySchema()
_reject_query = schemas.RejectQuerySchema()
_no_query = StrictSchema()
_nothing = EmptySchema()


@blueprint.get("/v1/batches")
@operation(summary="List batches", scope="messages:read", query=PageQuery, answers={200: schemas.BatchListSchema})
def list_batches() -> Response:
    """Return a page of the client's batches, newest first; to a test key, of its test batches only."""
    page = load_query(_page_query, Page)
    world = deps()
    with world.database.read() as connection:
        found = store.list_batches(connection, caller(), limit=page.limit, before=page.before)
        counts = store.counts_among(connection, found)
        standstill = _standstill(world, connection)

    def present(batch: Batch) -> dict[str, Any]:
        return present_batch(batch, counts[batch.id], now=world.clock.now(), standstill=standstill)

    return to_response(answer(page_of(found, page.limit, present, lambda batch: batch.id)))


@blueprint.get("/v1/batches/<batch_id>")
@operation(
    summary="Get a batch",
    scope="messages:read",
    query=StrictSchema,
    answers={200: schemas.BatchSchema},
    problems=("not_found",),
)
def get_batch(batch_id: str) -> Response:
    """Return how the batch stands now, as cheaply for a million rows as for ten; a test key finds test batches only."""
    load_query(_no_query, dict)
    with deps().database.read() as connection:
        shown = _present(deps(), connection, _found(connection, batch_id))
    return to_response(answer(shown))


@blueprint.get("/v1/batches/<batch_id>/messages")
@operation(
    summary="List the messages of a batch",
    scope="messages:read",
    query=schemas.BatchMessageQuerySchema,
    answers={200: MessageListSchema},
    problems=("not_found",),
)
def list_batch_messages(batch_id: str) -> Response:
    """Return a page of the batch's messages, newest first: what of it was made so far, as far ahead as it is needed."""
    query = load_query(_message_query, MessageQuery)
    limit, before = query.page.limit, query.page.before
    with deps().database.read() as connection:
        batch = _found(connection, batch_id)
        wanted = replace(query.wanted, batch_id=batch.id)
        found = list_messages(connection, caller(), wanted, limit=limit, before=before)
        holds = read_holds(connection, found, deps().clock.now())
    present = partial(present_message, hold_of=holds)
    return to_response(answer(page_of(found, limit, present, lambda message: message.id)))


@blueprint.get("/v1/batches/<batch_id>/rejects")
@operation(
    summary="List the rejected rows of a batch",
    scope="messages:read",
    query=schemas.RejectQuerySchema,
    answers={200: (schemas.BatchRejectListSchema, _CSV)},
    problems=("not_found",),
    headers={"Accept": "`text/csv`: all of them as a file."},
)
def list_batch_rejects(batch_id: str) -> Response:
    """Return a page of the rows that were not taken, in their order, and why; or, as CSV, all of them."""
    query = load_query(_reject_query, schemas.RejectQuery)
    with deps().database.read() as connection:
        batch = _found(connection, batch_id)
        if not _wants_csv(query):
            found = store.list_rejects(connection, batch, limit=query.limit, after=query.after)
            shown = page_of(found, query.limit, _present_reject, lambda reject: UUID(int=reject.row))
            return to_response(answer(shown))
    content = _write_csv(_all_rejects(deps(), batch))
    headers = {"Content-Disposition": f'attachment; filename="{batch_id}-rejects.csv"'}
    return Response(content, content_type=f"{_CSV}; charset=utf-8", headers=headers)


@blueprint.post("/v1/batches/<batch_id>/cancel")
@operation(
    summary="Cancel a batch",
    scope="messages:send",
    body=EmptySchema,
    body_optional=True,
    answers={200: schemas.BatchSchema},
    problems=("not_found", "too_late"),
    idempotent=True,
)
def cancel_batch(batch_id: str) -> Response:
    """Call off what has not left: once this is answered, no call to Plivo begins for the batch any more.

    What Plivo has, or is being handed, is sent; that is waited for, two seconds at most.

    `counts` says how many rows are `canceled` already; of a large batch the others follow within seconds.
    """
    load_optional_body(_nothing, dict)
    world = deps()
    with world.database.read() as connection:
        # Not within what is answered once: what a test key does not find is not lost to the client's live keys.
        wanted = _found(connection, batch_id)

    def act(connection: Connection) -> Answer:
        batch = store.lock_batch(connection, wanted.id)
        if batch is None:
            raise NotFound("There is no such batch.")
        canceled = progress.cancel(world, connection, batch)
        return answer(_present(world, connection, canceled))

    response = answer_once(caller().owner, act)
    # A claim that had looked before the commit may be beginning its attempts at this moment.
    own = (messages.c.client_id == wanted.client_id, messages.c.batch_id == wanted.id)
    let_begun_end(world.database, world.clock, *own, lease_seconds=world.settings.lease_seconds)
    world.bell.ring()
    return response


def _found(connection: Connection, batch_id: str) -> Batch:
    return store.get_batch_for(connection, caller(), id_in_path("bat", batch_id, what="batch"))


def _present(world: Deps, connection: Connection, batch: Batch) -> dict[str, Any]:
    counts, standstill = store.counts_of(connection, batch), _standstill(world, connection)
    return present_batch(batch, counts, now=world.clock.now(), standstill=standstill)


def _standstill(world: Deps, connection: Connection) -> Standstill:
    stops = frozenset(gate.key for gate in read_stops(connection))
    return Standstill(stops, is_anybody_sending=count_alive(connection, world.clock.now()) > 0)


def _wants_csv(query: schemas.RejectQuery) -> bool:
    if query.format is not None:
        return query.format == "csv"
    return request.accept_mimetypes.best_match(["application/json", _CSV]) == _CSV


def _present_reject(reject: Reject) -> dict[str, Any]:
    return {"row": reject.row, "value": reject.value, "code": reject.code, "message": reject.message}


def _all_rejects(world: Deps, batch: Batch) -> Iterator[Reject]:
    after, page = 0, None
    while page is None or len(page) > _EXPORT_PAGE:
        # Page by page, so that no connection is held while a slow caller reads.
        with world.database.read() as connection:
            page = store.list_rejects(connection, batch, limit=_EXPORT_PAGE, after=after)
        shown = page[:_EXPORT_PAGE]
        yield from shown
        after = shown[-1].row if shown else after


def _write_csv(rejects: Iterator[Reject]) -> Iterator[str]:
    yield write_row(_COLUMNS)
    for reject in rejects:
        yield write_row((str(reject.row), reject.value, reject.code, reject.message))

"""The blueprint ``optouts``: who may not be texted by the caller's client, and changing that."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from flask import Blueprint, request
from flask.wrappers import Response

from smsapi.auth.guard import caller
from smsapi.auth.models import Caller
from smsapi.clock import rfc3339
from smsapi.deps import Deps
from smsapi.errors import InvalidInput, NotFound, ScopeMissing, UnsupportedMediaType
from smsapi.ids import show_id
from smsapi.optouts import files, ledger, schemas
from smsapi.optouts.models import OptOut, Proof, Scope
from smsapi.web.answers import answer
from smsapi.web.body import load_optional_body, load_query, read_raw_body
from smsapi.web.context import deps, to_response
from smsapi.web.fields import StrictSchema
from smsapi.web.operations import operation
from smsapi.web.pagination import Page, PageQuery, page_of
from smsapi.web.paths import number_in_path

blueprint = Blueprint("optouts", __name__)

_CSV = "text/csv"
_EXPORT_PAGE = 1_000
_order = schemas.OptOutOrderSchema()
_page_query = PageQuery()
_no_query = StrictSchema()


@blueprint.get("/v1/opt-outs")
@operation(summary="List opt-outs", scope="optouts", query=PageQuery, answers={200: schemas.OptOutListSchema})
def list_opt_outs() -> Response:
    """Return a page of the entries that hold for the client, newest first; to a test key, of the test ones.

    These are its own, and those of all clients that send from one of its senders.
    """
    page = load_query(_page_query, Page)
    with deps().database.read() as connection:
        found = ledger.list_opt_outs(connection, _mine(), limit=page.limit, before=page.before)
    return to_response(answer(page_of(found, page.limit, present_opt_out, lambda entry: entry.id)))


@blueprint.get("/v1/opt-outs/export")
@operation(summary="Export the opt-outs", scope="optouts", query=StrictSchema, answers={200: _CSV})
def export_opt_outs() -> Response:
    """Return all entries that hold for the client as CSV: number, scope, from, source, reason, opted_out_at."""
    load_query(_no_query, dict)
    content = files.write_csv(_all_entries(deps(), _mine()))
    headers = {"Content-Disposition": 'attachment; filename="opt-outs.csv"'}
    return Response(content, content_type=f"{_CSV}; charset=utf-8", headers=headers)


def _all_entries(world: Deps, mine: ledger.Mine) -> Iterator[OptOut]:
    before: UUID | None = None
    while True:
        # Page by page, so that no connection is held while a slow caller reads.
        with world.database.read() as connection:
            page = ledger.list_opt_outs(connection, mine, limit=_EXPORT_PAGE, before=before)
        yield from page[:_EXPORT_PAGE]
        if len(page) <= _EXPORT_PAGE:
            return
        before = page[_EXPORT_PAGE - 1].id


@blueprint.post("/v1/opt-outs/import")
@operation(
    summary="Import opt-outs",
    scope="optouts",
    takes=_CSV,
    answers={200: schemas.ImportSchema},
)
def import_opt_outs() -> Response:
    """Opt out all numbers of a CSV with the columns `number` and, if wanted, `from` and `reason`: the client's own.

    At most 10,000 rows. Bad rows are told of and never stop good ones. The same file again changes nothing, and no
    events are made of what is imported. When it is answered, no attempt to these numbers begins any more, and calls
    that had begun are over (waited for two seconds at most).
    """
    load_query(_no_query, dict)
    lines, rejects = files.read_csv(_read_csv_body())
    world, who = deps(), caller()
    evidence = {"key_id": show_id("key", who.key.id)}
    orders = [(_scope(who, line.number, line.sender), line.reason) for line in lines]
    with world.database.transaction() as connection:
        added = ledger.import_opt_outs(connection, orders, at=world.clock.now(), evidence=evidence)
    if added:
        ledger.let_calls_of_client_end(world, who.client.id)
    shown = [{"row": reject.row, "message": reject.message} for reject in rejects[: files.MOST_REJECTS]]
    counts = {"added": added, "already": len(lines) - added, "rejected": len(rejects)}
    return to_response(answer({**counts, "rejects": shown}))


@blueprint.get("/v1/opt-outs/<number>")
@operation(
    summary="Say whether a number is opted out",
    scope="optouts",
    query=StrictSchema,
    answers={200: schemas.OptOutWithEntriesSchema},
    problems=("not_found",),
)
def get_opt_out(number: str) -> Response:
    """Return the oldest entry for the number that holds for the client, and all of them; 404 where there is none."""
    load_query(_no_query, dict)
    with deps().database.read() as connection:
        found = ledger.entries_of(connection, _mine(), number_in_path(number))
    if not found:
        raise NotFound("The number is not opted out.")
    shown = [present_opt_out(entry) for entry in found]
    return to_response(answer({**shown[0], "entries": shown}))


@blueprint.get("/v1/opt-outs/<number>/history")
@operation(
    summary="Show how a number came to be opted out, and in",
    scope="optouts",
    query=StrictSchema,
    answers={200: schemas.TrailSchema},
)
def list_opt_out_history(number: str) -> Response:
    """Return all that was ever entered of the number and concerns the client, oldest first, with its proof."""
    load_query(_no_query, dict)
    with deps().database.read() as connection:
        found = ledger.trail_of(connection, _mine(), number_in_path(number))
    return to_response(answer({"data": [_present_proof(proof) for proof in found]}))


@blueprint.put("/v1/opt-outs/<number>")
@operation(
    summary="Opt a number out",
    scope="optouts",
    body=schemas.OptOutOrderSchema,
    body_optional=True,
    answers={200: schemas.OptOutSchema},
)
def put_opt_out(number: str) -> Response:
    """Stop the client, or one sender of it, from texting the number: 200 also where it was before, with its date.

    When it is answered, no attempt begins any more, and calls that had begun are over (waited for two seconds at most).
    """
    order = load_optional_body(_order, schemas.OptOutOrder)
    world, who = deps(), caller()
    scope = _scope(who, number_in_path(number), _sender_of(world, who, order))
    evidence = {"key_id": show_id("key", who.key.id), "reason": order.reason}
    with world.database.transaction() as connection:
        ledger.hold_waiting(connection, scope.number)
        ledger.opt_out(connection, scope, source="api", at=world.clock.now(), evidence=evidence, reason=order.reason)
        entry = ledger.get_entry(connection, scope)
    ledger.let_calls_end(world, scope.number)
    return to_response(answer(present_opt_out(entry)))


@blueprint.delete("/v1/opt-outs/<number>")
@operation(
    summary="Opt a number in again",
    scope="optouts",
    body=schemas.OptOutOrderSchema,
    body_optional=True,
    answers={204: None},
    problems=("not_found",),
)
def delete_opt_out(number: str) -> Response:
    """Take the client's entries for the number away, or those of one scope; the trail stays.

    What a recipient said to a sender holds for every client that sends from it: taking that away needs `admin` too.
    """
    order = load_optional_body(_order, schemas.OptOutOrder)
    world, who = deps(), caller()
    with world.database.transaction() as connection:
        found = [entry.scope for entry in ledger.entries_of(connection, _mine(), number_in_path(number))]
        wanted = _wanted(world, who, order, found)
        evidence = {"key_id": show_id("key", who.key.id), "reason": order.reason}
        ledger.opt_in(connection, wanted, source="api", at=world.clock.now(), evidence=evidence)
    return Response(status=204)


def _wanted(world: Deps, who: Caller, order: schemas.OptOutOrder, found: Sequence[Scope]) -> Sequence[Scope]:
    """Return those of the entries that are to go and that the caller may take away."""
    sender = None if order.scope is None else _sender_of(world, who, order)
    meant = [scope for scope in found if order.scope is None or scope.sender == sender]
    if not meant:
        raise NotFound("The number is not opted out.")
    own = [scope for scope in meant if scope.client_id is not None or "admin" in who.scopes]
    if not own:
        raise ScopeMissing("The recipient said so to a sender of several clients; taking that away needs scope admin.")
    return own


def _mine() -> ledger.Mine:
    who, settings = caller(), deps().settings
    senders = who.client.senders(settings.plivo_sender_id)
    return ledger.Mine(who.client.id, tuple(sorted(senders)), test=not who.key.live)


def _scope(who: Caller, number: str, sender: str | None) -> Scope:
    return Scope(number=number, client_id=who.client.id, sender=sender, test=not who.key.live)


def _sender_of(world: Deps, who: Caller, order: schemas.OptOutOrder) -> str | None:
    if order.scope != "sender":
        return None
    sender = order.sender or who.client.default_sender or world.settings.plivo_sender_id
    if sender is None:
        raise InvalidInput.at("/from", "The client has no default sender; name one.")
    return sender


def _read_csv_body() -> bytes:
    if request.mimetype != _CSV:
        raise UnsupportedMediaType("The body must be CSV: send Content-Type: text/csv, in UTF-8.")
    return read_raw_body()


def present_opt_out(entry: OptOut) -> dict[str, Any]:
    """Return the entry as callers see it."""
    return {
        **_present_scope(entry.scope),
        "source": entry.source,
        "reason": entry.reason,
        "opted_out_at": rfc3339(entry.at),
        "test": entry.scope.test,
    }


def _present_proof(proof: Proof) -> dict[str, Any]:
    shown = {"action": proof.action, **_present_scope(proof.scope), "source": proof.source}
    return {**shown, "at": rfc3339(proof.at), "evidence": proof.evidence}


def _present_scope(scope: Scope) -> dict[str, Any]:
    client = None if scope.client_id is None else show_id("cli", scope.client_id)
    return {"number": scope.number, "scope": scope.name, "from": scope.sender, "client_id": client}

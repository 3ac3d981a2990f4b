"""The blueprint ``messages``: reading what became of each message."""

from functools import partial

from flask import Blueprint
from flask.wrappers import Response

from smsapi.auth.guard import caller
from smsapi.clock import rfc3339
from smsapi.events import store as recorded
from smsapi.messages import schemas, store
from smsapi.messages.estimate import estimate_send_at
from smsapi.messages.present import present_event, present_message
from smsapi.messages.statuses import WAITING
from smsapi.messages.waiting import read_holds
from smsapi.pacing.gates import read_stops
from smsapi.web.answers import answer
from smsapi.web.body import load_query
from smsapi.web.context import deps, to_response
from smsapi.web.fields import StrictSchema
from smsapi.web.operations import operation
from smsapi.web.pagination import page_of
from smsapi.web.paths import id_in_path

blueprint = Blueprint("messages", __name__)

_query = schemas.MessageQuerySchema()
_no_query = StrictSchema()


@blueprint.get("/v1/messages")
@operation(
    summary="List messages",
    scope="messages:read",
    query=schemas.MessageQuerySchema,
    answers={200: schemas.MessageListSchema},
)
def list_messages() -> Response:
    """Return a page of the client's messages, newest first; to a test key, of its test messages only."""
    query = load_query(_query, schemas.MessageQuery)
    with deps().database.read() as connection:
        found = store.list_messages(
            connection, caller(), query.wanted, limit=query.page.limit, before=query.page.before
        )
        holds = read_holds(connection, found, deps().clock.now())
    present = partial(present_message, hold_of=holds)
    return to_response(answer(page_of(found, query.page.limit, present, lambda message: message.id)))


@blueprint.get("/v1/messages/<message_id>")
@operation(
    summary="Get a message",
    scope="messages:read",
    query=StrictSchema,
    answers={200: schemas.MessageWithEstimateSchema},
    problems=("not_found",),
)
def get_message(message_id: str) -> Response:
    """Return the message as it stands now; a test key finds test messages only."""
    load_query(_no_query, dict)
    with deps().database.read() as connection:
        found = store.get_message_for(connection, caller(), id_in_path("msg", message_id, what="message"))
        closed = read_stops(connection) if found.status in WAITING else []
        now = deps().clock.now()
        shown = present_message(found, read_holds(connection, [found], now, closed))
        if found.status in WAITING:
            expected = estimate_send_at(deps().settings, connection, found, now, closed)
            shown["estimated_send_at"] = None if expected is None else rfc3339(expected)
    return to_response(answer(shown))


@blueprint.get("/v1/messages/<message_id>/events")
@operation(
    summary="List what became of a message",
    scope="messages:read",
    query=StrictSchema,
    answers={200: schemas.EventListSchema},
    problems=("not_found",),
)
def list_events(message_id: str) -> Response:
    """Return the message's events, oldest first."""
    load_query(_no_query, dict)
    with deps().database.read() as connection:
        found = store.get_message_for(connection, caller(), id_in_path("msg", message_id, what="message"))
        events = recorded.list_events(connection, found.id)
    return to_response(answer({"data": [present_event(event) for event in events]}))

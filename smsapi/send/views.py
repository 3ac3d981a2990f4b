"""The blueprint ``send``: a message, the preview of one, and what can be done with one that is stored."""

from flask import Blueprint, request
from flask.wrappers import Response
from sqlalchemy import Connection

from smsapi.auth.guard import caller
from smsapi.auth.schemas import EmptySchema
from smsapi.deps import Deps
from smsapi.messages.deciding import by_caller, decide
from smsapi.messages.models import Message
from smsapi.messages.present import present_message
from smsapi.messages.schemas import MessageSchema
from smsapi.messages.store import get_message_for, hold_message
from smsapi.send import after, schemas, service
from smsapi.send.order import Order
from smsapi.web.answers import answer
from smsapi.web.body import load_body, load_optional_body
from smsapi.web.context import deps, request_id, to_response
from smsapi.web.once import REPLAYED, claim_of_request
from smsapi.web.operations import operation
from smsapi.web.paths import id_in_path
from smsapi.web.prefer import Preference, read_prefer

blueprint = Blueprint("send", __name__)

_order = schemas.OrderSchema()
_patch = schemas.MessagePatchSchema()
_resolution = schemas.ResolutionSchema()
_nothing = EmptySchema()
_REFUSALS = (
    "sender_not_allowed",
    "country_not_allowed",
    "text_too_long",
    "too_many_segments",
    "price_too_high",
    "recipient_opted_out",
)


@blueprint.post("/v1/messages")
@operation(
    summary="Send a message",
    scope="messages:send",
    body=schemas.OrderSchema,
    answers={201: MessageSchema, 202: MessageSchema},
    problems=(*_REFUSALS, "queue_full", "rejected_by_provider", "provider_account"),
    idempotent=True,
    sends=True,
    headers={"Prefer": "`wait=N` (up to 30 seconds, 10 if not given) or `respond-async`."},
)
def create_message() -> Response:
    """Store the message and, unless it waits for `send_at` or nobody waits, see it sent: 201, or 202 if it goes on."""
    order = load_body(_order, Order)
    claim = claim_of_request(caller().owner)
    given, replayed = service.send_message(
        deps(),
        caller(),
        order,
        claim=claim,
        preference=_preference(order),
        request_id=request_id(),
    )
    return to_response(given, REPLAYED if replayed else None)


def _preference(order: Order) -> Preference:
    preferred = read_prefer(request.headers.get("Prefer", ""))
    # Nobody waits for a message until its time comes, so a wait is not what was applied.
    return preferred if order.send_at is None or preferred.wait_seconds is None else Preference(None, None)


@blueprint.post("/v1/messages/preview")
@operation(
    summary="Preview a message",
    scope="messages:send",
    body=schemas.OrderSchema,
    answers={200: schemas.PreviewSchema},
)
def preview_message() -> Response:
    """Say what would become of the message: segments, price, refusals. Sends and stores nothing."""
    return to_response(answer(service.preview(deps(), caller(), load_body(_order, Order))))


@blueprint.patch("/v1/messages/<message_id>")
@operation(
    summary="Change a scheduled message",
    scope="messages:send",
    body=schemas.MessagePatchSchema,
    answers={200: MessageSchema},
    problems=("not_found", "too_late", *_REFUSALS),
    retargets=True,
)
def update_message(message_id: str) -> Response:
    """Change what is given before the message is sent; it is looked at anew, and may be refused as a new one would.

    Another `to` spends the number's limit (429 `rate_limited`), once for each message and number.
    """
    changes = load_body(_patch, schemas.MessageChanges)
    world, who = deps(), caller()
    with world.database.transaction() as connection:
        wanted = get_message_for(connection, who, id_in_path("msg", message_id, what="message"))
        message = hold_message(connection, wanted.id)
        edited = after.edit(world, connection, message, changes.values, client=who.client, by=by_caller())
    return to_response(answer(present_message(edited)))


@blueprint.post("/v1/messages/<message_id>/cancel")
@operation(
    summary="Cancel a message",
    scope="messages:send",
    body=EmptySchema,
    body_optional=True,
    answers={200: MessageSchema},
    problems=("not_found", "too_late"),
    idempotent=True,
)
def cancel_message(message_id: str) -> Response:
    """Call off a message that is `scheduled` or `queued`: it is never sent. One that was canceled before stays so."""
    load_optional_body(_nothing, dict)
    by = by_caller()
    return decide(message_id, lambda world, connection, held: after.cancel(world, connection, held, by=by))


@blueprint.post("/v1/messages/<message_id>/resolve")
@operation(
    summary="Settle a message whose outcome is unknown",
    scope="messages:send",
    body=schemas.ResolutionSchema,
    answers={200: MessageSchema},
    problems=("not_found", "not_unknown"),
    idempotent=True,
)
def resolve_message(message_id: str) -> Response:
    """Say what became of a message that is `unknown`, or have it sent again; `resend` may text somebody twice."""
    resolution = load_body(_resolution, schemas.Resolution)
    outcome, by = resolution.outcome, by_caller()
    resolved: list[Message] = []

    def settle(world: Deps, connection: Connection, held: Message) -> Message:
        resolved.append(after.resolve(world, connection, held, outcome, by=by))
        return resolved[-1]

    response = decide(message_id, settle)
    for message in resolved:
        after.wake_batch(deps(), message)
    if outcome == "resend":
        deps().bell.ring()
    return response

"""The blueprint ``send``: a message, and the preview of one."""

from dataclasses import replace

from flask import Blueprint, request
from flask.wrappers import Response

from smsapi.auth.guard import caller
from smsapi.messages.schemas import MessageSchema
from smsapi.send import schemas, service
from smsapi.send.order import Order
from smsapi.web.answers import answer
from smsapi.web.body import load_body
from smsapi.web.context import deps, request_id, to_response
from smsapi.web.idempotency import Claim
from smsapi.web.once import REPLAYED, claim_of_request
from smsapi.web.operations import operation
from smsapi.web.prefer import read_prefer

blueprint = Blueprint("send", __name__)

_order = schemas.OrderSchema()
_REFUSALS = (
    "sender_not_allowed",
    "country_not_allowed",
    "text_too_long",
    "too_many_segments",
    "price_too_high",
    "rejected_by_provider",
    "provider_account",
)


@blueprint.post("/v1/messages")
@operation(
    summary="Send a message",
    scope="messages:send",
    body=schemas.OrderSchema,
    answers={201: MessageSchema, 202: MessageSchema},
    problems=_REFUSALS,
    idempotent=True,
    sends=True,
    headers={"Prefer": "`wait=N` (up to 30 seconds, 10 if not given) or `respond-async`."},
)
def create_message() -> Response:
    """Store the message and, unless told not to wait, see it sent: 201 Plivo took it, 202 it goes on without you."""
    given, replayed = service.send_message(
        deps(),
        caller(),
        load_body(_order, Order),
        claim=_claim(),
        preference=read_prefer(request.headers.get("Prefer", "")),
        request_id=request_id(),
    )
    return to_response(given, REPLAYED if replayed else None)


def _claim() -> Claim | None:
    claim = claim_of_request(caller().client.id)
    if claim is None or caller().key.live:
        return claim
    # Apart from the live ones: a rehearsal with a test key must not be the answer to the real message after it.
    return replace(claim, route=f"{claim.route} (test)")


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

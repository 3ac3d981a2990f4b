"""The blueprint ``receipts``: where Plivo reports, on the URL of each message or of a call that several shared."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, request
from flask.wrappers import Response

from smsapi.deps import Deps
from smsapi.ids import read_id, show_id
from smsapi.receipts import service
from smsapi.receipts.applying import Applied
from smsapi.receipts.facts import read_receipt
from smsapi.receipts.store import Heard
from smsapi.web.context import deps
from smsapi.web.operations import operation
from smsapi.web.signed import require_signature

blueprint = Blueprint("receipts", __name__)


@blueprint.post("/plivo/status/<message_id>")
@operation(
    summary="Take a delivery report from Plivo",
    public="Plivo authenticates itself by its signature",
    answers={200: "text/plain"},
    problems=("body_too_large", "signature_invalid"),
)
def take_receipt(message_id: str) -> Response:
    """Check the signature over the public URL and store what is reported; 200 also for what is repeated.

    It moves the message forward at once, or, where the message is just being changed, a moment later. The form may be
    of 64 KiB; without the headers of a signature it is not read at all.
    """
    return _take(message_id)


@blueprint.get("/plivo/status/<message_id>")
@operation(
    summary="Take a delivery report from Plivo, by GET",
    public="Plivo authenticates itself by its signature",
    answers={200: "text/plain"},
    problems=("signature_invalid",),
)
def take_receipt_of_query(message_id: str) -> Response:
    """Do the same with a report whose fields stand in the query, which its V3 signature covers."""
    return _take(message_id)


@blueprint.post("/plivo/status/batch/<chunk_id>")
@operation(
    summary="Take a delivery report from Plivo on one of the recipients of a joined call",
    public="Plivo authenticates itself by its signature",
    answers={200: "text/plain"},
    problems=("body_too_large", "signature_invalid"),
)
def take_joined_receipt(chunk_id: str) -> Response:
    """Do as for a single message with a report whose recipient is told by its `To`.

    200 also where that is none of the call's recipients.
    """
    return _take_joined(chunk_id)


@blueprint.get("/plivo/status/batch/<chunk_id>")
@operation(
    summary="Take a delivery report from Plivo of a joined call, by GET",
    public="Plivo authenticates itself by its signature",
    answers={200: "text/plain"},
    problems=("signature_invalid",),
)
def take_joined_receipt_of_query(chunk_id: str) -> Response:
    """Do the same with a report whose fields stand in the query, which its V3 signature covers."""
    return _take_joined(chunk_id)


def _take(message_id: str) -> Response:
    world, fields = _signed_fields()
    found, receipt = read_id("msg", message_id), read_receipt(fields)
    applied = Applied("not_understood" if receipt is None else "unknown_message")
    if found is not None and receipt is not None:
        applied = service.take_receipt(world, Heard(found, receipt))
    return _taken(world, message_id, applied, fields)


def _take_joined(chunk_id: str) -> Response:
    world, fields = _signed_fields()
    chunk, receipt = read_id("chk", chunk_id), read_receipt(fields)
    applied = Applied("not_understood" if receipt is None else "unknown_message")
    shown = None
    if chunk is not None and receipt is not None:
        found, applied = service.take_joined_receipt(world, chunk, receipt, to=fields.get("To", ""))
        shown = None if found is None else show_id("msg", found)
    return _taken(world, shown, applied, fields, chunk_id=chunk_id)


def _signed_fields() -> tuple[Deps, Mapping[str, str]]:
    world = deps()
    require_signature(world, count_refused=lambda: world.metrics.count_receipt("refused"))
    return world, request.form if request.method == "POST" else request.args


def _taken(world: Deps, shown: str | None, applied: Applied, fields: Mapping[str, str], **said: Any) -> Response:
    service.note(world, shown, applied, provider_status=fields.get("Status"), **said)
    return Response("ok\n", content_type="text/plain; charset=utf-8")

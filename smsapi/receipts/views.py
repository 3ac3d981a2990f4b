"""The blueprint ``receipts``: where Plivo reports, on each message's own URL."""

from flask import Blueprint, request
from flask.wrappers import Response

from smsapi.ids import read_id
from smsapi.receipts import service
from smsapi.receipts.facts import read_receipt
from smsapi.receipts.service import Applied
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


def _take(message_id: str) -> Response:
    world = deps()
    require_signature(world, count_refused=lambda: world.metrics.count_receipt("refused"))
    fields = request.form if request.method == "POST" else request.args
    found, receipt = read_id("msg", message_id), read_receipt(fields)
    applied = Applied("not_understood" if receipt is None else "unknown_message")
    if found is not None and receipt is not None:
        applied = service.take_receipt(world, found, receipt)
    service.note(world, message_id, applied, provider_status=fields.get("Status"))
    return Response("ok\n", content_type="text/plain; charset=utf-8")

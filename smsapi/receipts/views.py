"""The blueprint ``receipts``: where Plivo reports, on each message's own URL."""

from flask import Blueprint, request
from flask.wrappers import Response

from smsapi.deps import Deps
from smsapi.errors import SignatureInvalid
from smsapi.ids import read_id, show_id
from smsapi.log import get_logger
from smsapi.plivo.signature import is_signed_by_plivo
from smsapi.receipts.service import Applied, apply_receipt, read_receipt
from smsapi.web.context import deps
from smsapi.web.operations import operation

blueprint = Blueprint("receipts", __name__)
log = get_logger()


@blueprint.post("/plivo/status/<message_id>")
@operation(
    summary="Take a delivery report from Plivo",
    public="Plivo authenticates itself by its signature",
    answers={200: "text/plain"},
    problems=("body_too_large", "signature_invalid"),
)
def take_receipt(message_id: str) -> Response:
    """Check the signature over the public URL, then move the message forward; 200 also for what is repeated."""
    world = deps()
    _require_signature(world)
    found, receipt = read_id("msg", message_id), read_receipt(request.form)
    applied = Applied("not_understood" if receipt is None else "unknown_message")
    if found is not None and receipt is not None:
        with world.database.transaction() as connection:
            applied = apply_receipt(connection, world.clock, found, receipt)
    _note(world, message_id, applied)
    return Response("ok\n", content_type="text/plain; charset=utf-8")


def _note(world: Deps, message_id: str, applied: Applied) -> None:
    message = applied.message
    world.metrics.count_receipt(applied.result)
    if message is not None and applied.status is not None and applied.result == "applied":
        world.metrics.count_message(applied.status, test=message.test)
    log.info(
        "receipt",
        client_id=None if message is None else show_id("cli", message.client_id),
        message_id=message_id,
        result=applied.result,
        provider_status=request.form.get("Status"),
    )


def _require_signature(world: Deps) -> None:
    settings = world.settings
    tokens = [token for token in (settings.plivo_auth_token, *settings.plivo_signature_tokens) if token is not None]
    query = request.query_string.decode("latin-1")
    url = f"{settings.public_url or ''}{request.path}{'?' if query else ''}{query}"
    good = settings.public_url is not None and is_signed_by_plivo(
        method=request.method,
        url=url,
        headers=dict(request.headers),
        params=request.form.to_dict(flat=False),
        tokens=tokens,
        allow_v2=settings.plivo_accept_v2_signatures,
    )
    if not good:
        world.metrics.count_receipt("refused")
        raise SignatureInvalid("The signature is missing or wrong.")

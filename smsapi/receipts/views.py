"""The blueprint ``receipts``: where Plivo reports, on each message's own URL."""

from flask import Blueprint, request
from flask.wrappers import Response

from smsapi.deps import Deps
from smsapi.errors import SignatureInvalid
from smsapi.ids import read_id, show_id
from smsapi.log import get_logger
from smsapi.plivo import signature
from smsapi.receipts.service import Applied, apply_receipt, read_receipt
from smsapi.web.context import deps
from smsapi.web.operations import operation

blueprint = Blueprint("receipts", __name__)
log = get_logger()
# A report is about one kilobyte, and a stranger can make us read this much before the signature is found wrong.
_MAX_BODY_BYTES = 64 * 1024


@blueprint.post("/plivo/status/<message_id>")
@operation(
    summary="Take a delivery report from Plivo",
    public="Plivo authenticates itself by its signature",
    answers={200: "text/plain"},
    problems=("body_too_large", "signature_invalid"),
)
def take_receipt(message_id: str) -> Response:
    """Check the signature over the public URL, then move the message forward; 200 also for what is repeated.

    The form may be of 64 KiB; without the headers of a signature it is not read at all.
    """
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
    if not (_claims_to_be_signed(world) and _is_signed(world)):
        world.metrics.count_receipt("refused")
        raise SignatureInvalid("The signature is missing or wrong.")


def _claims_to_be_signed(world: Deps) -> bool:
    """Say whether there is a signature to check, by the headers alone: what has none is not worth reading its form."""
    pairs = [(signature.V3_NONCE, signature.V3, signature.MA_V3)]
    if world.settings.plivo_accept_v2_signatures:
        pairs.append((signature.V2_NONCE, signature.V2, signature.MA_V2))
    given = request.headers
    return any(given.get(nonce) and (given.get(plain) or given.get(main)) for nonce, plain, main in pairs)


def _is_signed(world: Deps) -> bool:
    settings = world.settings
    if settings.public_url is None:
        return False
    request.max_content_length = _MAX_BODY_BYTES
    tokens = [token for token in (settings.plivo_auth_token, *settings.plivo_signature_tokens) if token is not None]
    query = request.query_string.decode("latin-1")
    url = f"{settings.public_url}{request.path}{'?' if query else ''}{query}"
    return signature.is_signed_by_plivo(
        method=request.method,
        url=url,
        headers=dict(request.headers),
        params=request.form.to_dict(flat=False),
        tokens=tokens,
        allow_v2=settings.plivo_accept_v2_signatures,
    )

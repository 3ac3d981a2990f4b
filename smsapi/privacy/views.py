"""The blueprint ``privacy``: a message is redacted."""

from flask import Blueprint
from flask.wrappers import Response

from smsapi.auth.schemas import EmptySchema
from smsapi.messages.deciding import by_caller, decide
from smsapi.messages.schemas import MessageSchema
from smsapi.privacy.service import redact
from smsapi.web.body import load_optional_body
from smsapi.web.operations import operation

blueprint = Blueprint("privacy", __name__)

_nothing = EmptySchema()


@blueprint.post("/v1/messages/<message_id>/redact")
@operation(
    summary="Redact a message",
    scope="messages:send",
    body=EmptySchema,
    body_optional=True,
    answers={200: MessageSchema},
    problems=("not_found", "too_early"),
    idempotent=True,
)
def redact_message(message_id: str) -> Response:
    """Erase text, number, reference and metadata for good; they are empty from then on. Counts and price stay."""
    load_optional_body(_nothing, dict)
    by = by_caller()
    return decide(message_id, lambda world, connection, held: redact(world, connection, held, by=by))

"""The blueprint ``privacy``: a message is redacted, and how long a client's messages are kept."""

from typing import Any

from flask import Blueprint
from flask.wrappers import Response

from smsapi.auth.guard import caller
from smsapi.auth.schemas import EmptySchema
from smsapi.auth.service import check_may_change_clients, get_client
from smsapi.messages.deciding import by_caller, decide
from smsapi.messages.schemas import MessageSchema
from smsapi.privacy.models import get_retention, set_retention
from smsapi.privacy.schemas import Retention, RetentionSchema
from smsapi.privacy.service import redact
from smsapi.web.answers import answer
from smsapi.web.body import load_body, load_optional_body, load_query
from smsapi.web.context import deps, to_response
from smsapi.web.fields import StrictSchema
from smsapi.web.operations import operation
from smsapi.web.paths import id_in_path

blueprint = Blueprint("privacy", __name__)

_nothing = EmptySchema()
_no_query = StrictSchema()
_retention = RetentionSchema()


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


@blueprint.get("/v1/clients/<client_id>/retention")
@operation(
    summary="Get how long a client's messages are kept",
    scope="admin",
    query=StrictSchema,
    answers={200: RetentionSchema},
    problems=("not_found",),
)
def get_client_retention(client_id: str) -> Response:
    """Return the client's own time of retention, null where the setting holds for it."""
    load_query(_no_query, dict)
    found = id_in_path("cli", client_id, what="client")
    with deps().database.read() as connection:
        get_client(connection, found)
        days = get_retention(connection, found)
    return to_response(answer(_shown(days)))


@blueprint.put("/v1/clients/<client_id>/retention")
@operation(
    summary="Set how long a client's messages are kept",
    scope="admin",
    body=RetentionSchema,
    answers={200: RetentionSchema},
    problems=("not_found",),
)
def put_client_retention(client_id: str) -> Response:
    """After so many days text, number, reference and metadata of the client's settled messages are erased for good."""
    wanted = load_body(_retention, Retention)
    check_may_change_clients(caller())
    found = id_in_path("cli", client_id, what="client")
    with deps().database.transaction() as connection:
        get_client(connection, found)
        set_retention(connection, found, wanted.days)
    return to_response(answer(_shown(wanted.days)))


def _shown(days: int | None) -> dict[str, Any]:
    return {"retention_days": days}

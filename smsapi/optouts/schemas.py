"""Schemas of what the routes of opt-outs take and give."""

from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, fields, post_load, validate, validates_schema

from smsapi.auth.schemas import SenderName
from smsapi.optouts.models import SCOPES, SOURCES
from smsapi.web.fields import BodySchema, Line, StrictSchema

_SCOPE = "`client`: from all senders of the client. `sender`: from `from` alone."


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOutOrder:
    """A number is to be opted out, or in again; ``scope`` None is what the route takes it for."""

    reason: str | None = None
    scope: str | None = None
    sender: str | None = None


class OptOutOrderSchema(BodySchema):
    """Why, and whom it stops."""

    reason = Line(trimmed=True, metadata={"description": "White space around it is dropped."})
    scope = fields.String(validate=validate.OneOf(SCOPES), metadata={"description": _SCOPE})
    from_ = SenderName(
        data_key="from",
        metadata={"description": "With scope `sender`: which; otherwise the client's default sender."},
    )

    @validates_schema
    def _one_or_the_other(self, data: dict[str, Any], **_: Any) -> None:
        if "from_" in data and data.get("scope") != "sender":
            raise ValidationError("Only with scope sender.", "from_")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        return OptOutOrder(reason=data.get("reason"), scope=data.get("scope"), sender=data.get("from_"))


class OptOutSchema(StrictSchema):
    """An entry: whom it stops from texting the number, since when, and how that came to be."""

    number = fields.String(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES), metadata={"description": _SCOPE})
    from_ = fields.String(required=True, allow_none=True, data_key="from")
    client_id = fields.String(
        required=True, allow_none=True, metadata={"description": "Null: every client that sends from `from`."}
    )
    source = fields.String(required=True, validate=validate.OneOf(SOURCES))
    reason = fields.String(required=True, allow_none=True)
    opted_out_at = fields.DateTime(required=True)
    test = fields.Boolean(required=True)


class OptOutListSchema(StrictSchema):
    """A page of entries."""

    data = fields.List(fields.Nested(OptOutSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class OptOutWithEntriesSchema(OptOutSchema):
    """The oldest entry for a number, and all that hold."""

    entries = fields.List(fields.Nested(OptOutSchema), required=True)


class ProofSchema(StrictSchema):
    """One line of the trail."""

    action = fields.String(required=True, validate=validate.OneOf(("created", "repeated", "removed")))
    number = fields.String(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    from_ = fields.String(required=True, allow_none=True, data_key="from")
    client_id = fields.String(required=True, allow_none=True)
    source = fields.String(required=True, validate=validate.OneOf(SOURCES))
    at = fields.DateTime(required=True)
    evidence = fields.Dict(
        required=True, metadata={"description": "Who or what said so: text, inbound id, message, API key, reason."}
    )


class TrailSchema(StrictSchema):
    """All that was ever entered of a number, oldest first."""

    data = fields.List(fields.Nested(ProofSchema), required=True)


class RejectSchema(StrictSchema):
    """A row that was not taken."""

    row = fields.Integer(required=True, metadata={"description": "The header is row 1."})
    message = fields.String(required=True)


class ImportSchema(StrictSchema):
    """What became of the rows."""

    added = fields.Integer(required=True)
    already = fields.Integer(required=True, metadata={"description": "Were opted out before, and keep their date."})
    rejected = fields.Integer(required=True)
    rejects = fields.List(
        fields.Nested(RejectSchema), required=True, metadata={"description": "The first hundred of them."}
    )

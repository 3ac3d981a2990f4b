"""What the message routes take and give."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from marshmallow import ValidationError, fields, post_load, validate

from smsapi.ids import read_id
from smsapi.messages.statuses import STATUSES
from smsapi.messages.store import Filter
from smsapi.messages.waiting import DESCRIPTION, REASONS
from smsapi.web.fields import Line, Moment, Phone, SenderOrPhone, StrictSchema
from smsapi.web.pagination import Page, PageQuery

CATEGORIES = ("transactional", "otp", "marketing")
ENCODINGS = ("gsm7", "ucs2")


class PriceSchema(StrictSchema):
    """What a message costs; estimated until Plivo says."""

    amount = fields.String(required=True, metadata={"description": "Decimal, such as 0.00550."})
    currency = fields.String(required=True)
    estimated = fields.Boolean(required=True)


class ProviderSchema(StrictSchema):
    """What the provider says of the message."""

    name = fields.String(required=True, allow_none=True)
    message_uuid = fields.String(required=True, allow_none=True)
    error_code = fields.String(required=True, allow_none=True, metadata={"description": "Plivo's own code."})


class ErrorSchema(StrictSchema):
    """Why the message did not arrive, or is not known to have."""

    code = fields.String(required=True)
    message = fields.String(required=True)


class MessageSchema(StrictSchema):
    """A message."""

    id = fields.String(required=True)
    client_id = fields.String(required=True)
    to = fields.String(required=True)
    from_ = fields.String(required=True, data_key="from")
    text = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    category = fields.String(required=True, validate=validate.OneOf(CATEGORIES))
    encoding = fields.String(required=True, validate=validate.OneOf(ENCODINGS))
    segments = fields.Integer(required=True)
    price = fields.Nested(PriceSchema, required=True, allow_none=True)
    provider = fields.Nested(ProviderSchema, required=True)
    error = fields.Nested(ErrorSchema, required=True, allow_none=True)
    reference = fields.String(required=True, allow_none=True)
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    batch_id = fields.String(required=True, allow_none=True)
    test = fields.Boolean(required=True, metadata={"description": "Made with a test key; nobody was texted."})
    attempts = fields.Integer(required=True, metadata={"description": "Calls to the provider so far."})
    waiting_for = fields.String(
        allow_none=True, validate=validate.OneOf(REASONS), metadata={"description": DESCRIPTION}
    )
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)
    send_at = fields.DateTime(required=True, allow_none=True)
    sent_at = fields.DateTime(required=True, allow_none=True)
    delivered_at = fields.DateTime(required=True, allow_none=True)


class MessageWithEstimateSchema(MessageSchema):
    """A message, and while it is queued or scheduled, when it will probably be sent."""

    estimated_send_at = fields.DateTime(
        allow_none=True,
        metadata={"description": "Only while it is queued or scheduled. Null: it waits for a person."},
    )


class MessageListSchema(StrictSchema):
    """A page of messages."""

    data = fields.List(fields.Nested(MessageSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class EventSchema(StrictSchema):
    """Something that became of a message."""

    id = fields.String(required=True)
    type = fields.String(required=True)
    at = fields.DateTime(required=True)
    data = fields.Dict(required=True)


class EventListSchema(StrictSchema):
    """All events of a message, oldest first."""

    data = fields.List(fields.Nested(EventSchema), required=True)


def _id_of_batch(shown: str) -> UUID:
    found = read_id("bat", shown)
    if found is None:
        raise ValidationError("Must be the id of a batch.", "batch_id")
    return found


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """Which messages, and which part of them."""

    wanted: Filter
    page: Page


class MessageQuerySchema(PageQuery):
    """The query of the list of messages."""

    status = fields.String(validate=validate.OneOf(STATUSES))
    to = Phone()
    from_ = SenderOrPhone(data_key="from")
    reference = Line()
    batch_id = Line(metadata={"description": "The id of a batch."})
    created_after = Moment()
    created_before = Moment()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the query."""
        page = Page(data.pop("limit"), data.pop("cursor"))
        if "from_" in data:
            data["sender"] = data.pop("from_")
        if "batch_id" in data:
            data["batch_id"] = _id_of_batch(data["batch_id"])
        return MessageQuery(Filter(**data), page)

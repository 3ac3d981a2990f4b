"""What the routes of inbound messages take and give."""

from dataclasses import dataclass
from typing import Any

from marshmallow import fields, post_load, validate

from smsapi.inbound.service import Filter
from smsapi.web.fields import Moment, SenderOrPhone, StrictSchema
from smsapi.web.pagination import Page, PageQuery


class InboundProviderSchema(StrictSchema):
    """What Plivo says of the inbound message."""

    message_uuid = fields.String(required=True)
    powerpack_uuid = fields.String(required=True, allow_none=True)
    extra = fields.Dict(
        keys=fields.String(), values=fields.String(), required=True, metadata={"description": "As Plivo sent it."}
    )


class InboundMessageSchema(StrictSchema):
    """A text that somebody sent to one of our numbers."""

    id = fields.String(required=True)
    client_id = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Whose it is: the client that last texted `from` from `to`. Null: nobody's."},
    )
    message_id = fields.String(
        required=True, allow_none=True, metadata={"description": "The last message that we sent between the two."}
    )
    from_ = fields.String(required=True, data_key="from")
    to = fields.String(required=True)
    text = fields.String(required=True)
    type = fields.String(required=True, metadata={"description": "`sms`, `mms`, …, as Plivo says."})
    intent = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf(("optout", "optin", "help")),
        metadata={"description": "What Plivo takes it for."},
    )
    segments = fields.Integer(required=True, allow_none=True)
    media = fields.List(fields.String(), required=True, metadata={"description": "URLs of what came with it."})
    provider = fields.Nested(InboundProviderSchema, required=True)
    received_at = fields.DateTime(required=True)


class InboundMessageListSchema(StrictSchema):
    """A page of inbound messages."""

    data = fields.List(fields.Nested(InboundMessageSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


@dataclass(frozen=True, slots=True)
class InboundQuery:
    """Which inbound messages, and which part of them."""

    wanted: Filter
    page: Page


class InboundQuerySchema(PageQuery):
    """The query of the list of inbound messages."""

    from_ = SenderOrPhone(data_key="from")
    to = SenderOrPhone()
    created_after = Moment()
    created_before = Moment()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the query."""
        page = Page(data.pop("limit"), data.pop("cursor"))
        if "from_" in data:
            data["sender"] = data.pop("from_")
        return InboundQuery(Filter(**data), page)

"""Schemas of what the routes of inbound messages take and give."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from marshmallow import ValidationError, fields, post_load, validate

from smsapi.inbound.reading import LONGEST_ADDRESS, read_address
from smsapi.inbound.service import Filter
from smsapi.sms.phone import E164, unwrap_number
from smsapi.web.fields import Moment, StrictSchema, no_control_characters
from smsapi.web.pagination import Page, PageQuery

# What somebody may have meant as a number, and of that what can be found: E.164, a short code, and digits that are
# stored as they came, since they are no E.164 even with a plus sign before them.
_NUMBER_LIKE: Final = re.compile(r"[+\N{FULLWIDTH PLUS SIGN}][-\d\s()./]*|\d+")
_FOUND: Final = re.compile(E164.pattern + r"|[0-9]{3,8}|0[1-9][0-9]+|[0-9]{16,}", re.ASCII)
_ADDRESS: Final = "A number in E.164 (its `+` as `%2B`), a short code, or a name such as `T-Mobile`."


class Address(fields.String):
    """Who texted, or was texted, in a query; read as Plivo's own words are, so that it finds what they stored."""

    def __init__(self, **kwargs: Any) -> None:
        bounds = validate.Length(min=1, max=LONGEST_ADDRESS)
        super().__init__(validate=bounds, metadata={"description": _ADDRESS}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        text = unwrap_number(super()._deserialize(value, attr, data, **kwargs))
        no_control_characters(text)
        if _NUMBER_LIKE.fullmatch(text) and not _FOUND.fullmatch(text):
            raise ValidationError("Must be an E.164 number, its + as %2B, a short code, or a name.")
        return read_address(text) if 0 < len(text) <= LONGEST_ADDRESS else text


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
    from_ = fields.String(
        required=True,
        data_key="from",
        metadata={"description": "A number in E.164, a short code, or a name; `unknown` where Plivo names nobody."},
    )
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

    from_ = Address(data_key="from")
    to = Address()
    created_after = Moment()
    created_before = Moment()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the query."""
        page = Page(data.pop("limit"), data.pop("cursor"))
        if "from_" in data:
            data["sender"] = data.pop("from_")
        return InboundQuery(Filter(**data), page)

"""What the send routes take and give."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError, fields, missing, post_load, validate, validates_schema

from smsapi.auth.schemas import SenderName
from smsapi.messages.schemas import CATEGORIES, ENCODINGS, PriceSchema
from smsapi.send.after import OUTCOMES, Outcome
from smsapi.send.order import Order
from smsapi.sms.phone import InvalidNumber, parse_number
from smsapi.sms.text import NOT_IN_TEXT, is_blank
from smsapi.web.fields import BodySchema, Line, Moment, Pairs, Pasted, StrictSchema, Truth, Whole

# Longer than any cap that SMSAPI_GSM7_MAX_UNITS allows; what is shorter and still too long is text_too_long.
_MAX_TEXT = 100_000
_AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
ON_UNKNOWN = ("reconcile", "resend", "hold")
_DLT_CATEGORIES = ("transactional", "promotional", "service_implicit", "service_explicit")


class Recipient(Pasted):
    """A number to text: E.164, and possible in its country; loads to its canonical form."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        try:
            return parse_number(super()._deserialize(value, attr, data, **kwargs)).e164
        except InvalidNumber as error:
            raise ValidationError(str(error)) from None


def _printable(value: str) -> None:
    if found := NOT_IN_TEXT.search(value):
        raise ValidationError(f"Must not contain control characters but line ends (U+{ord(found.group()):04X}).")


def _visible(value: str) -> None:
    # What is empty, or has a control character, is told of already.
    if value and is_blank(value) and NOT_IN_TEXT.search(value) is None:
        raise ValidationError("Must have a character that can be seen, not only white space and invisible ones.")


class Amount(fields.Field[Decimal]):
    """A price as a decimal string, or a number, with up to six places."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Decimal:
        del attr, data, kwargs
        text = value if isinstance(value, str) else ""
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Python writes a small number as 1e-05.
            text = format(Decimal(str(value)), "f")
        if not _AMOUNT.fullmatch(text):
            raise ValidationError('Must be a decimal such as "0.05", with at most six places.')
        return Decimal(text)


class DltSchema(BodySchema):
    """India's registration of the message."""

    entity_id = Line(required=True, maximum=64)
    template_id = Line(required=True, maximum=64)
    template_category = fields.String(required=True, validate=validate.OneOf(_DLT_CATEGORIES))


class OrderSchema(BodySchema):
    """A message to send."""

    to = Recipient(
        required=True,
        metadata={
            "description": "E.164, such as +14155550123. White space and invisible characters around it are dropped."
        },
    )
    text = fields.String(required=True, validate=[validate.Length(min=1, max=_MAX_TEXT), _printable, _visible])
    from_ = SenderName(
        data_key="from",
        load_default=None,
        metadata={"description": "A number, a short code or 1 to 11 letters and digits. Default: the client's sender."},
    )
    expires_in = Whole(
        minimum=5, maximum=10_799, load_default=None, metadata={"description": "Seconds after which it is not sent."}
    )
    max_segments = Whole(minimum=1, maximum=1000, load_default=None)
    max_price = Amount(load_default=None, metadata={"type": ["string", "number"], "example": "0.05"})
    smart_encoding = Truth(
        load_default=False,
        metadata={"description": "Replace typographic characters by their GSM-7 likeness where that makes it GSM-7."},
    )
    category = fields.String(load_default="transactional", validate=validate.OneOf(CATEGORIES))
    reference = Line(load_default=None, maximum=255)
    metadata = Pairs(keys=Line(maximum=64), values=Line(minimum=0, maximum=512), load_default=dict, maximum=20)
    dlt = fields.Nested(DltSchema, load_default=None)
    send_at = Moment(
        load_default=None, metadata={"description": "When to send it: in the future, at most 30 days ahead."}
    )
    on_unknown = fields.String(
        load_default="reconcile",
        validate=validate.OneOf(ON_UNKNOWN),
        metadata={
            "description": "What to do where nobody knows whether Plivo took it: look for it and send again only if "
            "it was not taken; send again at once; or wait for a person."
        },
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        return Order(sender=data.pop("from_"), **data)


@dataclass(frozen=True, slots=True)
class MessageChanges:
    """The fields of an :class:`Order` that were given, by name."""

    values: dict[str, Any]


class MessagePatchSchema(OrderSchema):
    """What is to change; the rest stays."""

    null_is_absent = False

    expires_in = Whole(
        minimum=5,
        maximum=10_799,
        allow_none=True,
        metadata={"description": "Seconds from send_at after which it is not sent; they stay where send_at moves."},
    )
    send_at = Moment(metadata={"description": "When to send it instead: in the future, at most 30 days ahead."})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for each in self.fields.values():
            # Not Marshmallow's ``partial``: that would let half of a nested object pass, too.
            each.required, each.load_default = False, missing

    @validates_schema
    def _not_empty(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Name at least one field to change.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the changes."""
        if "from_" in data:
            data["sender"] = data.pop("from_")
        return MessageChanges(data)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of a message whose outcome was not known."""

    outcome: Outcome


class ResolutionSchema(BodySchema):
    """What a person found out, or decided."""

    outcome = fields.String(
        required=True,
        validate=validate.OneOf(OUTCOMES),
        metadata={
            "description": "`sent`: Plivo took it. `resend`: send it again, whether Plivo took it or not. "
            "`failed`: Plivo did not take it, and it is not to be sent."
        },
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the resolution."""
        return Resolution(**data)


class RefusalSchema(StrictSchema):
    """Why the message would be refused."""

    code = fields.String(required=True)
    title = fields.String(required=True)
    detail = fields.String(required=True)


class PreviewSchema(StrictSchema):
    """What would become of the message; nothing is sent or stored."""

    would_send = fields.Boolean(required=True)
    refusals = fields.List(fields.Nested(RefusalSchema), required=True)
    encoding = fields.String(required=True, validate=validate.OneOf(ENCODINGS))
    segments = fields.Integer(required=True)
    characters = fields.Integer(required=True)
    non_gsm_characters = fields.List(fields.String(), required=True)
    text = fields.String(required=True, metadata={"description": "As it would leave."})
    price = fields.Nested(PriceSchema, required=True, allow_none=True)
    country = fields.String(required=True, allow_none=True)
    from_ = fields.String(required=True, allow_none=True, data_key="from")

"""Schemas of what the auth routes take and give."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marshmallow import ValidationError, fields, post_load, validate, validates_schema

from smsapi.auth.models import MODES, SCOPES
from smsapi.auth.quotas import POLICIES
from smsapi.settings.parsers import limit_list
from smsapi.sms.phone import is_country
from smsapi.sms.sender import InvalidSender, classify_sender
from smsapi.web.fields import BodySchema, Line, Moment, Pasted, Several, StrictSchema, Truth, Whole

MAX_OVERLAP_SECONDS = 30 * 86400
MAX_WEIGHT = 100
LONGEST_RETENTION_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Revocation:
    """How a key is to end."""

    cancel_scheduled: bool


class RevocationQuery(StrictSchema):
    """What is to become of that which was accepted with the key."""

    cancel_scheduled = Truth(
        from_text=True,
        load_default=False,
        metadata={"description": "Cancel its messages and batches that still wait, `scheduled` or `queued`."},
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the revocation."""
        return Revocation(data["cancel_scheduled"])


def read_sender(value: str) -> str:
    """Return the sender in its canonical form; raise a ValidationError where it cannot be the sender of any text."""
    try:
        return classify_sender(value).value
    except InvalidSender as error:
        raise ValidationError(str(error)) from None


class SenderName(Pasted):
    """The sender of a text: a number, a short code, or letters and digits; loads to its canonical form."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        return read_sender(super()._deserialize(value, attr, data, **kwargs))


def check_limits(value: str) -> None:
    """Raise a ValidationError where the text is no list of limits, or one that the limiter could not count."""
    try:
        limit_list(value)
    except ValueError as rule:
        raise ValidationError(f"{str(rule).capitalize()}.") from None


def check_country(value: str) -> None:
    """Raise a ValidationError where this is no country that a number can belong to."""
    if not is_country(value):
        raise ValidationError("Must be the two capital letters of a country (ISO 3166), such as US.")


def _scopes(**kwargs: Any) -> Several:
    return Several(fields.String(validate=validate.OneOf(SCOPES)), minimum=1, maximum=len(SCOPES), **kwargs)


@dataclass(frozen=True, slots=True)
class TokenOrder:
    """A token is asked for with a key, perhaps for fewer scopes than the key has."""

    api_key: str
    scope: str | None


class TokenOrderSchema(BodySchema):
    """An API key, traded for a token."""

    api_key = fields.String(required=True, validate=validate.Length(min=1, max=255))
    scope = fields.String(load_default=None, metadata={"description": "Scopes, separated by spaces; all of the key's."})

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        return TokenOrder(**data)


class TokenFormSchema(StrictSchema):
    """The client-credentials grant (RFC 6749 section 4.4); the key's id and secret go into HTTP Basic."""

    grant_type = fields.String(required=True, metadata={"enum": ["client_credentials"]})
    scope = fields.String()


class TokenSchema(StrictSchema):
    """An access token."""

    access_token = fields.String(required=True)
    token_type = fields.String(required=True, metadata={"enum": ["Bearer"]})
    expires_in = fields.Integer(required=True, metadata={"description": "Seconds."})
    scope = fields.String(required=True)


@dataclass(frozen=True, slots=True)
class RevocationOrder:
    """A token is to stop working."""

    token: str


class RevocationOrderSchema(BodySchema):
    """A token, to be revoked (RFC 7009)."""

    token = fields.String(required=True)
    token_type_hint = fields.String()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        return RevocationOrder(data["token"])


class EmptySchema(BodySchema):
    """An empty object."""


class LimitsSchema(StrictSchema):
    """Limits by policy, in the notation ``600 per minute; 10000 per day``."""

    send = fields.String(validate=check_limits, metadata={"description": "All sends of the client."})
    key = fields.String(validate=check_limits, metadata={"description": "Sends with one API key."})
    number = fields.String(validate=check_limits, metadata={"description": "Sends to one number."})
    api = fields.String(validate=check_limits, metadata={"description": "All other requests."})


class WhoamiSchema(StrictSchema):
    """Who calls, and what the credential allows."""

    client_id = fields.String(required=True)
    client_name = fields.String(required=True)
    key_id = fields.String(required=True)
    mode = fields.String(required=True, validate=validate.OneOf(MODES))
    scopes = fields.List(fields.String(validate=validate.OneOf(SCOPES)), required=True)
    limits = fields.Nested(LimitsSchema, required=True)


class QuotaSchema(StrictSchema):
    """One window of one policy."""

    policy = fields.String(required=True, validate=validate.OneOf(POLICIES))
    quota = fields.Integer(required=True)
    window_seconds = fields.Integer(required=True)


class LimitListSchema(StrictSchema):
    """The limits that hold for the caller."""

    data = fields.List(fields.Nested(QuotaSchema), required=True)


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """A new key is wanted."""

    name: str
    mode: str
    scopes: list[str]
    expires_at: datetime | None


class KeyOrderSchema(BodySchema):
    """A new API key."""

    name = Line(required=True, maximum=100)
    mode = fields.String(required=True, validate=validate.OneOf(MODES))
    scopes = _scopes(required=True)
    expires_at = Moment(load_default=None, allow_none=True)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        return KeyOrder(**data)


@dataclass(frozen=True, slots=True)
class RotationOrder:
    """A key is to be replaced; the old one goes on working for the overlap."""

    overlap_seconds: int


class RotationOrderSchema(BodySchema):
    """How long the old key goes on working."""

    overlap_seconds = Whole(minimum=0, maximum=MAX_OVERLAP_SECONDS, load_default=86400)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        return RotationOrder(**data)


class KeySchema(StrictSchema):
    """An API key, without its secret."""

    id = fields.String(required=True)
    client_id = fields.String(required=True)
    name = fields.String(required=True)
    mode = fields.String(required=True, validate=validate.OneOf(MODES))
    scopes = fields.List(fields.String(validate=validate.OneOf(SCOPES)), required=True)
    prefix = fields.String(required=True, metadata={"description": "How the key begins."})
    created_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True, allow_none=True)
    revoked_at = fields.DateTime(required=True, allow_none=True)


class NewKeySchema(KeySchema):
    """A new API key, with its secret form this once (a replay by Idempotency-Key leaves it out)."""

    key = fields.String(required=True, allow_none=True)


class KeyListSchema(StrictSchema):
    """A page of keys."""

    data = fields.List(fields.Nested(KeySchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


@dataclass(frozen=True, slots=True)
class ClientChanges:
    """The columns of a client that were given, by name."""

    values: dict[str, Any]


_WEIGHT = (
    "Its share of the sending, against the other clients that have messages waiting in the same lane: "
    "with 3, three segments for each one of a client with 1, which is what a new client has."
)


_OPTOUT_KEYWORDS = (
    "Words that opt out of this client's texts, besides STOP and its like: the whole text, in any case and spelling."
)
_RETENTION_DAYS = (
    "After how many days text, number, reference and metadata of its settled messages are erased for good, and text "
    "and number of what it was texted. 0: never. Null: as SMSAPI_RETENTION_DAYS says."
)


def _check_keyword(value: str) -> None:
    # Only letters and digits are compared, so that nothing would ever match it.
    if not any(map(str.isalnum, value)):
        raise ValidationError("Must have a letter or a digit: signs alone are never taken for a word.")


def _client_fields() -> dict[str, Any]:
    return {
        "default_sender": SenderName(allow_none=True),
        "allowed_senders": Several(SenderName(), allow_none=True, maximum=100),
        "allowed_countries": Several(fields.String(validate=check_country), allow_none=True, maximum=250),
        "limits": fields.Nested(LimitsSchema),
        "weight": Whole(minimum=1, maximum=MAX_WEIGHT, metadata={"description": _WEIGHT}),
        "optout_keywords": Several(
            Line(maximum=40, also=[_check_keyword]), maximum=50, metadata={"description": _OPTOUT_KEYWORDS}
        ),
        "retention_days": Whole(
            minimum=0,
            maximum=LONGEST_RETENTION_DAYS,
            allow_none=True,
            metadata={"description": _RETENTION_DAYS},
        ),
    }


class ClientOrderSchema(BodySchema.from_dict(_client_fields())):  # type: ignore[misc]
    """A new client. Senders: null for its default sender alone; countries: null for no restriction of its own."""

    name = Line(required=True, maximum=100)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the values."""
        return ClientChanges(data)


class ClientPatchSchema(StrictSchema.from_dict(_client_fields())):  # type: ignore[misc]
    """What is to change; limits are replaced as a whole."""

    name = Line(maximum=100)

    @validates_schema
    def _not_empty(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Name at least one field to change.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the values."""
        return ClientChanges(data)


class ClientSchema(StrictSchema):
    """A client."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    default_sender = fields.String(required=True, allow_none=True)
    allowed_senders = fields.List(fields.String(), required=True, allow_none=True)
    allowed_countries = fields.List(fields.String(), required=True, allow_none=True)
    limits = fields.Nested(LimitsSchema, required=True)
    weight = fields.Integer(required=True, metadata={"description": _WEIGHT})
    optout_keywords = fields.List(fields.String(), required=True, metadata={"description": _OPTOUT_KEYWORDS})
    retention_days = fields.Integer(required=True, allow_none=True, metadata={"description": _RETENTION_DAYS})
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class ClientListSchema(StrictSchema):
    """A page of clients."""

    data = fields.List(fields.Nested(ClientSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)

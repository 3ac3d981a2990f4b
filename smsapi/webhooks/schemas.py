"""What the routes of webhooks and events take and give."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from marshmallow import ValidationError, fields, post_load, validate, validates_schema

from smsapi.events.kinds import FILTERS
from smsapi.ids import read_id
from smsapi.messages.schemas import EventSchema
from smsapi.web.fields import BodySchema, Line, Moment, Several, StrictSchema, Truth, Whole
from smsapi.webhooks.addresses import MAX_URL

_EVENT_ID: Final = "^evt_[0-9a-f]{32}$"


def _filters(**how: Any) -> Any:
    return Several(
        fields.String(validate=validate.OneOf(FILTERS)),
        minimum=1,
        maximum=len(FILTERS),
        metadata={"description": "Types, families such as `message.*`, or `*`."},
        **how,
    )


@dataclass(frozen=True, slots=True)
class EndpointOrder:
    """What an endpoint is made of."""

    url: str
    events: list[str]
    description: str | None


class EndpointOrderSchema(BodySchema):
    """An endpoint to be made."""

    url = Line(maximum=MAX_URL, required=True, metadata={"examples": ["https://example.com/hooks/sms"]})
    events = _filters(load_default=lambda: ["*"])
    description = Line(load_default=None, allow_none=True)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        return EndpointOrder(**data)


@dataclass(frozen=True, slots=True)
class EndpointChanges:
    """What of an endpoint is to be changed."""

    values: dict[str, Any]


class EndpointPatchSchema(StrictSchema):
    """Changes of an endpoint; at least one."""

    url = Line(maximum=MAX_URL)
    events = _filters()
    description = Line(allow_none=True)
    enabled = Truth(metadata={"description": "What waits for an endpoint that is not enabled goes on waiting."})

    @validates_schema
    def ask_for_something(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse a change that changes nothing."""
        if not data:
            raise ValidationError("Must name at least one field.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the changes."""
        return EndpointChanges(data)


class EndpointSchema(StrictSchema):
    """A webhook endpoint."""

    id = fields.String(required=True)
    client_id = fields.String(required=True)
    url = fields.String(required=True)
    events = fields.List(fields.String(), required=True)
    description = fields.String(required=True, allow_none=True)
    test = fields.Boolean(required=True, metadata={"description": "Made with a test key: told of test events only."})
    enabled = fields.Boolean(required=True)
    disabled_reason = fields.String(
        required=True, allow_none=True, validate=validate.OneOf(("disabled", "failing", "gone"))
    )
    failing_since = fields.DateTime(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class EndpointWithSecretSchema(EndpointSchema):
    """A webhook endpoint with its secret, this once."""

    secret = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "`whsec_` and base64. Null where the answer is a repetition."},
    )


class EndpointListSchema(StrictSchema):
    """A page of endpoints."""

    data = fields.List(fields.Nested(EndpointSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class AttemptSchema(StrictSchema):
    """An attempt to tell an endpoint of an event."""

    event_id = fields.String(required=True)
    event_type = fields.String(required=True)
    number = fields.Integer(required=True)
    at = fields.DateTime(required=True)
    milliseconds = fields.Integer(required=True)
    status = fields.Integer(required=True, allow_none=True, metadata={"description": "Of the answer."})
    error = fields.String(required=True, allow_none=True, metadata={"description": "Why it does not count."})
    delivery_status = fields.String(required=True, metadata={"description": "How the delivery stands now."})


class AttemptListSchema(StrictSchema):
    """A page of attempts."""

    data = fields.List(fields.Nested(AttemptSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class TestSentSchema(StrictSchema):
    """The test event that is on its way."""

    event_id = fields.String(required=True)


@dataclass(frozen=True, slots=True)
class Recovery:
    """From when on events are to be told again."""

    since: datetime


class RecoverySchema(BodySchema):
    """What is to be recovered."""

    since = Moment(required=True)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        return Recovery(**data)


class RecoveredSchema(StrictSchema):
    """What is told again."""

    recovered = fields.Integer(required=True)
    complete = fields.Boolean(required=True, metadata={"description": "False: there are more; ask once more."})


class ToldEventSchema(EventSchema):
    """An event as webhooks tell it."""

    test = fields.Boolean(required=True)


class ToldEventListSchema(StrictSchema):
    """Events in their order."""

    data = fields.List(fields.Nested(ToldEventSchema), required=True)
    next_cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The `after` to go on with, at the end too. Null: there was no event yet."},
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """Which part of the list of events is wanted."""

    after: UUID | None
    limit: int


def _event_id(value: str) -> None:
    if read_id("evt", value) is None:
        raise ValidationError("Must be the id of an event.")


class ReadingSchema(StrictSchema):
    """The query of the list of events."""

    after = fields.String(
        load_default=None,
        validate=_event_id,
        metadata={"description": "The id of the last event that you have.", "pattern": _EVENT_ID},
    )
    limit = Whole(minimum=1, maximum=100, from_text=True, load_default=20, metadata={"description": "Items a page."})

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return what is wanted."""
        after = data["after"]
        return Reading(None if after is None else read_id("evt", after), data["limit"])

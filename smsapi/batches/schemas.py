"""Schemas of the routes of batches: their answers, and what they take in the query."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from marshmallow import ValidationError, fields, post_load, validate

from smsapi.batches.models import BATCH_STATUSES
from smsapi.messages.schemas import CATEGORIES, MessageQuerySchema, PriceSchema
from smsapi.messages.statuses import STATUSES
from smsapi.messages.waiting import DESCRIPTION, REASONS
from smsapi.web.fields import StrictSchema
from smsapi.web.pagination import PageQuery

FORMATS = ("json", "csv")
_HIGHEST_ROW = 2**31 - 1

CountsSchema = StrictSchema.from_dict(
    {status: fields.Integer(required=True, validate=validate.Range(min=0)) for status in STATUSES},
    name="BatchCountsSchema",
)


class BatchSchema(StrictSchema):
    """A batch: what was taken of it, and how that stands."""

    id = fields.String(required=True)
    client_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(BATCH_STATUSES))
    from_ = fields.String(required=True, data_key="from")
    text = fields.String(required=True, metadata={"description": "As it was asked for, with its variables."})
    category = fields.String(required=True, validate=validate.OneOf(CATEGORIES))
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    send_at = fields.DateTime(required=True, allow_none=True)
    total = fields.Integer(required=True, metadata={"description": "Rows, good and bad and repeated."})
    accepted = fields.Integer(required=True, metadata={"description": "Rows that are sent, each once."})
    rejected = fields.Integer(required=True, metadata={"description": "Rows that are not; see its rejects."})
    duplicates = fields.Integer(required=True, metadata={"description": "Rows whose number an earlier row had."})
    counts = fields.Nested(
        CountsSchema,
        required=True,
        metadata={"description": "How the accepted rows stand, by the status of their messages."},
    )
    segments = fields.Integer(required=True)
    price = fields.Nested(PriceSchema, required=True, allow_none=True)
    all_or_nothing = fields.Boolean(required=True)
    dry_run = fields.Boolean(required=True)
    test = fields.Boolean(required=True, metadata={"description": "Made with a test key; nobody was texted."})
    waiting_for = fields.String(
        allow_none=True, validate=validate.OneOf(REASONS), metadata={"description": DESCRIPTION}
    )
    rate_per_second = fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "How many rows a second left, or turned out never to leave, over the last ten seconds. "
            "Null: not known."
        },
    )
    expected_end_at = fields.DateTime(
        required=True,
        allow_none=True,
        metadata={"description": "At that rate. Null: not known, stopped by a pause or by Plivo, or over."},
    )
    created_at = fields.DateTime(required=True)
    accepted_at = fields.DateTime(required=True, allow_none=True)
    started_at = fields.DateTime(required=True, allow_none=True, metadata={"description": "When the first left."})
    finished_at = fields.DateTime(
        required=True,
        allow_none=True,
        metadata={"description": "When nothing of it waited any more; what Plivo reports later still counts."},
    )
    canceled_at = fields.DateTime(required=True, allow_none=True)


class BatchListSchema(StrictSchema):
    """A page of batches."""

    data = fields.List(fields.Nested(BatchSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class BatchRejectSchema(StrictSchema):
    """A row that was not taken, and why."""

    row = fields.Integer(
        required=True,
        metadata={"description": "From 1; of a CSV the header is row 1."},
    )
    value = fields.String(required=True, metadata={"description": "What stood there for a number."})
    code = fields.String(required=True, metadata={"description": "The code of the problem of a single send."})
    message = fields.String(required=True)


class BatchRejectListSchema(StrictSchema):
    """A page of rejects, in the order of their rows."""

    data = fields.List(fields.Nested(BatchRejectSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class BatchMessageQuerySchema(MessageQuerySchema):
    """The query of the list of a batch's messages."""

    class Meta:
        """The batch is in the path."""

        exclude = ("from_", "batch_id", "created_after", "created_before")


@dataclass(frozen=True, slots=True)
class RejectQuery:
    """Which part of the rejects: at most ``limit`` behind the row ``after``, or as CSV all of them."""

    format: str | None
    limit: int
    after: int


class RejectQuerySchema(PageQuery):
    """The query of the rejects of a batch."""

    format = fields.String(
        validate=validate.OneOf(FORMATS),
        metadata={"description": "`csv`: all of them as a file, as `Accept: text/csv` asks for, too."},
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the query."""
        cursor: UUID | None = data["cursor"]
        after = 0 if cursor is None else cursor.int
        if after > _HIGHEST_ROW:
            raise ValidationError("Not a cursor of this list.", "cursor")
        return RejectQuery(data.get("format"), data["limit"], after)

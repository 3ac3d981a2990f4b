"""What the routes of retention take and give."""

from dataclasses import dataclass
from typing import Any

from marshmallow import post_load

from smsapi.web.fields import StrictSchema, Whole

LONGEST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Retention:
    """A client's own time of retention in days; 0: for ever; None: the setting's."""

    days: int | None


class RetentionSchema(StrictSchema):
    """How long text and numbers of a client's messages are kept."""

    retention_days = Whole(
        minimum=0,
        maximum=LONGEST_DAYS,
        required=True,
        allow_none=True,
        metadata={"description": "0: for ever. Null: as SMSAPI_RETENTION_DAYS says."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Retention:
        return Retention(data["retention_days"])

"""Which types of events there are."""

from typing import Final

KINDS: Final = (
    "message.scheduled",
    "message.queued",
    "message.updated",
    "message.sent",
    "message.delivered",
    "message.undelivered",
    "message.failed",
    "message.expired",
    "message.canceled",
    "message.unknown",
    "message.deferred",
    "message.redacted",
    "message.received",
    "optout.created",
    "optout.removed",
    "optout.review",
    "batch.finished",
    "verification.approved",
    "verification.failed",
    "budget.threshold",
    "webhook.disabled",
    "webhook.test",
)
# What an endpoint may ask for: a type, all of a family, or everything.
FILTERS: Final = ("*", *sorted({f"{kind.partition('.')[0]}.*" for kind in KINDS}), *KINDS)

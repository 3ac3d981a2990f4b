"""Messages whose outcome is unknown, as an operator sees them: how many, for how long, and why they are not settled."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select

from smsapi.events.models import events
from smsapi.messages.models import IN_DOUBT, message_attempts, messages
from smsapi.pacing.health import ListTrouble, read_list_trouble

# Of how many held messages the reasons are looked up.
_MOST_REASONS: Final = 100


@dataclass(frozen=True, slots=True)
class UnknownMessages:
    """The live messages that are unknown at one moment.

    ``oldest_at`` is when the last attempt of the longest unknown one began, ``looked_for_since`` the same of those that
    no person has to decide about. ``held_because`` counts the reasons of those that wait for one, of a hundred at most.
    ``trouble`` is why Plivo's list could not be used, where that is so.
    """

    count: int
    oldest_at: datetime | None
    looked_for_since: datetime | None
    held_because: Mapping[str, int]
    trouble: ListTrouble | None


def read_unknown(connection: Connection) -> UnknownMessages:
    """Return how it stands with the messages that are unknown."""
    row = connection.execute(_OLDEST).one()
    reasons = Counter(_reason_of(data) for data in connection.execute(_WHY_HELD).scalars())
    return UnknownMessages(row.messages, row.oldest, row.looked_for, dict(reasons), read_list_trouble(connection))


def oldest_unknown_at(connection: Connection) -> datetime | None:
    """Return when the last attempt of the longest unknown live message began, or None where there is none."""
    oldest: datetime | None = connection.execute(_OLDEST).one().oldest
    return oldest


def _reason_of(data: Mapping[str, Any] | None) -> str:
    if data is None:
        return "its events are gone"
    if data.get("candidates"):
        return "Plivo's list shows texts that may be it, or another"
    if data.get("decision") != "hold" and data.get("on_unknown") == "hold":
        return "its sender asked for that (on_unknown: hold)"
    return str(data.get("reason") or "nothing was said")


_LAST: Final = (
    select(func.max(message_attempts.c.started_at))
    .where(message_attempts.c.message_id == messages.c.id)
    .correlate(messages)
    .scalar_subquery()
)
_LIVE: Final = (
    select(func.coalesce(_LAST, messages.c.created_at).label("since"), messages.c.due_at)
    .where(IN_DOUBT, ~messages.c.test)
    .subquery("live")
)
_OLDEST: Final = select(
    func.count().label("messages"),
    func.min(_LIVE.c.since).label("oldest"),
    func.min(_LIVE.c.since).filter(_LIVE.c.due_at.is_not(None)).label("looked_for"),
).select_from(_LIVE)
_HELD: Final = (
    select(messages.c.id).where(IN_DOUBT, ~messages.c.test, messages.c.due_at.is_(None)).limit(_MOST_REASONS)
).subquery("held")
_WHY_HELD: Final = select(
    select(events.c.data)
    .where(events.c.message_id == _HELD.c.id, events.c.type == "message.unknown")
    .order_by(events.c.at.desc(), events.c.id.desc())
    .limit(1)
    .correlate(_HELD)
    .scalar_subquery()
).select_from(_HELD)

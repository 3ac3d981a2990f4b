"""Messages whose outcome is unknown, as an operator sees them: how many, for how long, and why they are not settled."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select

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


@dataclass(frozen=True, slots=True)
class UnknownCounts:
    """How many live messages are unknown, being looked for or held for a person; ``oldest_at`` is as above."""

    in_doubt: int
    held: int
    oldest_at: datetime | None


def count_unknown(connection: Connection, *, at_most: int) -> UnknownCounts:
    """Return how many messages are unknown, in one statement that looks at no more than so many of them."""
    row = connection.execute(_COUNTS, {"at_most": at_most}).one()
    return UnknownCounts(row.in_doubt, row.messages - row.in_doubt, row.oldest)


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
_LIVE_ONES: Final = select(func.coalesce(_LAST, messages.c.created_at).label("since"), messages.c.due_at).where(
    IN_DOUBT, ~messages.c.test
)
_LIVE: Final = _LIVE_ONES.subquery("live")
_FIRST: Final = _LIVE_ONES.limit(bindparam("at_most")).subquery("live")
_COUNTS: Final = select(
    func.count().label("messages"),
    func.count(_FIRST.c.due_at).label("in_doubt"),
    func.min(_FIRST.c.since).label("oldest"),
).select_from(_FIRST)
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

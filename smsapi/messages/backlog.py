"""How much waits, lane by lane; counted over the partial indexes, so that it costs no more than what waits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, or_, select, text

from smsapi.messages.lanes import NAMES
from smsapi.messages.models import CHORE, WAITS, messages
from smsapi.messages.statuses import QUEUED, SENDING

# Word for word the condition of ix_messages_unknown, as WAITS and CHORE are those of theirs.
_UNKNOWN: Final = text("messages.status = 'unknown'")


@dataclass(frozen=True, slots=True)
class LaneBacklog:
    """What waits in one lane.

    ``waiting`` are due and not begun, the first of them since ``oldest_due_at`` (None where there is none). ``later``
    are not due yet: scheduled, between two attempts, or in the hands of the request that brought them.
    """

    waiting: int = 0
    later: int = 0
    oldest_due_at: datetime | None = None

    def age_seconds(self, now: datetime) -> float:
        """Return for how long the first one has been due, in seconds; 0 where none is."""
        return 0.0 if self.oldest_due_at is None else max(0.0, (now - self.oldest_due_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What is not over, of all lanes together, as of one moment.

    ``waiting`` is to be sent: all that is queued, and what was scheduled and is due. ``sending`` is in a call to Plivo,
    or its sender died there. ``in_doubt`` is unknown and will be looked into. ``held`` is unknown until a person says
    what became of it.
    """

    waiting: int
    sending: int
    in_doubt: int
    held: int

    @property
    def remaining(self) -> int:
        """Return how many will change without anybody's doing."""
        return self.waiting + self.sending + self.in_doubt


def measure(connection: Connection, now: datetime) -> Mapping[int, LaneBacklog]:
    """Return the backlog of every lane of :mod:`smsapi.messages.lanes`, and of others in use, in order, as of ``now``.

    One statement, which reads the index of what waits from end to end and no row: 0.1 s for half a million.
    """
    found = {row.lane: row for row in connection.execute(_LANES, {"now": now})}
    return {lane: _backlog_of(found.get(lane)) for lane in sorted({*NAMES, *found})}


def count_unsettled(connection: Connection, now: datetime) -> Unsettled:
    """Return what is not over yet as of ``now``.

    One statement, so that what moves from one state to another meanwhile is not missed.
    """
    row = connection.execute(_UNSETTLED, {"now": now}).one()
    return Unsettled(row.waiting, row.sending, row.in_doubt, row.unknown - row.in_doubt)


def _backlog_of(row: Any) -> LaneBacklog:
    if row is None:
        return LaneBacklog()
    return LaneBacklog(row.waiting, row.present - row.waiting, row.oldest if row.waiting else None)


_DUE: Final = messages.c.due_at <= bindparam("now")
_LANES: Final = (
    select(
        messages.c.lane,
        func.count().label("present"),
        func.count().filter(_DUE).label("waiting"),
        func.min(messages.c.due_at).label("oldest"),
    )
    .where(WAITS)
    .group_by(messages.c.lane)
)


def _count(*conditions: Any) -> Any:
    return select(func.count()).select_from(messages).where(*conditions).scalar_subquery()


# Both counts ask for due_at: SQLite would otherwise count the unknown ones over an index of the whole table.
_DOUBTS: Final = (
    select(func.count(messages.c.due_at).label("in_doubt"), func.count().label("unknown"))
    .where(_UNKNOWN)
    .subquery("doubts")
)
_UNSETTLED: Final[Select[Any]] = select(
    _count(WAITS, or_(messages.c.status == QUEUED, _DUE)).label("waiting"),
    _count(CHORE, messages.c.status == SENDING).label("sending"),
    _DOUBTS.c.in_doubt,
    _DOUBTS.c.unknown,
)


def oldest_unfinished_at(connection: Connection, now: datetime) -> datetime | None:
    """Return since when the first message is due that was begun and not finished, or None where none is.

    Its call was interrupted and its lease is over, or what became of it has to be looked up.
    """
    query = select(messages.c.due_at).where(CHORE, messages.c.due_at <= now).order_by(messages.c.due_at).limit(1)
    return connection.execute(query).scalar_one_or_none()

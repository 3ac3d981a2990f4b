"""Which attempts are in doubt, read from the store: those to be settled, and those that might be mixed up with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, and_, or_, select

from smsapi.deps import Deps
from smsapi.messages.models import CHORE, UNNAMED_ATTEMPT, Message, message_attempts, messages, to_message
from smsapi.messages.statuses import SENDING, UNKNOWN, WAITING
from smsapi.reconcile.matching import SKEW, Doubt


@dataclass(frozen=True, slots=True)
class Case:
    """One message that is held to be settled, with its attempts that may have reached Plivo."""

    message: Message
    doubts: tuple[Doubt, ...]

    @property
    def since(self) -> datetime:
        """Return when the first of the attempts began."""
        return min(doubt.started_at for doubt in self.doubts)

    @property
    def until(self) -> datetime:
        """Return when the last of them was over."""
        return max(doubt.ended_at for doubt in self.doubts)


def read_cases(
    world: Deps, connection: Connection, held: Mapping[UUID, int]
) -> tuple[Sequence[Case], Sequence[Message]]:
    """Return the cases of the messages that are still unknown under these epochs, in the order of their attempts.

    Beside them those of which no attempt is in doubt, so that there is nothing to look for.
    """
    query = select(messages).where(messages.c.id.in_(list(held)), messages.c.status == UNKNOWN)
    found = [to_message(row) for row in connection.execute(query)]
    mine = {message.id: message for message in found if message.epoch == held[message.id]}
    doubts = _doubts(world, connection, mine)
    cases = [Case(message, tuple(doubts[message.id])) for message in mine.values() if message.id in doubts]
    return sorted(cases, key=lambda case: case.since), [mine[each] for each in mine.keys() - doubts.keys()]


def read_others(world: Deps, connection: Connection, cases: Sequence[Case], *, masked: bool = False) -> Sequence[Doubt]:
    """Return the doubts of other messages to the same numbers from the same senders, those under way included.

    So are those that were taken without our being told under which id.

    A record of the list may be theirs; where records are ``masked``, that of any message of the sender.
    """
    senders = {case.message.sender for case in cases}
    wanted = [messages.c.sender.in_(senders), messages.c.test.is_(False)]
    if not masked:
        wanted.append(messages.c.to_number.in_({case.message.to_number for case in cases}))
    unknown = select(messages).where(messages.c.status == UNKNOWN, *wanted)
    under_way = select(messages).where(CHORE, messages.c.status == SENDING, *wanted)
    rows = [row for query in (unknown, under_way) for row in connection.execute(query)]
    unnamed = _unnamed_masked(world, cases) if masked else _unnamed(world, cases)
    rows += connection.execute(unnamed.where(*wanted))
    mine = {case.message.id for case in cases}
    others = {row.id: to_message(row) for row in rows if row.id not in mine}
    return [doubt for doubts in _doubts(world, connection, others).values() for doubt in doubts]


def _unnamed(world: Deps, cases: Sequence[Case]) -> Select[Any]:
    """Return those that Plivo took at about the same time, in calls of many, and whose id it has not told us yet."""
    return select(messages).where(_IS_UNNAMED, messages.c.sent_at.between(*_around(world, cases)))


def _unnamed_masked(world: Deps, cases: Sequence[Case]) -> Select[Any]:
    """Return the same where no number leads to them: by the time of the attempts that have no id."""
    rows = message_attempts.c
    since, until = _around(world, cases)
    then = select(rows.message_id).where(UNNAMED_ATTEMPT, rows.finished_at.between(since, until))
    return select(messages).where(_IS_UNNAMED, messages.c.id.in_(then))


_IS_UNNAMED = and_(messages.c.provider_uuid.is_(None), messages.c.status.not_in((*WAITING, SENDING, UNKNOWN)))


def _around(world: Deps, cases: Sequence[Case]) -> tuple[datetime, datetime]:
    around = SKEW + timedelta(seconds=world.settings.lease_seconds)
    return min(case.since for case in cases) - around, max(case.until for case in cases) + around


def _doubts(world: Deps, connection: Connection, of: Mapping[UUID, Message]) -> dict[UUID, list[Doubt]]:
    columns = message_attempts.c
    unnamed = and_(columns.outcome == "accepted", columns.provider_uuid.is_(None))
    open_ones = or_(columns.outcome.is_(None), columns.outcome == "unknown", unnamed)
    query = select(message_attempts).where(columns.message_id.in_(list(of)), open_ones).order_by(columns.number)
    found: dict[UUID, list[Doubt]] = {}
    for row in connection.execute(query) if of else ():
        message = of[row.message_id]
        ended_at = row.finished_at or _latest_end(world, row)
        doubt = Doubt(message.id, row.number, message.to_number, message.sender, row.started_at, ended_at)
        found.setdefault(message.id, []).append(doubt)
    return found


def _latest_end(world: Deps, row: Row[tuple[datetime]]) -> datetime:
    """Return when an attempt was over at the latest whose sender did not live to say so."""
    started: datetime = row.started_at
    return min(world.clock.now(), started + timedelta(seconds=world.settings.lease_seconds))

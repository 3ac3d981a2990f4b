"""The rows that say what is to be told to which endpoint: made, claimed under a lease, and put in order.

Of one message an endpoint is told one event at a time: the others stay ``behind`` until the one before them is
delivered or given up. Whoever holds several open rows holds them in the order of endpoint, message and ``seq``, so that
no two wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, and_, case, func, insert, literal, or_, select, update

from smsapi.db import UtcDateTime, call_it_news, insert_into
from smsapi.events.models import FIRST_UNNUMBERED
from smsapi.ids import new_id
from smsapi.webhooks.models import (
    BEHIND,
    DUE,
    OPEN,
    OPEN_STATUSES,
    SENDING,
    WAITING,
    Endpoint,
    to_endpoint,
    webhook_deliveries,
    webhook_endpoints,
)
from smsapi.webhooks.present import Told

# An endpoint that was away for less is not told of anything sooner.
HASTENED_AFTER_SECONDS: Final = 60.0

_ROWS = webhook_deliveries.c
_IN_ORDER = (_ROWS.endpoint_id, _ROWS.message_id, _ROWS.seq)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours to attempt until its lease ends."""

    id: UUID
    endpoint: Endpoint
    event_id: UUID
    message_id: UUID | None
    attempts: int
    tries: int
    epoch: int
    begun_at: datetime
    until: datetime


def enqueue(connection: Connection, now: datetime, told: Sequence[tuple[UUID, Told]]) -> None:
    """Make a delivery of each event, in the order of ``seq``, to the endpoint with this id; there must be none yet."""
    busy = _hold_open(connection, told)
    rows = []
    for endpoint_id, event in told:
        place = (endpoint_id, event.message_id)
        rows.append(_new_row(now, endpoint_id, event, behind=place in busy))
        if event.message_id is not None:
            busy.add(place)
    if rows:
        connection.execute(insert(webhook_deliveries), rows)


def tell_again(connection: Connection, now: datetime, endpoint_id: UUID, told: Sequence[Told], *unless: str) -> int:
    """Tell the endpoint of these events, in the order of ``seq``, and return how many are told.

    Those that were finished are begun anew, behind what is still to be told of their messages. Those whose delivery is
    open, or stands in one of the statuses ``unless``, are let be, but what waits for a later try is due now.
    """
    call_it_news(connection)
    held = _hold(connection, endpoint_id, told)
    stands = {row.event_id: row.status for row in held}
    busy = {row.message_id for row in held if row.status in OPEN_STATUSES} - {None}
    rows = []
    for event in told:
        if stands.get(event.id) not in {*OPEN_STATUSES, *unless}:
            rows.append(_new_row(now, endpoint_id, event, behind=event.message_id in busy))
            busy |= {event.message_id} - {None}
    if rows:
        fresh = insert_into(connection, webhook_deliveries)
        anew = {name: fresh.excluded[name] for name in ("status", "tries", "due_at", "created_at", "finished_at")}
        statement = fresh.on_conflict_do_update(index_elements=["endpoint_id", "event_id"], set_=anew)
        connection.execute(statement, rows)
    later = [event.id for event in told if stands.get(event.id) == WAITING]
    if later:
        sooner = (_ROWS.endpoint_id == endpoint_id, _ROWS.event_id.in_(later), _ROWS.status == WAITING)
        connection.execute(update(webhook_deliveries).where(*sooner).values(due_at=now))
    return len(rows)


def _hold(connection: Connection, endpoint_id: UUID, told: Sequence[Told]) -> Sequence[Any]:
    # In the one order also the finished ones, which housekeeping may be about to delete.
    messages = {event.message_id for event in told if event.message_id is not None}
    these = or_(_ROWS.event_id.in_([event.id for event in told]), and_(_ROWS.message_id.in_(messages), OPEN))
    query = select(_ROWS.event_id, _ROWS.message_id, _ROWS.status).where(_ROWS.endpoint_id == endpoint_id, these)
    return connection.execute(query.order_by(*_IN_ORDER).with_for_update()).all()


def _new_row(now: datetime, endpoint_id: UUID, event: Told, *, behind: bool) -> dict[str, Any]:
    return {
        "id": new_id(),
        "endpoint_id": endpoint_id,
        "event_id": event.id,
        "message_id": event.message_id,
        "seq": event.seq,
        "status": BEHIND if behind else WAITING,
        "attempts": 0,
        "tries": 0,
        "epoch": 0,
        "due_at": None if behind else now,
        "created_at": now,
        "finished_at": None,
    }


def _hold_open(connection: Connection, told: Sequence[tuple[UUID, Told]]) -> set[tuple[UUID, UUID | None]]:
    """Return which endpoints have an open delivery of which of these messages, none of which ends meanwhile."""
    # Held, because whoever ends the last open one looks for what is behind it, and would not see what we make now.
    messages = {event.message_id for _, event in told if event.message_id is not None}
    if not messages:
        return set()
    these = (_ROWS.endpoint_id.in_({each for each, _ in told}), _ROWS.message_id.in_(messages), OPEN)
    query = select(_ROWS.endpoint_id, _ROWS.message_id).where(*these).order_by(*_IN_ORDER).with_for_update()
    return {(row.endpoint_id, row.message_id) for row in connection.execute(query)}


def release_next(connection: Connection, now: datetime, endpoint_id: UUID, message_id: UUID | None) -> None:
    """Let the next event of this message be told, where one is behind."""
    if message_id is None:
        return
    these = (_ROWS.endpoint_id == endpoint_id, _ROWS.message_id == message_id, OPEN)
    first = connection.execute(
        select(_ROWS.id, _ROWS.status).where(*these).order_by(*_IN_ORDER).with_for_update()
    ).all()
    # One that was begun anew may be waiting already, before or after those that are behind.
    if first and all(row.status == BEHIND for row in first):
        connection.execute(update(webhook_deliveries).where(_ROWS.id == first[0].id).values(status=WAITING, due_at=now))


def hasten(connection: Connection, now: datetime, endpoint_id: UUID) -> None:
    """Make all that waits for this endpoint due now: it is back."""
    call_it_news(connection)
    # The try is not counted, and what is due soon is let be: an endpoint that refuses one event and takes all others
    # is "back" after each of them, and would otherwise use up all tries of that one within minutes.
    soon = now + timedelta(seconds=HASTENED_AFTER_SECONDS)
    waiting = (_ROWS.endpoint_id == endpoint_id, _ROWS.status == WAITING, DUE, _ROWS.due_at > soon)
    values = {"due_at": now, "tries": case((_ROWS.tries > 0, _ROWS.tries - 1), else_=0)}
    held = select(_ROWS.id).where(*waiting).order_by(*_IN_ORDER).with_for_update()
    connection.execute(update(webhook_deliveries).where(_ROWS.id.in_(held)).values(values))


@dataclass(frozen=True, slots=True)
class Look:
    """Whether events wait for their number, whether any endpoint is enabled, and when the first delivery is due."""

    news: bool
    anybody: bool
    due_at: datetime | None


_ACTIVE = (webhook_endpoints.c.enabled, webhook_endpoints.c.deleted_at.is_(None))
_FIRST_DUE = (
    select(func.min(_ROWS.due_at))
    .where(_ROWS.endpoint_id == webhook_endpoints.c.id, DUE)
    .correlate(webhook_endpoints)
    .scalar_subquery()
)
_FIRSTS = select(_FIRST_DUE.label("due_at")).where(*_ACTIVE).subquery()
# Events that wait for their number have been due for long, whatever their time is by whoever's clock.
_NEWS = select(literal(datetime(2000, 1, 1, tzinfo=UTC), UtcDateTime)).select_from(FIRST_UNNUMBERED.subquery())
_LOOK = select(
    _NEWS.scalar_subquery().is_not(None).label("news"),
    func.count().label("endpoints"),
    func.min(_FIRSTS.c.due_at).label("due_at"),
).select_from(_FIRSTS)
# When there is next something to number or to deliver.
NEXT_WEBHOOK: Final = select(
    func.coalesce(_NEWS.scalar_subquery(), select(func.min(_FIRSTS.c.due_at)).scalar_subquery()).label("due_at")
)


def look(connection: Connection) -> Look:
    """Return whether anything is to be done, in one cheap question."""
    row = connection.execute(_LOOK).one()
    return Look(bool(row.news), row.endpoints > 0, row.due_at)


def find_due(connection: Connection, now: datetime) -> Sequence[Endpoint]:
    """Return the endpoints that something is due for, the one that waits longest first."""
    query = select(webhook_endpoints).where(*_ACTIVE, now >= _FIRST_DUE).order_by(_FIRST_DUE)
    return [to_endpoint(row) for row in connection.execute(query)]


def claim(
    connection: Connection, now: datetime, endpoint_id: UUID, *, at_once: int, limit: int, lease_seconds: float
) -> Sequence[Claimed]:
    """Take up to ``limit`` deliveries to this endpoint, so that no more than ``at_once`` are out, of all processes."""
    # One claims for an endpoint at a time, or two would both see the same room.
    query = select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id, webhook_endpoints.c.enabled)
    row = connection.execute(query.with_for_update(key_share=True, skip_locked=True)).one_or_none()
    if row is None or row.deleted_at is not None:
        return []
    of_it = _ROWS.endpoint_id == endpoint_id
    out = select(func.count()).where(of_it, _ROWS.status == SENDING, DUE, _ROWS.due_at > now)
    room = min(limit, at_once - connection.execute(out).scalar_one())
    if room <= 0:
        return []
    due = select(webhook_deliveries).where(of_it, DUE, _ROWS.due_at <= now).order_by(_ROWS.due_at, _ROWS.seq)
    found = connection.execute(due.limit(room).with_for_update(skip_locked=True)).all()
    until = now + timedelta(seconds=lease_seconds)
    taken = {"status": SENDING, "epoch": _ROWS.epoch + 1, "due_at": until}
    if found:
        ids = [each.id for each in found]
        connection.execute(update(webhook_deliveries).where(_ROWS.id.in_(ids)).values(taken))
    return [_claimed(to_endpoint(row), each, until) for each in found]


def _claimed(endpoint: Endpoint, row: Row[Any], until: datetime) -> Claimed:
    return Claimed(
        id=row.id,
        endpoint=endpoint,
        event_id=row.event_id,
        message_id=row.message_id,
        attempts=row.attempts,
        tries=row.tries,
        epoch=row.epoch + 1,
        begun_at=row.created_at,
        until=until,
    )

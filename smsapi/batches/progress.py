"""Progress of a batch, in the hands of whoever has locked it: counted, made, called off, ended.

All of a step is one transaction, so that a crash between any two lines of it loses nothing and counts nothing twice.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, func, select, text, update

from smsapi.batches import models
from smsapi.batches.making import MOST_AT_ONCE, make_messages, move_counts
from smsapi.batches.models import Batch, batch_changes
from smsapi.batches.present import HAS_LEFT, OPEN, count_over, present_end
from smsapi.batches.store import change_batch, counts_of
from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.errors import TooLate
from smsapi.events.store import insert_events, record_event
from smsapi.ids import new_id, show_id
from smsapi.messages.lanes import NAMES as LANES
from smsapi.messages.models import WAITS, messages
from smsapi.messages.statuses import CANCELED, QUEUED, SCHEDULED, SENT, UNKNOWN, WAITING
from smsapi.messages.store import get_message
from smsapi.send.after import cancel as cancel_message

# Made and waiting at once: some seconds' worth, so that those who send never wait for the next part.
MOST_WAITING: Final = 5_000
_MOST_CHANGES: Final = 20_000
_SOON: Final = timedelta(seconds=0.25)
_NEXT: Final = timedelta(seconds=1)
_QUIET: Final = timedelta(seconds=3)
# Of a fresh batch, which may be a small one: somebody looks on.
_FRESH: Final = timedelta(seconds=10)
_WHILE_FRESH: Final = timedelta(seconds=0.5)
# All that is open is in doubt: after a while, a part of the time that nothing changed. Whoever resolves one wakes it.
_IN_DOUBT_LONGEST: Final = timedelta(minutes=5)
_IN_DOUBT_PART: Final = 10
_SCHEDULED: Final = timedelta(minutes=1)
# What comes in after the end are Plivo's reports: many at first, then ever fewer.
_REPORTS_LONGEST: Final = timedelta(minutes=10)
_REPORTS_UNTIL: Final = timedelta(days=7)
# The rate is reckoned over no less than the shorter time and no more than the longer one; what was before it weighs a
# third at each move.
_MARK_MOVES: Final = timedelta(seconds=15)
_MARK_KEPT: Final = timedelta(seconds=5)


def advance(world: Deps, connection: Connection, batch: Batch) -> Batch:
    """Do the next step of a batch that is locked and was accepted; return it as it then stands.

    What changed is added up; as many staged rows as there is room for, and no more than a thousand, are made into
    messages; of a canceled batch as many waiting messages are called off. Where that was all, the batch has ended, and
    an event says so. Its ``due_at`` is when the next step makes sense; None: never again. Ring the bell once the
    transaction is committed where ``made`` is more than it was.
    """
    now, made = world.clock.now(), batch.made
    moved = fold(world, connection, batch)
    world.checkpoint("batch.folded")
    batch, counts = _make(world, connection, batch, now, moved=moved)
    world.checkpoint("batch.made")
    stirred = moved > 0 or batch.made > made
    if batch.canceled_at is not None:
        stirred = cancel_waiting(world, connection, batch, limit=MOST_AT_ONCE) > 0 or stirred
        counts = counts_of(connection, batch)
    # Where there was more than is added up at once, the rest is for now: every reader has to count it.
    look_at = now if moved >= _MOST_CHANGES else None
    return _written(world, connection, batch, counts, now, stirred=stirred, look_at=look_at)


def cancel(world: Deps, connection: Connection, batch: Batch) -> Batch:
    """Call a locked batch off: from the commit on nothing more of it is begun. Return it so; twice is the same as once.

    What is in a call to Plivo at that moment is sent. The first thousand of its rows are canceled here, the others by
    :func:`advance` afterwards, a part at a time.

    Raises:
        TooLate: it is not accepted yet, or never will be; or nothing of it waits any more.

    """
    if batch.canceled_at is not None:
        return batch
    if batch.status not in {models.SCHEDULED, models.QUEUED, models.SENDING}:
        raise TooLate(f"The batch is {batch.status}; only a scheduled, queued or sending one can be canceled.")
    if is_over(batch, counts_of(connection, batch)):
        raise TooLate("Nothing of the batch waits any more.")
    canceled = change_batch(connection, batch, status=models.CANCELED, canceled_at=world.clock.now())
    return advance(world, connection, canceled)


def is_over(batch: Batch, counts: Mapping[str, int]) -> bool:
    """Say whether all rows were made, and none of them waits, is being sent or is in doubt."""
    return batch.made == batch.accepted and not any(counts[status] for status in OPEN)


def fold(world: Deps, connection: Connection, batch: Batch) -> int:
    """Add what changed to the counts of the batch, which is locked; return how many changes that were.

    No more than twenty thousand at once, and then there may be others: they are counted by every reader until the next
    time, which had better be soon.
    """
    if world.database.is_postgresql:
        # One statement: what is deleted is what is counted, whatever is committed meanwhile.
        taken: int = connection.execute(_FOLD, {"batch_id": batch.id, "most": _MOST_CHANGES}).scalar_one()
        return taken
    # The write lock is ours, so that nothing comes between.
    taken, last = connection.execute(_FIRST_CHANGES, {"of_batch": batch.id}).one()
    if not taken:
        return 0
    given, moved = {"of_batch": batch.id, "last": last}, dict[str, int]()
    for row in connection.execute(_CHANGES, given):
        moved[row.was] = moved.get(row.was, 0) - row.rows
        moved[row.now] = moved.get(row.now, 0) + row.rows
    move_counts(world, connection, batch, moved)
    connection.execute(_DELETE_CHANGES, given)
    return taken


def cancel_waiting(world: Deps, connection: Connection, batch: Batch, *, limit: int) -> int:
    """Call off up to ``limit`` messages of the batch that wait; return how many they were.

    Those that somebody else holds at this moment are passed over: they are being begun, or called off.
    """
    own = (messages.c.batch_id == batch.id, messages.c.status.in_(WAITING))
    flow = (messages.c.lane == batch.lane, messages.c.client_id == batch.client_id, messages.c.sender == batch.sender)
    # Where they wait, not where the whole batch is, most of which may have left long ago.
    query = select(messages.c.id, messages.c.attempts).limit(limit).with_for_update(skip_locked=True)
    found = connection.execute(query.where(WAITS, *flow, *own)).all()
    # One that was changed while it was scheduled may wait elsewhere.
    found = found or connection.execute(query.where(*own)).all()
    by = {"by": "batch", "batch_id": show_id("bat", batch.id)}
    for row in found:
        # One that was attempted before may have been taken: what it ends as has to be found out.
        if row.attempts:
            cancel_message(world, connection, get_message(connection, row.id), by=by)
    _cancel_fresh(world, connection, batch, [row.id for row in found if not row.attempts], by)
    return len(found)


def _cancel_fresh(
    world: Deps, connection: Connection, batch: Batch, ids: Sequence[UUID], by: Mapping[str, Any]
) -> None:
    if not ids:
        return
    now = world.clock.now()
    values = {"status": CANCELED, "due_at": None, "updated_at": now, "epoch": messages.c.epoch + 1}
    connection.execute(update(messages).where(messages.c.id.in_(ids)).values(**values))
    told = {"client_id": batch.client_id, "test": batch.test, "type": f"message.{CANCELED}", "at": now, "data": by}
    insert_events(connection, [{"id": new_id(), "message_id": each, **told} for each in ids])
    after_commit(connection, partial(world.metrics.count_message, CANCELED, test=batch.test, times=len(ids)))


def _make(
    world: Deps, connection: Connection, batch: Batch, now: datetime, *, moved: int
) -> tuple[Batch, Mapping[str, int]]:
    counts = counts_of(connection, batch)
    if batch.made == batch.accepted:
        return batch, counts
    room = _room(batch, _waiting(batch, counts))
    if not room and not moved and batch.send_at is not None and batch.send_at <= now:
        # Nothing leaves: what was put off to another time must not keep the rest waiting for it.
        room = _room(batch, _waiting(batch, counts) - _count_put_off(connection, batch, now))
    return (make_messages(world, connection, batch, limit=room) if room else batch), counts


def _waiting(batch: Batch, counts: Mapping[str, int]) -> int:
    # Rows that are not made yet count as waiting, too.
    return counts[QUEUED] + counts[SCHEDULED] - (batch.accepted - batch.made)


def _room(batch: Batch, waiting: int) -> int:
    """Return how many rows may be made while so many messages wait; what is canceled at once waits for nobody."""
    return MOST_AT_ONCE if batch.canceled_at is not None or waiting + MOST_AT_ONCE <= MOST_WAITING else 0


def _count_put_off(connection: Connection, batch: Batch, now: datetime) -> int:
    """Return how many messages of the batch their sender has put off to a later time, in whichever lane they wait."""
    where = (messages.c.lane.in_(LANES), messages.c.client_id == batch.client_id, messages.c.batch_id == batch.id)
    later = (WAITS, messages.c.status == SCHEDULED, messages.c.due_at > now)
    found = select(messages.c.id).where(*where, *later).limit(MOST_WAITING).subquery()
    return connection.execute(select(func.count()).select_from(found)).scalar_one()


def _written(
    world: Deps,
    connection: Connection,
    batch: Batch,
    counts: Mapping[str, int],
    now: datetime,
    *,
    stirred: bool,
    look_at: datetime | None,
) -> Batch:
    values: dict[str, Any] = {"stirred_at": now} if stirred else {}
    if batch.started_at is None and any(counts[each] for each in HAS_LEFT):
        values |= {"started_at": now, "mark_at": now, "mark_left": count_over(batch, counts)}
        if batch.status in {models.QUEUED, models.SCHEDULED}:
            values["status"] = models.SENDING
    elif batch.mark_at is not None:
        values |= _mark(batch.mark_at, batch.mark_left, count_over(batch, counts), now)
    ends = batch.finished_at is None and is_over(batch, counts)
    if ends:
        values |= {"finished_at": now, "status": models.FINISHED if batch.canceled_at is None else models.CANCELED}
    finished_at = now if ends else batch.finished_at
    due_at = look_at or _next_look(batch, counts, now, finished_at=finished_at, stirred=stirred)
    batch = change_batch(connection, batch, **values, due_at=due_at)
    if ends:
        data = present_end(batch, counts)
        kind = "batch.finished"
        record_event(connection, client_id=batch.client_id, kind=kind, at=now, data=data, test=batch.test)
        world.checkpoint("batch.finished")
    return batch


def _mark(mark_at: datetime, mark_left: int, left: int, now: datetime) -> dict[str, Any]:
    """Return where the rate is reckoned from: as it was, or, once that is long ago, where it stood lately."""
    age = now - mark_at
    if age < timedelta(0):
        return {"mark_at": now, "mark_left": left}  # the clock was set back
    if age < _MARK_MOVES:
        return {}
    # Upwards, so that of a batch of which nothing leaves any more it comes to nothing.
    moved_by = (age - _MARK_KEPT) / age
    return {"mark_at": now - _MARK_KEPT, "mark_left": mark_left + ceil((left - mark_left) * moved_by)}


def _next_look(
    batch: Batch, counts: Mapping[str, int], now: datetime, *, finished_at: datetime | None, stirred: bool
) -> datetime | None:
    if finished_at is not None:
        return _next_reports(counts, now, finished_at, stirred=stirred)
    has_room = batch.made < batch.accepted and _room(batch, _waiting(batch, counts)) > 0
    if batch.send_at is not None and batch.send_at > now and batch.canceled_at is None:
        return now if has_room else min(batch.send_at, now + _SCHEDULED)
    is_fresh = now - (batch.send_at or batch.accepted_at or now) < _FRESH
    if not stirred:
        quiet = _in_doubt(batch, now) if _only_doubts(batch, counts) else _QUIET
        return now + (_WHILE_FRESH if is_fresh else quiet)
    if batch.canceled_at is not None:
        return now if any(counts[status] for status in WAITING) else now + _NEXT
    if batch.made < batch.accepted:
        return now if has_room else now + _SOON
    return now + (_WHILE_FRESH if is_fresh else _NEXT)


def _only_doubts(batch: Batch, counts: Mapping[str, int]) -> bool:
    """Say whether nothing of the batch will leave by itself: what is open may be held for a person."""
    return batch.made == batch.accepted and not any(counts[status] for status in OPEN if status != UNKNOWN)


def _in_doubt(batch: Batch, now: datetime) -> timedelta:
    quiet_since = batch.stirred_at or batch.started_at or batch.accepted_at or now
    return max(_QUIET, min(_IN_DOUBT_LONGEST, (now - quiet_since) / _IN_DOUBT_PART))


def _next_reports(counts: Mapping[str, int], now: datetime, finished_at: datetime, *, stirred: bool) -> datetime | None:
    age = now - finished_at
    if not stirred and (not counts[SENT] or age > _REPORTS_UNTIL):
        return None
    return now + max(_NEXT, min(_REPORTS_LONGEST, age / 10))


# By their places: joined by their ids, they are compared each with each where PostgreSQL takes the table for empty, as
# it does after a vacuum at a moment when it was. Changes are never updated, and the lock on the batch keeps others off.
_FOLD: Final = text(
    """
    WITH gone AS (
        DELETE FROM batch_changes
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM batch_changes WHERE batch_id = :batch_id LIMIT :most))
        RETURNING was, now
    ), moved AS (
        SELECT was AS status, -1 AS rows FROM gone UNION ALL SELECT now, 1 FROM gone
    ), added AS (
        INSERT INTO batch_counts (batch_id, status, rows)
        SELECT CAST(:batch_id AS uuid), status, SUM(rows) FROM moved GROUP BY status
        ON CONFLICT (batch_id, status) DO UPDATE SET rows = batch_counts.rows + excluded.rows
    )
    SELECT COUNT(*) FROM gone
    """
)
_OF_BATCH: Final = batch_changes.c.batch_id == bindparam("of_batch")
_FIRST: Final = select(batch_changes.c.id).where(_OF_BATCH).order_by(batch_changes.c.id).limit(_MOST_CHANGES).subquery()
_FIRST_CHANGES: Final = select(func.count(), func.max(_FIRST.c.id))
_THOSE: Final = (_OF_BATCH, batch_changes.c.id <= bindparam("last"))
_CHANGES: Final = (
    select(batch_changes.c.was, batch_changes.c.now, func.count().label("rows"))
    .where(*_THOSE)
    .group_by(batch_changes.c.was, batch_changes.c.now)
)
_DELETE_CHANGES: Final = delete(batch_changes).where(*_THOSE)

"""Queries on batches, their counts and what was refused of them, within the caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Select, bindparam, func, insert, or_, select, union_all, update

from smsapi.auth.models import Caller
from smsapi.batches.models import DUE, IS_OPEN, Batch, batch_changes, batch_counts, batch_rejects, batches, to_batch
from smsapi.errors import NotFound
from smsapi.messages.statuses import QUEUED, SCHEDULED, STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row of a batch that was not taken; ``row`` as the caller counts, ``code`` as of a single send."""

    row: int
    value: str
    code: str
    message: str


# Built once: building a statement costs more than running it.
_INSERT_BATCH: Final = insert(batches)
_INSERT_COUNT: Final = insert(batch_counts)
_ONE_BATCH: Final = select(batches).where(batches.c.id == bindparam("batch_id"))
_LOCKED: Final = _ONE_BATCH.with_for_update()
_LOCKED_IF_FREE: Final = _ONE_BATCH.with_for_update(skip_locked=True)
_CANCELED: Final = select(batches.c.id).where(
    batches.c.id.in_(bindparam("ids", expanding=True)), batches.c.canceled_at.is_not(None)
)


def add_batch(connection: Connection, batch: Batch) -> None:
    """Store a new batch."""
    connection.execute(_INSERT_BATCH, asdict(batch))


def start_counts(connection: Connection, batch: Batch) -> None:
    """Count the accepted rows of a batch for the first time: all of them queued, or scheduled where it has a time."""
    status = QUEUED if batch.send_at is None else SCHEDULED
    connection.execute(_INSERT_COUNT, {"batch_id": batch.id, "status": status, "rows": batch.accepted})


def change_batch(connection: Connection, batch: Batch, **values: Any) -> Batch:
    """Write these values to the batch's row, which is locked; return the batch with them."""
    connection.execute(update(batches).where(batches.c.id == batch.id).values(**values))
    return replace(batch, **values)


def get_batch_for(connection: Connection, caller: Caller, batch_id: UUID) -> Batch:
    """Return the batch where the caller may read it, or raise :class:`NotFound`: with a test key, test ones only."""
    query = _ONE_BATCH.where(batches.c.client_id == caller.client.id)
    if not caller.key.live:
        query = query.where(batches.c.test)
    row = connection.execute(query, {"batch_id": batch_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such batch.")
    return to_batch(row)


def lock_batch(connection: Connection, batch_id: UUID, *, if_free: bool = False) -> Batch | None:
    """Return the batch, held until this transaction ends, or None where there is none.

    With ``if_free`` it is None, too, where another holds it. Whoever locks messages of a batch as well locks the batch
    first; whoever has locked messages does not lock their batch.
    """
    row = connection.execute(_LOCKED_IF_FREE if if_free else _LOCKED, {"batch_id": batch_id}).one_or_none()
    return None if row is None else to_batch(row)


def list_batches(connection: Connection, caller: Caller, *, limit: int, before: UUID | None) -> Sequence[Batch]:
    """Return up to ``limit + 1`` batches that the caller may read, newest first, older than ``before``."""
    query = select(batches).where(batches.c.client_id == caller.client.id).order_by(batches.c.id.desc())
    if not caller.key.live:
        query = query.where(batches.c.test)
    if before is not None:
        query = query.where(batches.c.id < before)
    return [to_batch(row) for row in connection.execute(query.limit(limit + 1))]


def canceled_among(connection: Connection, ids: Collection[UUID]) -> frozenset[UUID]:
    """Return which of these batches (their ids) were canceled: no message of theirs may be begun any more.

    One statement, and none where no id is given. Asked after the messages are locked, it sees every cancel that was
    committed before they were.
    """
    if not ids:
        return frozenset()
    return frozenset(row.id for row in connection.execute(_CANCELED, {"ids": list(ids)}))


def counts_of(connection: Connection, batch: Batch) -> Mapping[str, int]:
    """Return how many accepted rows of the batch stand how: every status of a message, zeros included.

    They add up to ``batch.accepted`` at any moment. One statement over what was added up last and what changed since,
    about a second's worth: it costs the same for ten rows and a million.
    """
    return counts_among(connection, [batch])[batch.id]


def counts_among(connection: Connection, found: Iterable[Batch]) -> Mapping[UUID, Mapping[str, int]]:
    """Return the same of several batches, by their ids, in one statement for all."""
    counts = {batch.id: dict.fromkeys(STATUSES, 0) for batch in found}
    if counts:
        for row in connection.execute(_COUNTS, {"ids": list(counts)}):
            counts[row.batch_id][row.status] = int(row.rows)
    return counts


def list_rejects(connection: Connection, batch: Batch, *, limit: int, after: int) -> Sequence[Reject]:
    """Return up to ``limit + 1`` rejects of the batch in the order of their rows, behind the row ``after``."""
    rows = batch_rejects.c
    query = (
        select(rows.row, rows.value, rows.code, rows.message)
        .where(rows.batch_id == batch.id, rows.row > after)
        .order_by(rows.row)
        .limit(limit + 1)
    )
    return [Reject(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - its documented name


def _counts() -> Select[Any]:
    # One statement has one snapshot: whoever adds up meanwhile moves rows from one table to the other at once.
    kept = select(batch_counts.c.batch_id, batch_counts.c.status, batch_counts.c.rows.label("rows"))
    left = select(batch_changes.c.batch_id, batch_changes.c.was.label("status"), (-func.count()).label("rows"))
    came = select(batch_changes.c.batch_id, batch_changes.c.now.label("status"), func.count().label("rows"))
    changed = batch_changes.c.batch_id.in_(bindparam("ids", expanding=True))
    every = union_all(
        kept.where(batch_counts.c.batch_id.in_(bindparam("ids", expanding=True))),
        left.where(changed).group_by(batch_changes.c.batch_id, batch_changes.c.was),
        came.where(changed).group_by(batch_changes.c.batch_id, batch_changes.c.now),
    ).subquery()
    total = func.sum(every.c.rows).label("rows")
    return select(every.c.batch_id, every.c.status, total).group_by(every.c.batch_id, every.c.status)


_COUNTS: Final = _counts()


def count_unmade(connection: Connection, now: datetime) -> int:
    """Return how many rows of all batches are to be sent by now and are not messages yet."""
    return sum(unmade_by_lane(connection, now).values())


def unmade_by_lane(connection: Connection, now: datetime) -> Mapping[int, int]:
    """Return the same lane by lane; a lane with none is not named."""
    rows = batches.c
    is_time = or_(rows.send_at.is_(None), rows.send_at <= now)
    open_ones = (DUE, rows.accepted_at.is_not(None), rows.canceled_at.is_(None), is_time)
    unmade = func.sum(rows.accepted - rows.made).label("unmade")
    found = connection.execute(select(rows.lane, unmade).where(*open_ones).group_by(rows.lane))
    return {row.lane: int(row.unmade) for row in found if row.unmade}


def count_waiting(connection: Connection, batch: Batch) -> int:
    """Return how many rows of the client's other batches are no messages yet; those of test keys apart from the others.

    One statement over the batches that are open, of which a client has few.
    """
    rows = batches.c
    own = (rows.client_id == batch.client_id, rows.test == batch.test, rows.id != batch.id)
    open_ones = (IS_OPEN, rows.dry_run.is_(False), rows.canceled_at.is_(None))
    query = select(func.coalesce(func.sum(rows.accepted - rows.made), 0)).where(*own, *open_ones)
    count: int = connection.execute(query).scalar_one()
    return int(count)

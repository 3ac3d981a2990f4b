"""Making staged rows into messages, a part at a time, so that no lane is flooded and a cancel is cheap."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Insert,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    select,
)

from smsapi.batches.models import Batch, batch_counts, batch_rows, batches
from smsapi.batches.store import change_batch
from smsapi.db import after_commit, call_it_news
from smsapi.deps import Deps
from smsapi.events.models import events
from smsapi.ids import show_id
from smsapi.messages.models import messages
from smsapi.messages.statuses import CANCELED, QUEUED, SCHEDULED

# How many rows are made in one transaction: one that takes well under a second.
MOST_AT_ONCE: Final = 1_000


_OF_BATCH: Final = batch_rows.c.batch_id == bindparam("batch_id")
# From where the last part ended: what was deleted before that stays in the index for a while, and need not be passed.
_BEHIND: Final = (_OF_BATCH, batch_rows.c.row > bindparam("after"))


def make_messages(world: Deps, connection: Connection, batch: Batch, *, limit: int) -> Batch:
    """Make up to ``limit`` staged rows of an accepted batch into messages, in their order; return the batch so.

    The batch is locked by the caller, and its counts were started (:func:`smsapi.batches.store.start_counts`). Each
    message gets its first event, whose id is the message's own: no later one of that message is smaller. Of a canceled
    batch they become canceled ones. Rows count as queued, or scheduled, from the acceptance on, so that making them
    changes no count. Ring the bell once the transaction is committed.
    """
    given: dict[str, Any] = {"batch_id": batch.id, "after": batch.made_through}
    first = select(batch_rows.c.row).where(*_BEHIND).order_by(batch_rows.c.row).limit(limit).subquery()
    count, last = connection.execute(select(func.count(), func.max(first.c.row)), given).one()
    if not count:
        return batch
    _make(world, connection, batch, _PART, {**given, "through": last}, canceled=batch.canceled_at is not None)
    return change_batch(connection, batch, made=batch.made + count, made_through=last)


def make_canceled(world: Deps, connection: Connection, batch: Batch, number: str) -> Batch:
    """Make the staged rows to this number (E.164) into canceled messages, out of their turn; return the batch so.

    For forgetting a person: what nobody is to send is then a message like others. The batch is locked and accepted.
    """
    given = {"batch_id": batch.id, "number": number}
    made = _make(world, connection, batch, _TO_NUMBER, given, canceled=True)
    return change_batch(connection, batch, made=batch.made + made)


def move_counts(world: Deps, connection: Connection, batch: Batch, moved: Mapping[str, int]) -> None:
    """Add these numbers, which add up to nothing, to the counts of the batch, which is locked."""
    for status, rows in moved.items():
        statement = world.database.insert(batch_counts).values(batch_id=batch.id, status=status, rows=rows)
        summed = {"rows": batch_counts.c.rows + statement.excluded.rows}
        connection.execute(statement.on_conflict_do_update(index_elements=["batch_id", "status"], set_=summed))


class _Statements(NamedTuple):
    """What makes certain rows of a batch into messages, writes their events and deletes them."""

    messages: Insert
    events: Insert
    rows: Delete


def _make(
    world: Deps,
    connection: Connection,
    batch: Batch,
    which: _Statements,
    given: Mapping[str, Any],
    *,
    canceled: bool,
) -> int:
    """Make these rows, delete them and write the first event of each; return how many they were."""
    now, begins = world.clock.now(), QUEUED if batch.send_at is None else SCHEDULED
    status = CANCELED if canceled else begins
    # To the millisecond, as it is shown: what is filtered by a shown time is then exact.
    created = _to_the_millisecond(batch.accepted_at or now)
    # Made after its time, it does not go before what others were given to send since then.
    due = None if canceled else max(batch.send_at or now, now)
    values = {**given, "status": status, "due": due, "created": created, "updated": now}
    connection.execute(which.messages, values)
    data = {"by": "batch", "batch_id": show_id("bat", batch.id)} if canceled else {}
    told = {**given, "kind": f"message.{status}", "at": now if canceled else created, "told": data}
    connection.execute(which.events, told)
    call_it_news(connection)
    made = connection.execute(which.rows, given).rowcount
    if canceled:
        move_counts(world, connection, batch, {begins: -made, CANCELED: made})
    after_commit(connection, partial(world.metrics.count_message, status, test=batch.test, times=made))
    return made


def _to_the_millisecond(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _insert_messages(*which: ColumnElement[bool]) -> Insert:
    row, batch, to = batch_rows.c, batches.c, messages.c
    same = ("client_id", "key_id", "test", "sender", "category", "lane", "on_unknown", "price_currency", "metadata")
    own = ("to_number", "country", "encoding", "segments", "price_micros", "reference", "joined")
    columns: dict[str, Any] = {
        "id": row.message_id,
        "batch_id": batch.id,
        **{name: batch[name] for name in (*same, "dlt", "expires_at", "send_at")},
        **{name: row[name] for name in own},
        "text": func.coalesce(row.text, batch.text),
        # Kept for as long as the message may be changed, which is while it waits for its time.
        "bounds": case((batch.send_at.is_not(None), batch.bounds), else_=null()),
        "status": bindparam("status", type_=to.status.type),
        "price_estimated": literal(True),  # noqa: FBT003 - a value, not an argument
        "attempts": literal(0),
        "epoch": literal(0),
        "due_at": bindparam("due", type_=to.due_at.type),
        "created_at": bindparam("created", type_=to.created_at.type),
        "updated_at": bindparam("updated", type_=to.updated_at.type),
    }
    chosen = select(*columns.values()).select_from(batch_rows.join(batches, batch.id == row.batch_id)).where(*which)
    return insert(messages).from_select(list(columns), chosen.order_by(row.row))


def _insert_events(*which: ColumnElement[bool]) -> Insert:
    row, batch, to = batch_rows.c, batches.c, events.c
    columns: dict[str, Any] = {
        "id": row.message_id,
        "message_id": row.message_id,
        "client_id": batch.client_id,
        "test": batch.test,
        "type": bindparam("kind", type_=to.type.type),
        "at": bindparam("at", type_=to.at.type),
        "data": bindparam("told", type_=to.data.type),
    }
    chosen = select(*columns.values()).select_from(batch_rows.join(batches, batch.id == row.batch_id)).where(*which)
    return insert(events).from_select(list(columns), chosen.order_by(row.row))


def _statements(*which: ColumnElement[bool]) -> _Statements:
    return _Statements(_insert_messages(*which), _insert_events(*which), delete(batch_rows).where(*which))


# Built once: building a statement costs more than running it.
_PART: Final = _statements(*_BEHIND, batch_rows.c.row <= bindparam("through"))
_TO_NUMBER: Final = _statements(_OF_BATCH, batch_rows.c.to_number == bindparam("number"))

"""Forgetting old events, with their deliveries and attempts."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, delete, select

from smsapi.deps import Deps
from smsapi.events.models import event_marks, events
from smsapi.webhooks.deliveries import release_next
from smsapi.webhooks.models import OPEN_STATUSES, webhook_attempts, webhook_deliveries

FORGET_BATCH: Final = 500


def forget_old_events(world: Deps, stopping: Callable[[], bool]) -> int:
    """Delete the events that are older than SMSAPI_EVENT_DAYS, in batches; return how many they were.

    What was still to be delivered of them is given up. What is being told at this moment is left for the next time.
    """
    now, total = world.clock.now(), 0
    before = now - timedelta(days=world.settings.event_days)
    while not stopping():
        with world.database.transaction() as connection:
            forgotten = _forget(world, connection, now, before)
        total += forgotten
        if forgotten < FORGET_BATCH:
            break
    return total


def _forget(world: Deps, connection: Connection, now: datetime, before: datetime) -> int:
    found = _old(connection, before)
    if not found:
        return 0
    deliveries, busy = _hold_deliveries(connection, [row.id for row in found])
    old = [row for row in found if row.id not in busy]
    if not old:
        return 0
    ids = [row.id for row in old]
    mine = [row for row in deliveries if row.event_id not in busy]
    _mark(world, connection, old)
    connection.execute(delete(webhook_attempts).where(webhook_attempts.c.delivery_id.in_([row.id for row in mine])))
    connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.event_id.in_(ids)))
    connection.execute(delete(events).where(events.c.id.in_(ids)))
    for row in mine:
        if row.status in OPEN_STATUSES:
            release_next(connection, now, row.endpoint_id, row.message_id)
    return len(old)


def _old(connection: Connection, before: datetime) -> Sequence[Any]:
    rows = events.c
    # In their order, which is that of time but for moments: the first that is young enough ends the batch.
    query = select(rows.id, rows.at, rows.seq, rows.client_id, rows.test).where(rows.seq.is_not(None))
    held = query.order_by(rows.seq).limit(FORGET_BATCH).with_for_update(skip_locked=True)
    old = []
    for row in connection.execute(held):
        if row.at >= before:
            break
        old.append(row)
    return old


def _hold_deliveries(connection: Connection, ids: Sequence[UUID]) -> tuple[Sequence[Any], set[UUID]]:
    """Return the deliveries of these events that are held now, and of which events others hold one."""
    rows = webhook_deliveries.c
    columns = (rows.id, rows.event_id, rows.endpoint_id, rows.message_id, rows.status)
    query = select(*columns).where(rows.event_id.in_(ids)).order_by(rows.endpoint_id, rows.message_id, rows.seq)
    # Passed over and not waited for: whoever settles one of them may want another that is held here.
    held = connection.execute(query.with_for_update(skip_locked=True)).all()
    ours = {row.id for row in held}
    return held, {row.event_id for row in connection.execute(query) if row.id not in ours}


def _mark(world: Deps, connection: Connection, old: Sequence[Any]) -> None:
    """Note up to where the clients' events are forgotten: all of them, and the test ones."""
    last = {}
    for row in old:
        for test in (False, True):
            if row.test or not test:
                last[row.client_id, test] = row
    statement = world.database.insert(event_marks)
    fresh = {name: statement.excluded[name] for name in ("event_id", "seq")}
    later = statement.on_conflict_do_update(
        index_elements=["client_id", "test"], set_=fresh, where=event_marks.c.seq < statement.excluded.seq
    )
    # In one order, or two processes that forget wait for each other.
    for (client_id, test), row in sorted(last.items(), key=lambda item: (item[0][0].hex, item[0][1])):
        connection.execute(later, {"client_id": client_id, "test": test, "event_id": row.id, "seq": row.seq})

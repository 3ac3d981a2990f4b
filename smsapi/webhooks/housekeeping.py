"""Forgetting old events, with their deliveries and attempts."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, select

from smsapi.deps import Deps
from smsapi.events.models import events
from smsapi.webhooks.deliveries import release_next
from smsapi.webhooks.models import OPEN, webhook_attempts, webhook_deliveries

FORGET_BATCH: Final = 500


def forget_old_events(world: Deps, stopping: Callable[[], bool]) -> int:
    """Delete the events that are older than SMSAPI_EVENT_DAYS, in batches; return how many they were.

    What was still to be delivered of them is given up.
    """
    now, total = world.clock.now(), 0
    before = now - timedelta(days=world.settings.event_days)
    while not stopping():
        with world.database.transaction() as connection:
            forgotten = _forget(connection, now, before)
        total += forgotten
        if forgotten < FORGET_BATCH:
            break
    return total


def _forget(connection: Connection, now: datetime, before: datetime) -> int:
    rows = webhook_deliveries.c
    # In their order, which is that of time but for moments: the first that is young enough ends the batch.
    query = select(events.c.id, events.c.at).where(events.c.seq.is_not(None)).order_by(events.c.seq).limit(FORGET_BATCH)
    old = []
    for row in connection.execute(query):
        if row.at >= before:
            break
        old.append(row.id)
    if not old:
        return 0
    of_them = rows.event_id.in_(old)
    unfinished = select(rows.endpoint_id, rows.message_id).where(of_them, OPEN).distinct()
    heads = [(row.endpoint_id, row.message_id) for row in connection.execute(unfinished)]
    deliveries = select(rows.id).where(of_them)
    connection.execute(delete(webhook_attempts).where(webhook_attempts.c.delivery_id.in_(deliveries)))
    connection.execute(delete(webhook_deliveries).where(of_them))
    connection.execute(delete(events).where(events.c.id.in_(old)))
    for endpoint_id, message_id in heads:
        release_next(connection, now, endpoint_id, message_id)
    return len(old)

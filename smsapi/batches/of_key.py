"""Calling off what waits of one API key: its batches, and its single messages, however many they are."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from smsapi.batches.models import QUEUED, SCHEDULED, SENDING, batches
from smsapi.batches.progress import cancel as cancel_batch
from smsapi.batches.store import lock_batch
from smsapi.deps import Deps
from smsapi.errors import TooLate
from smsapi.messages.models import messages, to_message
from smsapi.messages.statuses import WAITING
from smsapi.messages.underway import let_begun_end
from smsapi.send.after import cancel

_AT_ONCE: Final = 500


def cancel_all_of_key(world: Deps, client_id: UUID, key_id: UUID, *, by: Mapping[str, Any]) -> None:
    """Call off all batches and single messages that wait and were accepted with this key, in transactions of its own.

    Whoever dies on the way repeats it. When it returns no call begins for them any more, but for what
    :func:`smsapi.messages.underway.let_begun_end` says. ``by`` goes into the events of the messages.
    """
    _cancel_batches(world, client_id, key_id)
    while _cancel_some(world, client_id, key_id, by):
        pass
    own = (messages.c.client_id == client_id, messages.c.key_id == key_id)
    let_begun_end(world.database, world.clock, *own, lease_seconds=world.settings.lease_seconds)
    world.bell.ring()


def _cancel_batches(world: Deps, client_id: UUID, key_id: UUID) -> None:
    rows = batches.c
    open_ones = (rows.status.in_((SCHEDULED, QUEUED, SENDING)), rows.canceled_at.is_(None))
    query = select(rows.id).where(rows.client_id == client_id, rows.key_id == key_id, *open_ones).order_by(rows.id)
    with world.database.read() as connection:
        found = list(connection.execute(query).scalars())
    for batch_id in found:
        # One of which nothing waits any more stays as it is.
        with suppress(TooLate), world.database.transaction() as connection:
            batch = lock_batch(connection, batch_id)
            if batch is not None:
                cancel_batch(world, connection, batch)


def _cancel_some(world: Deps, client_id: UUID, key_id: UUID, by: Mapping[str, Any]) -> int:
    rows = messages.c
    waiting = (rows.client_id == client_id, rows.status.in_(sorted(WAITING)), rows.key_id == key_id)
    query = select(messages).where(*waiting, rows.batch_id.is_(None)).order_by(rows.id).limit(_AT_ONCE)
    with world.database.transaction() as connection:
        found = [to_message(row) for row in connection.execute(query.with_for_update())]
        for message in found:
            cancel(world, connection, message, by=by)
    return len(found)

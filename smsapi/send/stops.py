"""Stops: whether something that came since an attempt began forbids its call."""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from smsapi.deps import Deps
from smsapi.errors import Unavailable
from smsapi.messages.lanes import NAMES
from smsapi.messages.models import Message
from smsapi.messages.underway import ASK_AGAIN_SECONDS
from smsapi.optouts.ledger import opted_out_among
from smsapi.pacing.gates import is_paused

# Which of these batches were called off; what a batch is, is not known here.
CanceledAmong = Callable[[Connection, Collection[UUID]], Collection[UUID]]


def no_batch(_connection: Connection, _batch_ids: Collection[UUID]) -> Collection[UUID]:
    """Return none: for callers whose messages are of no batch."""
    return ()


def is_stopped(world: Deps, several: Sequence[Message], canceled_among: CanceledAmong) -> bool:
    """Say whether the call that was begun for these messages must not be made any more.

    Only a call that has waited for its thread for over :data:`ASK_AGAIN_SECONDS` asks: an operator's pause, an opt-out
    or a cancel of its batch that was answered since then stops it. So does a store that does not answer.
    """
    first = several[0]
    lease = timedelta(seconds=world.settings.lease_seconds)
    if first.test or first.due_at is None:
        return False
    waited = world.clock.now() - (first.due_at - lease)
    if waited <= timedelta(seconds=ASK_AGAIN_SECONDS):
        return False
    try:
        with world.database.read() as connection:
            return (
                is_paused(connection, NAMES[first.lane])
                or bool(opted_out_among(connection, several))
                or (first.batch_id is not None and bool(canceled_among(connection, {first.batch_id})))
            )
    except Unavailable:
        return True

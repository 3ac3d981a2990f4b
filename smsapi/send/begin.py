"""Beginning an attempt: the gates passed, the message `sending` under a lease, the attempt written down, in one go.

Whoever holds a begun attempt makes the call at once; what dies before it could say what came of the call leaves a row
from which others see how far it came.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Uuid, insert, literal, select

from smsapi.clock import rfc3339
from smsapi.db import UtcDateTime
from smsapi.deps import Deps
from smsapi.messages.lanes import NAMES
from smsapi.messages.models import Message, message_attempts, messages
from smsapi.messages.statuses import EXPIRED, FAILED, SCHEDULED, SENDING, WAITING
from smsapi.messages.store import get_message, lock_message
from smsapi.optouts.ledger import opted_out_among, said_of
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, Admitted, Closed, Passing, admit
from smsapi.pacing.tolls import tolls_of
from smsapi.send.change import OPTED_OUT, TOO_LATE, change, conclude
from smsapi.send.together import change_all, tell_all


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that may be made now: the message as it stands, and what the gates want to know of its outcome.

    ``others`` are those of its batch that share the call, which is then ``chunk_id``.
    """

    message: Message
    admitted: Admitted
    caller_waits: bool = False
    others: tuple[Message, ...] = ()
    chunk_id: UUID | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """Return all that the attempt is for."""
        return (self.message, *self.others)

    @property
    def segments(self) -> int:
        """Return of how many segments all of it is."""
        return sum(message.segments for message in self.messages)


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing to send: another has the message, or it is settled, as it shows."""

    message: Message


def begin_held(world: Deps, message_id: UUID, epoch: int, number: int) -> Begun | Closed | Gone:
    """Begin attempt ``number`` of a message that is held under ``epoch``, for a caller who waits for its outcome.

    Raises:
        StoreUnavailable: the store does not answer; asking again with the same number does not begin twice.

    """
    world.checkpoint("begin.before")
    now = world.clock.now()
    with world.database.transaction() as connection:
        message = lock_message(connection, message_id)
        if message is not None and (message.epoch, message.status, message.attempts) == (epoch, SENDING, number):
            # Written the last time it was tried, and only the acknowledgement was lost: nobody has been asked yet.
            both = frozenset({CIRCUIT, ACCOUNT})
            return Begun(message, Admitted(both, both), caller_waits=True)
        if message is None or message.epoch != epoch or message.status not in WAITING:
            return Gone(get_message(connection, message_id))
        if is_expired(message, now):
            return Gone(conclude(world, connection, message, EXPIRED, TOO_LATE))
        if (since := opted_out_among(connection, [message]).get(message.id)) is not None:
            return Gone(conclude_opted_out(world, connection, message, since))
        admitted = pass_gates(world, connection, message, now, caller_waits=True)
        if isinstance(admitted, Closed):
            return admitted
        begun = begin(world, connection, message, now, epoch=epoch)
    world.checkpoint("begin.committed")
    return Begun(begun, admitted, caller_waits=True)


def is_expired(message: Message, now: datetime) -> bool:
    """Say whether the time within which it was to be sent is over."""
    return message.expires_at is not None and message.expires_at <= now


def conclude_opted_out(world: Deps, connection: Connection, message: Message, since: datetime) -> Message:
    """Fail a message whose recipient opted out before it could be sent; return it so."""
    evidence = {"opted_out_at": rfc3339(since)}
    return conclude(world, connection, message, FAILED, (OPTED_OUT, said_of(since)), evidence=evidence)


def pass_gates(
    world: Deps,
    connection: Connection,
    message: Message,
    now: datetime,
    *,
    caller_waits: bool = False,
    segments: int | None = None,
) -> Admitted | Closed:
    """Pass the gates with this message; test keys' pass none, since nobody is texted.

    ``segments`` are those of all that share its call, where others do.
    """
    if message.test:
        return Admitted()
    tolls = tolls_of(world.settings, message.sender, message.segments if segments is None else segments)
    passing = Passing(NAMES[message.lane], tolls, caller_waits=caller_waits)
    probe_seconds = world.settings.plivo_total_timeout_seconds * 2
    return admit(world.database, connection, passing, now, probe_seconds=probe_seconds)


def begin(world: Deps, connection: Connection, message: Message, now: datetime, *, epoch: int) -> Message:
    """Write that the next attempt is under way, under this epoch and a fresh lease; return the message so."""
    values: dict[str, Any] = {
        "status": SENDING,
        "attempts": message.attempts + 1,
        "epoch": epoch,
        "due_at": now + timedelta(seconds=world.settings.lease_seconds),
    }
    begun = change(world, connection, message, **values)
    row = {"message_id": message.id, "number": begun.attempts, "epoch": epoch, "started_at": now}
    connection.execute(_INSERT_ATTEMPT, row)
    return begun


def begin_together(
    world: Deps, connection: Connection, several: Sequence[Message], now: datetime, *, chunk_id: UUID
) -> tuple[Message, ...]:
    """Write that one attempt is under way for all of these held messages; return them so. Few statements for many."""
    fresh = [message for message in several if message.status == SCHEDULED]
    tell_all(connection, fresh, "message.queued", now, {})
    due = now + timedelta(seconds=world.settings.lease_seconds)
    counted = {"attempts": messages.c.attempts + 1, "epoch": messages.c.epoch + 1}
    change_all(world, connection, several, status=SENDING, due_at=due, updated_at=now, **counted)
    begun = tuple(
        replace(
            message,
            status=SENDING,
            due_at=due,
            updated_at=now,
            attempts=message.attempts + 1,
            epoch=message.epoch + 1,
        )
        for message in several
    )
    rows = messages.c
    written = select(rows.id, rows.attempts, rows.epoch, literal(now, UtcDateTime()), literal(chunk_id, Uuid()))
    written = written.where(rows.id.in_([message.id for message in several]))
    columns = ("message_id", "number", "epoch", "started_at", "chunk_id")
    connection.execute(insert(message_attempts).from_select(columns, written))
    return begun


_INSERT_ATTEMPT = insert(message_attempts)

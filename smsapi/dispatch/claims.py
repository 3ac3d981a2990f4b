"""Claiming what is due: each message is held by one worker at a time, and a dead worker's come back with their lease.

A message to send is claimed and its attempt begun in one transaction; what else has to be looked at (a chore) is
claimed first and looked at then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, bindparam, select, update

from smsapi.deps import Deps
from smsapi.messages.flows import Flow
from smsapi.messages.models import CHORE, WAITS, Message, messages, to_message
from smsapi.messages.statuses import EXPIRED, SCHEDULED, UNKNOWN
from smsapi.messages.store import add_event
from smsapi.optouts.ledger import opted_out_among
from smsapi.pacing.gates import Closed
from smsapi.send.begin import Begun, begin, conclude_opted_out, is_expired, pass_gates
from smsapi.send.change import TOO_LATE, conclude


@dataclass(frozen=True, slots=True)
class Claim:
    """One message, held until its lease ends; ``epoch`` proves the hold, ``status`` is how the claim found it."""

    message_id: UUID
    epoch: int
    status: str


@dataclass(slots=True)
class Taken:
    """What a claim came to: attempts to be made at once, and the gate that it stopped at, where it did."""

    begun: list[Begun] = field(default_factory=list)
    closed: Closed | None = None
    looked_at: int = 0


_FIRST_OF_FLOW = (
    select(messages)
    .where(
        WAITS,
        messages.c.lane == bindparam("lane"),
        messages.c.client_id == bindparam("client_id"),
        messages.c.sender == bindparam("sender"),
        messages.c.due_at <= bindparam("now"),
    )
    .order_by(messages.c.due_at, messages.c.id)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True)
)


def claim_to_send(world: Deps, connection: Connection, flow: Flow, now: datetime, *, limit: int) -> Taken:
    """Claim up to ``limit`` messages of the flow, longest due first, and begin an attempt for each.

    No two claims at once get the same message: on PostgreSQL rows that another is claiming are passed over; on SQLite
    the write lock keeps claims apart. It stops at a gate that is closed, with the message where it was.
    """
    given = {"lane": flow.lane, "client_id": flow.client_id, "sender": flow.sender, "now": now, "at_most": limit}
    taken = Taken()
    found = [to_message(row) for row in connection.execute(_FIRST_OF_FLOW, given).all()]
    # A statement of its own, after the rows are held: it sees every opt-out that was committed before they were.
    stopped = opted_out_among(connection, found)
    for message in found:
        if message.id in stopped:
            conclude_opted_out(world, connection, message, stopped[message.id])
            taken.looked_at += 1
            continue
        if is_expired(message, now):
            conclude(world, connection, message, EXPIRED, TOO_LATE)
            taken.looked_at += 1
            continue
        admitted = pass_gates(world, connection, message, now)
        if isinstance(admitted, Closed):
            taken.closed = admitted
            break
        taken.looked_at += 1
        taken.begun.append(Begun(_begun(world, connection, message, now), admitted))
    return taken


def _begun(world: Deps, connection: Connection, message: Message, now: datetime) -> Message:
    if message.status == SCHEDULED:
        add_event(connection, message, "message.queued", now, {})
    return begin(world, connection, message, now, epoch=message.epoch + 1)


_CHORES = (
    select(messages.c.id, messages.c.epoch, messages.c.status)
    .where(CHORE, messages.c.due_at <= bindparam("now"))
    .order_by(messages.c.due_at)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
_CHORES_BUT_UNKNOWN = _CHORES.where(messages.c.status != UNKNOWN)
_UNKNOWN = _CHORES.where(messages.c.status == UNKNOWN)


def claim_chores(
    connection: Connection, now: datetime, *, lease_seconds: float, limit: int, unknown: bool = False
) -> Sequence[Claim]:
    """Claim up to ``limit`` messages that need a look, longest due first: the ``unknown`` ones, or all others."""
    query = _UNKNOWN if unknown else _CHORES_BUT_UNKNOWN
    found = connection.execute(query, {"now": now, "at_most": limit})
    # Not one UPDATE … RETURNING: neither store says in which order that gives the rows.
    claims = [Claim(row.id, row.epoch + 1, row.status) for row in found]
    if claims:
        connection.execute(
            update(messages)
            .where(messages.c.id.in_([claim.message_id for claim in claims]))
            .values(due_at=now + timedelta(seconds=lease_seconds), epoch=messages.c.epoch + 1)
        )
    return claims

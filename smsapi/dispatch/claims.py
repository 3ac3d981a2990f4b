"""Claiming what is due: each message is held by one worker at a time, and a dead worker's come back with their lease.

A message to send is claimed and its attempt begun in one transaction; what else has to be looked at (a chore) is
claimed first and looked at then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, select, update

from smsapi.batches.store import canceled_among
from smsapi.deps import Deps
from smsapi.dispatch.aside import set_aside
from smsapi.dispatch.company import find_company, most_together
from smsapi.errors import Refused, Unavailable
from smsapi.ids import new_id, show_id
from smsapi.messages.flows import Flow
from smsapi.messages.models import CHORE, WAITS, Message, messages, to_message
from smsapi.messages.statuses import EXPIRED, FAILED, SCHEDULED, SENT, UNKNOWN
from smsapi.messages.store import add_event
from smsapi.optouts.ledger import opted_out_among
from smsapi.pacing.gates import Closed
from smsapi.send.after import cancel
from smsapi.send.begin import Begun, begin, begin_together, conclude_opted_out, is_expired, pass_gates
from smsapi.send.call import check_callable
from smsapi.send.change import TOO_LATE, conclude
from smsapi.send.plan import refusal_when_due


@dataclass(frozen=True, slots=True)
class Claim:
    """One message, held until its lease ends; ``epoch`` proves the hold."""

    message_id: UUID
    epoch: int


class Chore(Enum):
    """Why a message needs a look that is not to be sent: its outcome is unknown, its report overdue, or all else."""

    DOUBT = "doubt"
    NO_REPORT = "no_report"
    OTHER = "other"


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


# The same, of which nothing is read but its id.
_FIRST_ID_OF_FLOW = _FIRST_OF_FLOW.with_only_columns(messages.c.id)


def claim_to_send(world: Deps, connection: Connection, flow: Flow, now: datetime, *, limit: int) -> Taken:
    """Claim up to ``limit`` messages of the flow, longest due first, and begin an attempt for each.

    No two claims at once get the same message: on PostgreSQL rows that another is claiming are passed over; on SQLite
    the write lock keeps claims apart. It stops at a gate that is closed, with the message where it was.
    """
    rows = connection.execute(_FIRST_OF_FLOW, _given(flow, now, limit)).all()
    return _claim_these(world, connection, flow, [to_message(row) for row in rows], now, alone=False)


def claim_one_by_one(world: Deps, flow: Flow, now: datetime, *, limit: int) -> Taken:
    """Do as :func:`claim_to_send`, each in a transaction of its own and in no other's company.

    One that cannot be handled is set aside, and keeps none of the others.

    Raises:
        StoreUnavailable: the store does not answer, and nothing was begun.

    """
    taken = Taken()
    try:
        while taken.looked_at < limit and taken.closed is None and _claim_first(world, flow, now, taken):
            pass
    except Exception:
        # What was begun has to be sent: nobody else would know how it went.
        if not taken.begun:
            raise
    return taken


def _claim_first(world: Deps, flow: Flow, now: datetime, taken: Taken) -> bool:
    """Add the first of the flow to what is taken, or set it aside; return whether there was one."""
    message_id = None
    try:
        with world.database.transaction() as connection:
            # By its id first: of one whose row cannot be read, at least that is known.
            message_id = connection.execute(_FIRST_ID_OF_FLOW, _given(flow, now, 1)).scalar_one_or_none()
            if message_id is None:
                return False
            row = connection.execute(select(messages).where(messages.c.id == message_id)).one()
            one = _claim_these(world, connection, flow, [to_message(row)], now, alone=True)
    except Unavailable:
        raise
    except Exception as error:
        if message_id is None:
            raise
        set_aside(world, message_id, error, what="send", still=(WAITS, messages.c.due_at <= now))
        taken.looked_at += 1
    else:
        taken.begun += one.begun
        taken.closed = one.closed
        taken.looked_at += one.looked_at
    return True


def _given(flow: Flow, now: datetime, limit: int) -> dict[str, Any]:
    return {"lane": flow.lane, "client_id": flow.client_id, "sender": flow.sender, "now": now, "at_most": limit}


def _claim_these(
    world: Deps, connection: Connection, flow: Flow, found: Sequence[Message], now: datetime, *, alone: bool
) -> Taken:
    taken = Taken()
    done = _conclude_unfit(world, connection, flow, found, now)
    for message in found:
        if message.id not in done:
            others = () if alone else _company_of(world, connection, flow, message, now, done=done)
            begun = _begin(world, connection, message, others, now)
            if isinstance(begun, Closed):
                taken.closed = begun
                break
            taken.begun.append(begun)
            done |= {other.id for other in others}
        taken.looked_at += 1
    return taken


def _conclude_unfit(
    world: Deps, connection: Connection, flow: Flow, found: Sequence[Message], now: datetime
) -> set[UUID]:
    """Conclude those of these held messages that must not be sent any more; return which."""
    # Statements of their own, after the rows are held: they see every opt-out and every cancel that was committed
    # before they were.
    stopped = opted_out_among(connection, found)
    canceled = canceled_among(connection, {each.batch_id for each in found if each.batch_id is not None})
    done = set()
    for message in found:
        if message.batch_id is not None and message.batch_id in canceled:
            cancel(world, connection, message, by={"by": "batch", "batch_id": show_id("bat", message.batch_id)})
        elif message.id in stopped:
            conclude_opted_out(world, connection, message, stopped[message.id])
        elif is_expired(message, now):
            conclude(world, connection, message, EXPIRED, TOO_LATE)
        elif (refusal := _refusal(world, flow, message)) is not None:
            conclude(world, connection, message, FAILED, (refusal.code, refusal.detail))
        else:
            continue
        done.add(message.id)
    return done


def _refusal(world: Deps, flow: Flow, message: Message) -> Refused | None:
    lists = {"allowed_senders": flow.allowed_senders, "allowed_countries": flow.allowed_countries}
    return refusal_when_due(message, world.settings, **lists)


def _company_of(
    world: Deps, connection: Connection, flow: Flow, message: Message, now: datetime, *, done: set[UUID]
) -> Sequence[Message]:
    """Return the others that share the call of this one, all of them held; those that must not be sent are done."""
    together = most_together(world.settings, message)
    if together == 1:
        return ()
    found = [
        other
        for other in find_company(connection, message, now, at_most=together - 1 + len(done))
        if other.id not in done
    ]
    others = found[: together - 1]
    unfit = _conclude_unfit(world, connection, flow, others, now)
    done |= unfit
    return [other for other in others if other.id not in unfit]


def _begin(
    world: Deps, connection: Connection, message: Message, others: Sequence[Message], now: datetime
) -> Begun | Closed:
    # What its call cannot be made of is found out before there is an attempt whose outcome nobody would know.
    for each in (message, *others):
        check_callable(world, each)
    segments = message.segments + sum(other.segments for other in others)
    admitted = pass_gates(world, connection, message, now, segments=segments)
    if isinstance(admitted, Closed):
        return admitted
    if others:
        chunk_id = new_id()
        first, *rest = begin_together(world, connection, (message, *others), now, chunk_id=chunk_id)
        world.checkpoint("joined.begun")
        return Begun(first, admitted, others=tuple(rest), chunk_id=chunk_id)
    if message.status == SCHEDULED:
        add_event(connection, message, "message.queued", now, {})
    return Begun(begin(world, connection, message, now, epoch=message.epoch + 1), admitted)


_CHORES = (
    select(messages.c.id, messages.c.epoch)
    .where(CHORE, messages.c.due_at <= bindparam("now"))
    .order_by(messages.c.due_at)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
_IN_DOUBT = messages.c.status == UNKNOWN
# Of a test key's messages the reports are played, and never late.
_UNREPORTED = and_(messages.c.status == SENT, ~messages.c.test)
_CHORES_OF = {
    Chore.DOUBT: _CHORES.where(_IN_DOUBT),
    Chore.NO_REPORT: _CHORES.where(_UNREPORTED),
    Chore.OTHER: _CHORES.where(~_IN_DOUBT, ~_UNREPORTED),
}


def claim_chores(
    connection: Connection, now: datetime, chore: Chore, *, lease_seconds: float, limit: int
) -> Sequence[Claim]:
    """Claim up to ``limit`` messages that need this look, longest due first."""
    found = connection.execute(_CHORES_OF[chore], {"now": now, "at_most": limit})
    # Not one UPDATE … RETURNING: neither store says in which order that gives the rows.
    claims = [Claim(row.id, row.epoch + 1) for row in found]
    if claims:
        connection.execute(
            update(messages)
            .where(messages.c.id.in_([claim.message_id for claim in claims]))
            .values(due_at=now + timedelta(seconds=lease_seconds), epoch=messages.c.epoch + 1)
        )
    return claims

"""What can be done with a message that is stored: call it off, change it while it waits for its time, settle a doubt.

Each decision is an event that says who made it. All of them are about a message that is locked, so that
a worker who claims it at the same moment either has it already, and the decision comes too late, or finds it changed.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Literal, get_args

from sqlalchemy import Connection, Uuid, column, func, select, table, update

from smsapi.auth.models import Client
from smsapi.db import UtcDateTime, after_commit
from smsapi.deps import Deps
from smsapi.errors import NotUnknown, TooLate, Unavailable
from smsapi.messages.lanes import lane_of
from smsapi.messages.models import Message, message_attempts
from smsapi.messages.statuses import CANCELED, FAILED, QUEUED, SCHEDULED, SENT, UNKNOWN, WAITING
from smsapi.messages.store import add_event
from smsapi.optouts.ledger import refusal_of
from smsapi.send.change import change, conclude, hold, may_have_left, rule_out
from smsapi.send.order import Order, bounds_of, read_bounds
from smsapi.send.plan import Plan, plan, planned_columns
from smsapi.send.settle import next_look

Outcome = Literal["sent", "resend", "failed"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

RESOLVED_AS_FAILED = ("resolved_failed", "It was decided that Plivo did not take the message; it is not sent.")

# The columns that a caller may change, by the names that callers know; all others follow from them.
_SHOWN_AS: Final = {
    "to_number": "to",
    "sender": "from",
    "text": "text",
    "send_at": "send_at",
    "category": "category",
    "reference": "reference",
    "metadata": "metadata",
    "on_unknown": "on_unknown",
    "dlt": "dlt",
}
_NOT_SHOWN: Final = ("expires_in", "max_segments", "max_price", "smart_encoding")


def cancel(world: Deps, connection: Connection, message: Message, *, by: Mapping[str, Any]) -> Message:
    """Call off a message that has not left and is not on its way; return it so. Twice is the same as once.

    A caller who waits for its delivery finds it canceled. One of which an earlier attempt may have reached Plivo is not
    tried again either, and is held as ``unknown``. ``by`` says who wants it, and goes into the event.

    Raises:
        TooLate: it is on its way, or settled otherwise.

    """
    if message.status == CANCELED:
        return message
    if message.status not in WAITING:
        raise TooLate(f"The message is {message.status}; only a scheduled or queued one can be canceled.")
    # The epoch, for a caller's own delivery may hold it between two attempts.
    if may_have_left(connection, [message]):
        return hold(world, connection, message, (CANCELED, CANCELED), evidence=by, epoch=message.epoch + 1)
    canceled = change(world, connection, message, status=CANCELED, due_at=None, epoch=message.epoch + 1)
    add_event(connection, message, "message.canceled", world.clock.now(), by)
    after_commit(connection, partial(world.metrics.count_message, CANCELED, test=message.test))
    return canceled


def edit(
    world: Deps,
    connection: Connection,
    message: Message,
    changes: Mapping[str, Any],
    *,
    client: Client,
    by: Mapping[str, Any],
) -> Message:
    """Change a scheduled message before its time, by the names of :class:`Order`; return it as it is then planned.

    What is not given stays, and so do the seconds between ``send_at`` and its expiry. ``client`` is whose it is.

    Raises:
        TooLate: it no longer waits for its time.
        InvalidInput, Refused: as :func:`smsapi.send.plan.plan` says of the message as it would be; it stays as it was.

    """
    if message.status != SCHEDULED or message.send_at is None:
        raise TooLate(f"The message is {message.status}; only a scheduled one can be changed.")
    now = world.clock.now()
    before = _order_of(message)
    after = replace(before, **changes)
    # A time that stays may have come, where the message waits at a gate: that is no mistake in this change.
    asked = after if "send_at" in changes else replace(after, send_at=None)
    decided = plan(asked, client, world.settings, world.prices, now=now)
    if decided.refusals:
        raise decided.refusals[0]
    sender = None if decided.sender is None else decided.sender.value
    refusal = refusal_of(connection, number=after.to, client_id=message.client_id, sender=sender, test=message.test)
    if refusal is not None:
        raise refusal
    # The lane of a category that stays is kept: a newer release may know one that this one does not.
    lane = message.lane if after.category == before.category else lane_of(after.category, test=message.test)
    values = _columns_of(after, decided, after.send_at or message.send_at, lane=lane)
    changed = [shown for column, shown in _SHOWN_AS.items() if values[column] != getattr(message, column)]
    changed += [name for name in _NOT_SHOWN if getattr(after, name) != getattr(before, name)]
    if not changed:
        return message
    edited = change(world, connection, message, **values)
    add_event(connection, message, "message.updated", now, {"changed": sorted(changed), **by})
    return edited


def _order_of(message: Message) -> Order:
    """Return what would have to be asked for to get the message as it is stored."""
    lifetime = None
    if message.expires_at is not None and message.send_at is not None:
        lifetime = round((message.expires_at - message.send_at).total_seconds())
    return Order(
        to=message.to_number,
        text=message.text,
        sender=message.sender,
        expires_in=lifetime,
        category=message.category,
        reference=message.reference,
        metadata=message.metadata,
        dlt=message.dlt,
        send_at=message.send_at,
        on_unknown=message.on_unknown,
        **read_bounds(message.bounds),
    )


def _columns_of(order: Order, decided: Plan, send_at: datetime, *, lane: int) -> dict[str, Any]:
    return {
        **planned_columns(order, decided),
        "lane": lane,
        "bounds": bounds_of(order),
        "due_at": send_at,
        "expires_at": None if order.expires_in is None else send_at + timedelta(seconds=order.expires_in),
        "send_at": send_at,
    }


def resolve(
    world: Deps, connection: Connection, message: Message, outcome: Outcome, *, by: Mapping[str, Any]
) -> Message:
    """Settle what became of an ``unknown`` message, as a person decides; return it so.

    ``sent``: Plivo took it, at its last attempt. ``resend``: it goes back to its lane and is due now, however long it
    has been tried; ring the bell once the transaction is committed. ``failed``: it is not sent. ``by`` says who
    decided, and goes into the event with the decision. Whoever looks for the message at Plivo meanwhile is overruled.

    Raises:
        NotUnknown: its outcome is known, or it is being sent.

    """
    if message.status != UNKNOWN:
        raise NotUnknown(f"The message is {message.status}; only an unknown one can be resolved.")
    evidence = {"decision": outcome, **by}
    match outcome:
        case "sent":
            return _take(world, connection, message, evidence)
        case "resend":
            return _send_again(world, connection, message, evidence)
        case "failed":
            epoch = message.epoch + 1
            # Whoever decides so answers for every attempt that was made.
            rule_out(connection, message, world.clock.now())
            return conclude(world, connection, message, FAILED, RESOLVED_AS_FAILED, evidence=evidence, epoch=epoch)


def wake_batch(world: Deps, resolved: Message) -> None:
    """Have the batch of a message looked at now that it is resolved, and the resolution is committed: it may be over.

    Never raises for the store: the batch would be looked at all the same, only later.
    """
    if resolved.batch_id is None:
        return
    now = world.clock.now()
    columns = _BATCHES.c
    open_one = (columns.id == resolved.batch_id, columns.due_at > now, columns.finished_at.is_(None))
    # A transaction of its own: whoever holds messages does not lock their batch.
    with suppress(Unavailable), world.database.transaction() as connection:
        connection.execute(update(_BATCHES).where(*open_one).values(due_at=now))
    world.bell.ring()


# Batches are a layer above; of their table no more is known here.
_BATCHES: Final = table(
    "batches", column("id", Uuid), column("due_at", UtcDateTime), column("finished_at", UtcDateTime)
)


def _take(world: Deps, connection: Connection, message: Message, evidence: Mapping[str, Any]) -> Message:
    now = world.clock.now()
    taken = replace(message, sent_at=message.sent_at or _last_attempt_at(connection, message) or now)
    values = {
        "status": SENT,
        "sent_at": taken.sent_at,
        # Of a test key's message the reports are still to be played.
        "due_at": next_look(world, taken, now),
        "epoch": message.epoch + 1,
        "error_code": None,
        "error_message": None,
    }
    add_event(connection, message, "message.sent", now, evidence)
    after_commit(connection, partial(world.metrics.count_message, SENT, test=message.test))
    return change(world, connection, message, **values)


def _last_attempt_at(connection: Connection, message: Message) -> datetime | None:
    rows = message_attempts.c
    query = select(func.max(rows.started_at)).where(rows.message_id == message.id)
    started: datetime | None = connection.execute(query).scalar_one()
    return started


def _send_again(world: Deps, connection: Connection, message: Message, evidence: Mapping[str, Any]) -> Message:
    # Not smsapi.send.change.requeue: for whoever decides by hand, the horizon of what retries by itself is mostly over.
    now = world.clock.now()
    values = {"status": QUEUED, "due_at": now, "epoch": message.epoch + 1, "error_code": None, "error_message": None}
    add_event(connection, message, "message.queued", now, evidence)
    return change(world, connection, message, **values)

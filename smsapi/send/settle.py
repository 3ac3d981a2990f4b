"""What came of an attempt, written down once, and what that makes of the message."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, select, update

from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import Message, message_attempts
from smsapi.messages.statuses import FAILED, FINAL, QUEUED, SENDING, SENT, UNKNOWN, advance
from smsapi.messages.store import add_event, lock_message
from smsapi.pacing.gates import ACCOUNT, read_gates
from smsapi.pacing.health import account_trouble, note_outcome
from smsapi.plivo.magic import behaviour_of
from smsapi.plivo.outcomes import Accepted, Outcome, Rejected, Unavailable, Unknown
from smsapi.send.begin import Begun
from smsapi.send.change import (
    ACCOUNT_REFUSED,
    NO_ANSWER,
    REJECTED,
    change,
    conclude,
    is_held,
    provider_of,
    requeue,
)
from smsapi.settings import Settings

log = get_logger()


@dataclass(frozen=True, slots=True)
class Settled:
    """The message after an attempt. ``retry_in_seconds`` is the wait before the next one under the same hold."""

    message: Message
    retry_in_seconds: float | None = None


def settle(world: Deps, begun: Begun, outcome: Outcome, *, wait_until: datetime) -> Settled:
    """Write down what came of the attempt; writing it twice changes nothing.

    Where nothing was sent and another attempt fits in before ``wait_until``, the hold is kept for it.
    """
    world.checkpoint("settle.before")
    now = world.clock.now()
    with world.database.transaction() as connection:
        message = lock_message(connection, begun.message.id)
        if message is None:
            return Settled(begun.message)
        if not _note_attempt(connection, begun.message, outcome, now):
            return Settled(message)
        mine = in_charge(message, begun.message)
        match outcome:
            case Accepted(uuid):
                # A fact, whoever holds the message by now: Plivo has it. A receipt may even have come before.
                settled = Settled(take(world, connection, message, uuid, {"message_uuid": uuid}))
            case Rejected() if mine:
                # A caller who has gone has had an answer, which said that the message goes on.
                told = begun.caller_waits and now <= wait_until
                settled = Settled(_refuse(world, connection, message, outcome, told=told))
            case Unavailable() if mine:
                settled = _try_later(world, connection, message, outcome, wait_until)
            case Unknown() if mine:
                settled = _doubt(world, connection, message, outcome, wait_until)
            case _:
                settled = Settled(message)
        if not message.test:
            note_outcome(world.database, connection, outcome, begun.admitted, now=now, settings=world.settings)
    world.checkpoint("settle.committed")
    return settled


def _note_attempt(connection: Connection, attempted: Message, outcome: Outcome, now: datetime) -> bool:
    """Complete the attempt's row; return False where that was done before."""
    row = (message_attempts.c.message_id == attempted.id, message_attempts.c.number == attempted.attempts)
    noted = connection.execute(
        update(message_attempts)
        .where(*row, message_attempts.c.finished_at.is_(None))
        .values(
            finished_at=now,
            outcome=type(outcome).__name__.lower(),
            provider_status=getattr(outcome, "status", None),
            provider_uuid=getattr(outcome, "message_uuid", None),
            reason=getattr(outcome, "reason", None),
        )
    )
    return noted.rowcount > 0


def in_charge(message: Message, attempted: Message) -> bool:
    """Say whether it is this attempt's to say what becomes of the message.

    Also where the lease was lost and nothing has happened since: what was unknown for want of an answer is known now.
    Not where the message was left to a person meanwhile.
    """
    # Only a further attempt counts them up: a chore's claim that found the lease over changes the epoch alone.
    untouched = message.attempts == attempted.attempts and message.status in {SENDING, UNKNOWN}
    return untouched and not is_held(message)


def take(
    world: Deps, connection: Connection, message: Message, uuid: str | None, evidence: Mapping[str, Any]
) -> Message:
    """Write that Plivo took the message, under this id where it is known, whoever holds it by now; return it so."""
    now = world.clock.now()
    status = advance(message.status, SENT)
    values: dict[str, Any] = {
        "status": status,
        "provider_name": provider_of(world, message).name,
        "provider_uuid": message.provider_uuid or uuid,
        "sent_at": message.sent_at or now,
        "due_at": next_look(world, message, now),
    }
    if message.status not in FINAL:
        values |= {"error_code": None, "error_message": None}
    taken = change(world, connection, message, **values)
    if status != message.status:
        add_event(connection, message, "message.sent", now, evidence)
        after_commit(connection, partial(world.metrics.count_message, status, test=message.test))
    return taken


def seconds_to_receipt(settings: Settings) -> float:
    """Return after how long without a last receipt Plivo's list is asked; 0: never, as where Plivo sends none."""
    return 0.0 if settings.public_url is None else settings.receipt_after_seconds


def next_look(world: Deps, message: Message, now: datetime) -> datetime | None:
    """Return when a message that Plivo took is to be looked at again, for want of its last delivery report."""
    after = seconds_to_receipt(world.settings)
    if message.test or not after or message.status in FINAL:
        return next_simulated_receipt(message, now)
    return now + timedelta(seconds=after)


def next_simulated_receipt(message: Message, now: datetime) -> datetime | None:
    """Return when the next delivery report of a test key's message is due, or None where none will come."""
    if not message.test:
        return None
    taken = taken_at(message, now)
    plan = behaviour_of(message.to_number).receipts
    moments = sorted(taken + timedelta(seconds=receipt.delay_seconds) for receipt in plan)
    return next((moment for moment in moments if moment > now), None)


def taken_at(message: Message, now: datetime) -> datetime:
    """Return since when Plivo has a test key's message, in as far as anybody plays Plivo for it."""
    if message.sent_at is not None:
        return message.sent_at
    return message.updated_at if message.status == UNKNOWN else now


def _refuse(world: Deps, connection: Connection, message: Message, outcome: Rejected, *, told: bool) -> Message:
    if not told and not message.test and _may_pass(connection, message, outcome):
        return _wait_for_account(world, connection, message, outcome)
    error = ACCOUNT_REFUSED if outcome.kind == "account" else (REJECTED, outcome.reason)
    name, code = provider_of(world, message).name, outcome.error_code
    return conclude(world, connection, message, FAILED, error, provider_name=name, provider_error_code=code)


def _may_pass(connection: Connection, message: Message, outcome: Rejected) -> bool:
    """Say whether the refusal is the account's and will end, so that the message can wait for that.

    A message that is refused so a second time, after others have been taken meanwhile, is itself the reason.
    """
    if account_trouble(outcome) is None:
        return False
    rows = message_attempts.c
    # A call that it shared may have been refused because of another's number.
    alone = (rows.chunk_id.is_(None), rows.outcome == "rejected", rows.number < message.attempts)
    earlier = select(rows.number).where(rows.message_id == message.id, *alone)
    refused_before = connection.execute(earlier.limit(1)).first() is not None
    return not refused_before or ACCOUNT in read_gates(connection, [ACCOUNT])


def _wait_for_account(world: Deps, connection: Connection, message: Message, outcome: Rejected) -> Message:
    said = {"reason": account_trouble(outcome), "message_id": show_id("msg", message.id)}
    after_commit(connection, partial(log.warning, "account_refused", **said))
    # At the end of those that wait, so that the next probe is another message.
    due = world.clock.now() + timedelta(seconds=world.settings.account_probe_seconds)
    evidence = {"reason": "account_paused", "trouble": account_trouble(outcome)}
    return requeue(world, connection, message, due, evidence=evidence, in_the_end=ACCOUNT_REFUSED)


def _try_later(
    world: Deps, connection: Connection, message: Message, outcome: Unavailable, wait_until: datetime
) -> Settled:
    now = world.clock.now()
    wait = world.retry_policy.delay(message.attempts, outcome.retry_after_seconds, world.random)
    if message.status == SENDING and wait <= (wait_until - now).total_seconds():
        # Nothing was sent: it waits again, still under this hold.
        return Settled(change(world, connection, message, status=QUEUED), wait)
    return Settled(requeue(world, connection, message, now + timedelta(seconds=wait)))


def _doubt(world: Deps, connection: Connection, message: Message, outcome: Unknown, wait_until: datetime) -> Settled:
    if message.status == UNKNOWN:
        return Settled(message)  # the lease was lost, and nothing more is known now
    if message.on_unknown == "resend" and not message.test:
        return _send_again(world, connection, message, outcome, wait_until)
    evidence = {"reason": outcome.reason, "on_unknown": message.on_unknown}
    return Settled(call_unknown(world, connection, message, evidence))


def _send_again(
    world: Deps, connection: Connection, message: Message, outcome: Unknown, wait_until: datetime
) -> Settled:
    evidence = {"decision": "resend", "reason": outcome.reason, "attempt": message.attempts}
    wait = world.retry_policy.delay(message.attempts, None, world.random)
    now = world.clock.now()
    if wait <= (wait_until - now).total_seconds():
        add_event(connection, message, "message.queued", now, evidence)
        return Settled(change(world, connection, message, status=QUEUED), wait)
    return Settled(requeue(world, connection, message, now + timedelta(seconds=wait), evidence=evidence))


def call_unknown(world: Deps, connection: Connection, message: Message, evidence: dict[str, Any]) -> Message:
    """Say that the outcome of the message's attempt is not known, and when somebody has to look into it."""
    now = world.clock.now()
    due = now + timedelta(seconds=world.settings.reconcile_after_seconds)
    if message.test and behaviour_of(message.to_number).answer(message.attempts).is_taken:
        due = next_simulated_receipt(message, now) or due
    held = message.on_unknown == "hold" and not message.test
    return conclude(
        world,
        connection,
        message,
        UNKNOWN,
        NO_ANSWER,
        evidence=evidence,
        provider_name=provider_of(world, message).name,
        due_at=None if held else due,
    )


def lose_lease(world: Deps, connection: Connection, message: Message) -> Message:
    """Say of a message whose sender died within an attempt what is known: nothing."""
    said = {"client_id": show_id("cli", message.client_id), "message_id": show_id("msg", message.id)}
    after_commit(connection, partial(log.warning, "sender_died", **said))
    evidence = {"reason": "the sender died within the attempt", "on_unknown": message.on_unknown}
    if message.on_unknown == "resend" and not message.test:
        evidence |= {"decision": "resend"}
        return requeue(world, connection, message, world.clock.now(), evidence=evidence)
    return call_unknown(world, connection, message, evidence)

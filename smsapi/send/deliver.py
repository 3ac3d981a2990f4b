"""Delivering one message: the same few steps whether its caller waits or a worker took it.

Each attempt is written down before the call, and no transaction is open while Plivo is asked, so that whatever dies
in between leaves a row that says how far it came.
"""

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, insert, update

from smsapi.deps import Deps
from smsapi.errors import StoreUnavailable
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import Message, message_attempts, messages
from smsapi.messages.statuses import EXPIRED, FAILED, FINAL, QUEUED, SENDING, SENT, UNKNOWN, advance
from smsapi.messages.store import add_event, get_message, lock_message
from smsapi.plivo.magic import behaviour_of
from smsapi.plivo.outcomes import Accepted, Dlt, Outcome, Outgoing, Provider, Rejected, Unavailable, Unknown
from smsapi.plivo.retry import send_until_settled

log = get_logger()

_T = TypeVar("_T")

# Plivo takes an expiry of 5 to 10,799 seconds (plivo-facts 2.1: message_expiry).
_SHORTEST_EXPIRY_SECONDS = 5
_STORE_RETRY_SECONDS = 0.25

NO_ANSWER = ("outcome_unknown", "Plivo may have taken the message: no trustworthy answer came back.")
GAVE_UP = ("provider_unavailable", "Plivo could not be reached in time; nothing was sent.")
TOO_LATE = ("expired", "The message expired before it could be sent.")
REJECTED = "rejected_by_provider"
ACCOUNT = ("provider_account", "Plivo refused because of the sending account.")


class _NothingToSendError(Exception):
    """The message is no longer this claim's to send; ``message`` is how it stands."""

    def __init__(self, message: Message) -> None:
        super().__init__()
        self.message = message


def deliver(world: Deps, message_id: UUID, epoch: int, *, wait_until: datetime, attempts: int = 0) -> Message:
    """Send a claimed message, trying again until ``wait_until`` where nothing was sent; return how it then stands.

    The claim is ``epoch``: where another took the message over, nothing is sent. A message that could not be sent by
    then goes back to the queue with its next due time, later the more ``attempts`` were made before, or is given up.

    Raises:
        StoreUnavailable: the store does not answer; what is written by then says how far it came.

    """

    def attempt_once(number: int) -> Outcome:
        message = _insist(world, lambda: _begin_attempt(world, message_id, epoch, number))
        outcome = _call(world, message)
        # Without it all that is left of the call is that its outcome is unknown. Writing it twice changes nothing.
        _insist(world, lambda: _settle_attempt(world, message, outcome))
        return outcome

    try:
        settled = send_until_settled(
            attempt_once,
            # Counted on, not anew: each stay in the queue has to be longer than the one before.
            first_attempt=attempts + 1,
            give_up_at=wait_until,
            clock=world.clock,
            policy=world.retry_policy,
            random=world.random,
        )
    except _NothingToSendError as nothing:
        return nothing.message
    if settled.retry_after_seconds is not None:
        _give_back(world, message_id, epoch, settled.retry_after_seconds)
    with world.database.read() as connection:
        return get_message(connection, message_id)


def _insist(world: Deps, write: Callable[[], _T]) -> _T:
    """Do the write, asking again while the store does not answer, for as long as a lease lasts."""
    until = world.clock.now() + timedelta(seconds=world.settings.lease_seconds)
    while True:
        try:
            return write()
        except StoreUnavailable:
            if world.clock.now() >= until:
                raise
            world.clock.sleep(_STORE_RETRY_SECONDS)


def _begin_attempt(world: Deps, message_id: UUID, epoch: int, number: int) -> Message:
    now = world.clock.now()
    with world.database.transaction() as connection:
        message = lock_message(connection, message_id)
        if message is not None and (message.epoch, message.status, message.attempts) == (epoch, SENDING, number):
            # Written the last time it was tried, and only the acknowledgement was lost: nobody has been asked yet.
            return message
        if message is None or message.epoch != epoch or message.status != QUEUED:
            raise _NothingToSendError(get_message(connection, message_id))
        if message.expires_at is not None and message.expires_at <= now:
            _conclude(world, connection, message, EXPIRED, TOO_LATE)
        else:
            lease = now + timedelta(seconds=world.settings.lease_seconds)
            _change(world, connection, message, status=SENDING, attempts=number, due_at=lease)
            connection.execute(
                insert(message_attempts).values(message_id=message.id, number=number, epoch=epoch, started_at=now)
            )
        begun = get_message(connection, message_id)
    if begun.status != SENDING:
        raise _NothingToSendError(begun)
    return begun


def _call(world: Deps, message: Message) -> Outcome:
    provider = provider_of(world, message)
    started = time.perf_counter()
    outcome = provider.send(_outgoing(world, message))
    seconds = time.perf_counter() - started
    world.metrics.observe_attempt(provider.name, type(outcome).__name__.lower(), seconds)
    log.info(
        "attempt",
        client_id=show_id("cli", message.client_id),
        message_id=show_id("msg", message.id),
        number=message.attempts,
        outcome=type(outcome).__name__.lower(),
        reason=getattr(outcome, "reason", None),
        ms=round(seconds * 1000, 1),
    )
    return outcome


def provider_of(world: Deps, message: Message) -> Provider:
    """Return what sends this message: Plivo, or the stand-in of test keys."""
    return world.test_provider if message.test else world.provider


def _outgoing(world: Deps, message: Message) -> Outgoing:
    shown, public = show_id("msg", message.id), world.settings.public_url
    expires_in = None
    if message.expires_at is not None:
        left = (message.expires_at - world.clock.now()).total_seconds()
        expires_in = max(_SHORTEST_EXPIRY_SECONDS, math.ceil(left))
    return Outgoing(
        message_id=shown,
        to=message.to_number,
        sender=message.sender,
        text=message.text,
        callback_url=None if public is None or message.test else f"{public}/plivo/status/{shown}",
        expires_in_seconds=expires_in,
        dlt=None if message.dlt is None else Dlt(**message.dlt),
        attempt=message.attempts,
    )


def _settle_attempt(world: Deps, attempted: Message, outcome: Outcome) -> None:
    """Write down what came of the attempt, and what that makes of the message."""
    now = world.clock.now()
    with world.database.transaction() as connection:
        message = lock_message(connection, attempted.id)
        if message is None:
            return
        connection.execute(
            update(message_attempts)
            .where(message_attempts.c.message_id == message.id, message_attempts.c.number == attempted.attempts)
            .values(
                finished_at=now,
                outcome=type(outcome).__name__.lower(),
                provider_status=getattr(outcome, "status", None),
                provider_uuid=getattr(outcome, "message_uuid", None),
                reason=getattr(outcome, "reason", None),
            )
        )
        if isinstance(outcome, Accepted):
            # A fact, whoever holds the message by now: Plivo has it. A receipt may even have come before.
            _take(world, connection, message, outcome)
        elif message.epoch == attempted.epoch and message.status == SENDING:
            _take_refusal(world, connection, message, outcome)


def _take(world: Deps, connection: Connection, message: Message, outcome: Accepted) -> None:
    now = world.clock.now()
    status = advance(message.status, SENT)
    _change(
        world,
        connection,
        message,
        status=status,
        provider_name=provider_of(world, message).name,
        provider_uuid=message.provider_uuid or outcome.message_uuid,
        sent_at=message.sent_at or now,
        due_at=next_simulated_receipt(message, now),
        **({"error_code": None, "error_message": None} if message.status not in FINAL else {}),
    )
    if status != message.status:
        world.metrics.count_message(status, test=message.test)
        add_event(connection, message, "message.sent", now, {"message_uuid": outcome.message_uuid})


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


def _take_refusal(world: Deps, connection: Connection, message: Message, outcome: Outcome) -> None:
    name = provider_of(world, message).name
    if isinstance(outcome, Rejected):
        error = ACCOUNT if outcome.kind == "account" else (REJECTED, outcome.reason)
        code = outcome.error_code
        _conclude(world, connection, message, FAILED, error, provider_name=name, provider_error_code=code)
    elif isinstance(outcome, Unknown):
        was_taken = behaviour_of(message.to_number).answer(message.attempts).is_taken
        due = next_simulated_receipt(message, world.clock.now()) if was_taken else None
        _conclude(world, connection, message, UNKNOWN, NO_ANSWER, provider_name=name, due_at=due)
    elif isinstance(outcome, Unavailable):
        # Nothing was sent: it waits again, still under this claim's lease.
        _change(world, connection, message, status=QUEUED)


def _give_back(world: Deps, message_id: UUID, epoch: int, wait_seconds: float) -> None:
    """Put an unsent message back in the queue, or give it up where its time is over."""
    now = world.clock.now()
    due = now + timedelta(seconds=wait_seconds)
    with world.database.transaction() as connection:
        message = lock_message(connection, message_id)
        if message is None or message.epoch != epoch or message.status != QUEUED:
            return
        if due > message.created_at + timedelta(seconds=world.settings.retry_horizon_seconds):
            _conclude(world, connection, message, FAILED, GAVE_UP)
            return
        _change(world, connection, message, due_at=due if message.expires_at is None else min(due, message.expires_at))


def lose_lease(world: Deps, connection: Connection, message: Message) -> None:
    """Say of a message whose sender died within an attempt what is known: nothing."""
    log.warning("sender_died", client_id=show_id("cli", message.client_id), message_id=show_id("msg", message.id))
    name, reason = provider_of(world, message).name, "the sender died within the attempt"
    _conclude(world, connection, message, UNKNOWN, NO_ANSWER, evidence={"reason": reason}, provider_name=name)


def _conclude(
    world: Deps,
    connection: Connection,
    message: Message,
    status: str,
    error: tuple[str, str],
    *,
    evidence: dict[str, Any] | None = None,
    **values: Any,
) -> None:
    code, sentence = error
    _change(
        world,
        connection,
        message,
        **{"due_at": None, **values, "status": status, "error_code": code, "error_message": sentence},
    )
    world.metrics.count_message(status, test=message.test)
    data = {"error": {"code": code, "message": sentence}, **(evidence or {})}
    add_event(connection, message, f"message.{status}", world.clock.now(), data)


def _change(world: Deps, connection: Connection, message: Message, **values: Any) -> None:
    connection.execute(
        update(messages).where(messages.c.id == message.id).values(updated_at=world.clock.now(), **values)
    )

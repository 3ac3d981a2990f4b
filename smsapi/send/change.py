"""Changing a message's row and its history together; every decision is an event with its evidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Connection, and_, func, or_, select, update

from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.errors import StoreUnavailable
from smsapi.messages.models import Message, message_attempts, messages
from smsapi.messages.statuses import CANCELED, EXPIRED, FAILED, QUEUED, UNKNOWN
from smsapi.messages.store import add_event
from smsapi.plivo.outcomes import Provider

NO_ANSWER = ("outcome_unknown", "Plivo may have taken the message: no trustworthy answer came back.")
GAVE_UP = ("provider_unavailable", "Plivo could not be reached in time; nothing was sent.")
TOO_LATE = ("expired", "The message expired before it could be sent.")
ACCOUNT_REFUSED = ("provider_account", "Plivo refused because of the sending account.")
REJECTED = "rejected_by_provider"
OPTED_OUT = "recipient_opted_out"

# Each says that nothing was sent.
NEVER_LEFT: Final = frozenset({FAILED, EXPIRED, CANCELED})
_HELD: Final = "An earlier attempt may have reached Plivo, and no further one is made: "
_WHY_HELD: Final = {
    GAVE_UP[0]: "the time for further attempts is over.",
    TOO_LATE[0]: "the message expired.",
    OPTED_OUT: "the recipient opted out.",
    CANCELED: "the message was canceled.",
}
_REFUSED_LATER: Final = "a later attempt was refused."

_T = TypeVar("_T")

_STORE_RETRY_SECONDS = 0.25


def insist(world: Deps, write: Callable[[], _T]) -> _T:
    """Do the write, asking again while the store does not answer, for as long as a lease lasts.

    Raises:
        StoreUnavailable: it did not answer all that time.

    """
    until = world.clock.now() + timedelta(seconds=world.settings.lease_seconds)
    while True:
        try:
            return write()
        except StoreUnavailable:
            if world.clock.now() >= until:
                raise
            world.clock.sleep(_STORE_RETRY_SECONDS)


def provider_of(world: Deps, message: Message) -> Provider:
    """Return what sends this message: Plivo, or the stand-in of test keys."""
    return world.test_provider if message.test else world.provider


def change(world: Deps, connection: Connection, message: Message, **values: Any) -> Message:
    """Write these values to the message's row, and when; return the message with them."""
    values = {"updated_at": world.clock.now(), **values}
    connection.execute(update(messages).where(messages.c.id == message.id).values(**values))
    return replace(message, **values)


def conclude(
    world: Deps,
    connection: Connection,
    message: Message,
    status: str,
    error: tuple[str, str],
    *,
    evidence: Mapping[str, Any] | None = None,
    **values: Any,
) -> Message:
    """Give the message this status, for this reason, and write the event; unless told otherwise it is not due again.

    A status that says that nothing was sent is not given to a message that may have been taken: see :func:`hold`.
    """
    if status in NEVER_LEFT and may_have_left(connection, [message]):
        return hold(world, connection, message, (status, error[0]), evidence=evidence, **values)
    code, sentence = error
    known = {"due_at": None, **values, "status": status, "error_code": code, "error_message": sentence}
    concluded = change(world, connection, message, **known)
    data = {"error": {"code": code, "message": sentence}, **(evidence or {})}
    add_event(connection, message, f"message.{status}", world.clock.now(), data)
    after_commit(connection, partial(world.metrics.count_message, status, test=message.test))
    return concluded


def may_have_left(connection: Connection, several: Sequence[Message]) -> set[UUID]:
    """Return which of these messages an attempt may have brought to Plivo, by what is known now.

    An attempt that was never completed may have, and so may one of unknown outcome, unless it was ruled out since. Only
    messages that were attempted cost a question.
    """
    attempted = [message.id for message in several if message.attempts]
    if not attempted:
        return set()
    rows = message_attempts.c
    open_ones = and_(or_(rows.outcome.is_(None), rows.outcome == "unknown"), rows.ruled_out_at.is_(None))
    query = select(rows.message_id).where(rows.message_id.in_(attempted), or_(open_ones, rows.outcome == "accepted"))
    return set(connection.execute(query).scalars())


def rule_out(connection: Connection, message: Message, now: datetime) -> None:
    """Note of the attempts made so far, where their outcome is not known, that Plivo did not take the message."""
    rows = message_attempts.c
    open_ones = (or_(rows.outcome.is_(None), rows.outcome == "unknown"), rows.ruled_out_at.is_(None))
    mine = (rows.message_id == message.id, rows.number <= message.attempts)
    connection.execute(update(message_attempts).where(*mine, *open_ones).values(ruled_out_at=now))


def hold(
    world: Deps,
    connection: Connection,
    message: Message,
    instead_of: tuple[str, str],
    *,
    evidence: Mapping[str, Any] | None = None,
    **values: Any,
) -> Message:
    """Leave a message that may have been taken, and that is not tried again, to a person: `unknown`, and never due.

    ``instead_of`` are the status and the code that it would have, had nothing been sent; the event holds both. A
    receipt still settles it, and so does :func:`smsapi.send.after.resolve`.
    """
    status, code = instead_of
    if is_held(message):
        return message
    sentence = _HELD + _WHY_HELD.get(code, _REFUSED_LATER)
    error = {"code": NO_ANSWER[0], "message": sentence}
    known = {**values, "due_at": None, "status": UNKNOWN, "error_code": error["code"], "error_message": sentence}
    held = change(world, connection, message, **known)
    data = {"error": error, **(evidence or {}), "decision": "hold", "instead_of": {"status": status, "code": code}}
    add_event(connection, message, f"message.{UNKNOWN}", world.clock.now(), data)
    after_commit(connection, partial(world.metrics.count_message, UNKNOWN, test=message.test))
    return held


def is_held(message: Message) -> bool:
    """Say whether :func:`hold` left the message to a person.

    Then a late answer that Plivo did not take the last attempt does not bring it back into its lane.
    """
    return message.status == UNKNOWN and (message.error_message or "").startswith(_HELD)


def requeue(
    world: Deps,
    connection: Connection,
    message: Message,
    due: datetime,
    *,
    evidence: Mapping[str, Any] | None = None,
    in_the_end: tuple[str, str] = GAVE_UP,
) -> Message:
    """Put a message back in its lane, or give it up, saying why, where its horizon is over.

    With ``evidence`` it is a decision, and an event. It is looked at no later than when it expires. The epoch moves on,
    so that whoever held it can no longer speak.
    """
    # Of what waited long for its turn, by an operator's pause or behind others, the first refusal is not the last.
    begun = _first_attempt_at(connection, message) or message.send_at or message.created_at
    if (due - begun).total_seconds() > world.settings.retry_horizon_seconds:
        return conclude(world, connection, message, FAILED, in_the_end, evidence=evidence)
    due = due if message.expires_at is None else min(due, message.expires_at)
    values = {"status": QUEUED, "due_at": due, "epoch": message.epoch + 1, "error_code": None, "error_message": None}
    queued = change(world, connection, message, **values)
    if evidence is not None:
        add_event(connection, message, "message.queued", world.clock.now(), evidence)
    return queued


def _first_attempt_at(connection: Connection, message: Message) -> datetime | None:
    rows = message_attempts.c
    query = select(func.min(rows.started_at)).where(rows.message_id == message.id)
    started: datetime | None = connection.execute(query).scalar_one()
    return started

"""Changing a message's row and its history together; every decision is an event with its evidence."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select, update

from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.errors import StoreUnavailable
from smsapi.messages.models import Message, message_attempts, messages
from smsapi.messages.statuses import FAILED, QUEUED
from smsapi.messages.store import add_event
from smsapi.plivo.outcomes import Provider

NO_ANSWER = ("outcome_unknown", "Plivo may have taken the message: no trustworthy answer came back.")
GAVE_UP = ("provider_unavailable", "Plivo could not be reached in time; nothing was sent.")
TOO_LATE = ("expired", "The message expired before it could be sent.")
ACCOUNT_REFUSED = ("provider_account", "Plivo refused because of the sending account.")
REJECTED = "rejected_by_provider"
OPTED_OUT = "recipient_opted_out"

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
    """Give the message this status, for this reason, and write the event; unless told otherwise it is not due again."""
    code, sentence = error
    known = {"due_at": None, **values, "status": status, "error_code": code, "error_message": sentence}
    concluded = change(world, connection, message, **known)
    data = {"error": {"code": code, "message": sentence}, **(evidence or {})}
    add_event(connection, message, f"message.{status}", world.clock.now(), data)
    after_commit(connection, partial(world.metrics.count_message, status, test=message.test))
    return concluded


def requeue(
    world: Deps,
    connection: Connection,
    message: Message,
    due: datetime,
    *,
    evidence: Mapping[str, Any] | None = None,
    in_the_end: tuple[str, str] = GAVE_UP,
) -> Message:
    """Put a message that has not left back in its lane, or give it up, saying why, where its horizon is over.

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

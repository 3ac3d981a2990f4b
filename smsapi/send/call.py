"""The call itself: one message, or several that share a call, given to what sends them, timed and logged."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import Message
from smsapi.plivo.outcomes import Dlt, JoinedOutcome, Outcome, Outgoing, OutgoingToMany, Unavailable
from smsapi.send.change import provider_of
from smsapi.send.stops import CanceledAmong, is_stopped, no_batch

log = get_logger()

_Any = TypeVar("_Any", Outcome, JoinedOutcome)

# Plivo takes an expiry of 5 to 10,799 seconds (plivo-facts 2.1: message_expiry).
_SHORTEST_EXPIRY_SECONDS = 5
_HELD_UP = Unavailable("the lease was over before the call", local=True)
_STOPPED = Unavailable("it was stopped before the call", local=True)


@dataclass(frozen=True, slots=True)
class Called(Generic[_Any]):
    """What came of an attempt. ``tell`` logs and counts it, for when it is written down: that comes before anything."""

    outcome: _Any
    tell: Callable[[], None]


def _say_nothing() -> None:
    """Tell of an attempt that was stopped before its call: whoever stopped it has said so."""


def check_callable(world: Deps, message: Message) -> None:
    """Raise what the call for this message would, before any attempt is begun; nothing is sent."""
    _outgoing(world, message, "")


def call(world: Deps, message: Message, *, canceled_among: CanceledAmong = no_batch) -> Called[Outcome]:
    """Make the attempt that was begun for the message, and return what came of it.

    One that waited for its thread asks again before: see :func:`smsapi.send.stops.is_stopped`.
    """
    provider = provider_of(world, message)
    world.checkpoint("call.before")
    shown = show_id("msg", message.id)
    if _is_held_up(world, message):
        return Called(_HELD_UP, partial(log.warning, "held_up", message_id=shown, number=message.attempts))
    if is_stopped(world, [message], canceled_among):
        return Called(_STOPPED, _say_nothing)
    started = time.perf_counter()
    outcome = provider.send(_outgoing(world, message, shown))
    seconds = time.perf_counter() - started
    return Called(outcome, partial(_note, world, message, outcome, seconds, message_id=shown, number=message.attempts))


def call_joined(
    world: Deps, several: Sequence[Message], chunk_id: UUID, *, canceled_among: CanceledAmong = no_batch
) -> Called[JoinedOutcome]:
    """Make the one attempt that was begun for all of these live messages, and return what came of it.

    Where it has to ask again and one of them is stopped, none is sent: the others go back to their lane.
    """
    world.checkpoint("joined.before")
    shown = show_id("chk", chunk_id)
    if _is_held_up(world, several[0]):
        return Called(_HELD_UP, partial(log.warning, "held_up", chunk_id=shown, recipients=len(several)))
    if is_stopped(world, several, canceled_among):
        return Called(_STOPPED, _say_nothing)
    started = time.perf_counter()
    outcome = world.provider.send_joined(_outgoing_to_many(world, several, shown))
    seconds = time.perf_counter() - started
    return Called(outcome, partial(_note, world, several[0], outcome, seconds, chunk_id=shown, recipients=len(several)))


def _is_held_up(world: Deps, message: Message) -> bool:
    """Say whether this process stood still since the attempt began.

    Before the call is over others may then take its outcome for unknown, and what Plivo takes after the lease is not
    looked for.
    """
    latest = world.clock.now() + timedelta(seconds=world.settings.plivo_total_timeout_seconds)
    return message.due_at is not None and message.due_at <= latest


def _note(world: Deps, message: Message, outcome: Outcome | JoinedOutcome, seconds: float, **said: object) -> None:
    came_to = type(outcome).__name__.lower().removesuffix("together")
    world.metrics.observe_attempt(provider_of(world, message).name, came_to, seconds)
    log.info(
        "attempt",
        client_id=show_id("cli", message.client_id),
        **said,
        outcome=came_to,
        reason=getattr(outcome, "reason", None),
        ms=round(seconds * 1000, 1),
    )


def _outgoing(world: Deps, message: Message, shown: str) -> Outgoing:
    public = world.settings.public_url
    return Outgoing(
        message_id=shown,
        to=message.to_number,
        sender=message.sender,
        text=message.text,
        callback_url=None if public is None or message.test else f"{public}/plivo/status/{shown}",
        expires_in_seconds=_expires_in(world, message),
        dlt=_dlt(message),
        attempt=message.attempts,
        not_after=message.due_at,
    )


def _outgoing_to_many(world: Deps, several: Sequence[Message], shown: str) -> OutgoingToMany:
    first, public = several[0], world.settings.public_url
    return OutgoingToMany(
        chunk_id=shown,
        numbers=tuple(message.to_number for message in several),
        sender=first.sender,
        text=first.text,
        callback_url=None if public is None else f"{public}/plivo/status/batch/{shown}",
        expires_in_seconds=_expires_in(world, first),
        dlt=_dlt(first),
        not_after=first.due_at,
    )


def _expires_in(world: Deps, message: Message) -> int | None:
    if message.expires_at is None:
        return None
    left = (message.expires_at - world.clock.now()).total_seconds()
    return max(_SHORTEST_EXPIRY_SECONDS, math.ceil(left))


def _dlt(message: Message) -> Dlt | None:
    return None if message.dlt is None else Dlt(**message.dlt)

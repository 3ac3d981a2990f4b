"""Standstill of messages and batches: the first of the things that keep them from being sent."""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from smsapi.messages.lanes import TEST, name_of
from smsapi.messages.models import Message
from smsapi.messages.statuses import SCHEDULED, UNKNOWN, WAITING
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, PAUSE, Gate, read_stops
from smsapi.workers.store import count_alive

WORKER: Final = "worker"
# What is due for less may be in the hands of a process that is just being started again.
GRACE: Final = timedelta(seconds=5)
#: In the order in which they are looked for: somebody who decides; what an operator paused; credit or
#: credentials at Plivo; Plivo itself, which fails; a process that sends.
REASONS: Final = ("decision", "pause", "account", "circuit", WORKER)
DESCRIPTION: Final = (
    "What it waits for. `decision`: what became of it is not known, and a person decides. "
    "`pause`: an operator has paused the sending. `account`: Plivo refuses the account, such as for credit. `circuit`: "
    "Plivo fails or does not answer, and is tried again by itself. `worker`: no process that sends is alive. Null: "
    "nothing but its turn or its time, or it does not wait."
)


def waits_for(message: Message, hold_of: Callable[[Message], str | None]) -> str | None:
    """Return what this message waits for, one of :data:`REASONS`, or None: nothing but its turn, if it waits at all."""
    if message.status == UNKNOWN and message.due_at is None:
        return "decision"
    return hold_of(message) if message.status in WAITING else None


def read_holds(
    connection: Connection, found: Iterable[Message], now: datetime, closed: Sequence[Gate] | None = None
) -> Callable[[Message], str | None]:
    """Return what tells of each message what keeps it from being sent; reads nothing where none waits.

    ``closed`` are the gates that stop anything (:func:`smsapi.pacing.gates.read_stops`), where they have been read.
    """
    if not any(message.status in WAITING for message in found):
        return lambda _message: None
    stops = {gate.key for gate in (read_stops(connection) if closed is None else closed)}
    is_anybody_sending = count_alive(connection, now) > 0

    def hold(message: Message) -> str | None:
        due_at = message.due_at
        if message.status == SCHEDULED and (due_at is None or due_at > now):
            return None
        is_left = not is_anybody_sending and due_at is not None and now - due_at > GRACE
        return gate_of(message.lane, stops) or (WORKER if is_left else None)

    return hold


def gate_of(lane: int, stops: AbstractSet[str]) -> str | None:
    """Return the kind of gate that keeps a lane from being sent, or None; test keys' messages pass them all."""
    if lane == TEST:
        return None
    found = next((gate for gate in (PAUSE, ACCOUNT, CIRCUIT) if gate in stops), None)
    return PAUSE if found is None and f"{PAUSE}:{name_of(lane)}" in stops else found

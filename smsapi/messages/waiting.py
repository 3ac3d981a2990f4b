"""What a message or a batch waits for: the first of the things that keep it from being sent."""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from sqlalchemy import Connection

from smsapi.deps import Deps
from smsapi.messages.lanes import TEST, name_of
from smsapi.messages.models import Message
from smsapi.messages.statuses import QUEUED, SCHEDULED, UNKNOWN
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, PAUSE, read_stops

#: In the order in which they are looked for: its own time; somebody who decides; what an operator paused; credit or
#: credentials at Plivo; Plivo itself, which fails; a process that sends.
REASONS: Final = ("send_at", "decision", "pause", "account", "circuit", "worker")
DESCRIPTION: Final = (
    "What it waits for. `send_at`: its own time. `decision`: what became of it is not known, and a person decides. "
    "`pause`: an operator has paused the sending. `account`: Plivo refuses the account, such as for credit. `circuit`: "
    "Plivo fails or does not answer, and is tried again by itself. `worker`: no process that sends is alive. Null: "
    "nothing but its turn, or it does not wait."
)


def waits_for(message: Message, hold_of_lane: Callable[[int], str | None]) -> str | None:
    """Return what this message waits for, one of :data:`REASONS`, or None: nothing but its turn, if it waits at all."""
    if message.status == SCHEDULED:
        return "send_at"
    if message.status == UNKNOWN and message.due_at is None:
        return "decision"
    return hold_of_lane(message.lane) if message.status == QUEUED else None


def read_holds(world: Deps, connection: Connection, found: Iterable[Message]) -> Callable[[int], str | None]:
    """Return what tells of each lane what keeps these messages from being sent; reads nothing where none is queued."""
    if not any(message.status == QUEUED for message in found):
        return lambda _lane: None
    stops = {gate.key for gate in read_stops(connection)}
    return lambda lane: hold_of(world, lane, stops)


def hold_of(world: Deps, lane: int, stops: AbstractSet[str]) -> str | None:
    """Return what keeps a whole lane from being sent, or None; ``stops`` are the keys of the gates that are closed.

    Test keys' messages, by which nobody is texted, wait for a process that sends and for nothing else.
    """
    closed = () if lane == TEST else (PAUSE, ACCOUNT, CIRCUIT)
    found = next((gate for gate in closed if gate in stops), None)
    if found is None and closed and f"{PAUSE}:{name_of(lane)}" in stops:
        found = PAUSE
    return found or (None if world.figures.get().workers_alive else "worker")

"""What a message or a batch waits for: the first of the things that keep it from being sent."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Final

from smsapi.errors import Unavailable
from smsapi.messages.lanes import TEST, name_of
from smsapi.messages.models import Message
from smsapi.messages.statuses import QUEUED, SCHEDULED, UNKNOWN
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, PAUSE
from smsapi.remembered import Remembered

#: In the order in which they are looked for: its own time; somebody who decides; what an operator paused; credit or
#: credentials at Plivo; Plivo itself, which fails; a process that sends.
REASONS: Final = ("send_at", "decision", "pause", "account", "circuit", "worker")
DESCRIPTION: Final = (
    "What it waits for. `send_at`: its own time. `decision`: what became of it is not known, and a person decides. "
    "`pause`: an operator has paused the sending. `account`: Plivo refuses the account, such as for credit. `circuit`: "
    "Plivo fails or does not answer, and is tried again by itself. `worker`: no process that sends is alive. Null: "
    "nothing but its turn, or it does not wait."
)


def is_anybody_sending(figures: Remembered[Any]) -> bool:
    """Say whether a process that sends is alive, out of :attr:`smsapi.deps.Deps.figures`.

    True where the store does not tell in time: whoever asks for a message gets it all the same.
    """
    try:
        return bool(figures.get().workers_alive)
    except Unavailable:
        return True


def waits_for(
    message: Message, stops: AbstractSet[str], *, now: datetime, is_anybody_sending: Callable[[], bool]
) -> str | None:
    """Return what this message waits for, one of :data:`REASONS`, or None: nothing but its turn, or it does not wait.

    ``stops`` are the keys of the gates that are closed.
    """
    # Once it is due, its status is the same until somebody takes it, and its own time is no reason any more.
    is_early = message.due_at is not None and message.due_at > now
    if message.status == SCHEDULED and is_early:
        return "send_at"
    if message.status == UNKNOWN and message.due_at is None:
        return "decision"
    if message.status not in {QUEUED, SCHEDULED}:
        return None
    return hold_of(message.lane, stops, is_anybody_sending=is_anybody_sending)


def hold_of(lane: int, stops: AbstractSet[str], *, is_anybody_sending: Callable[[], bool]) -> str | None:
    """Return what keeps a whole lane from being sent, or None. Test keys' messages wait for a sender alone."""
    closed = () if lane == TEST else (PAUSE, ACCOUNT, CIRCUIT)
    found = next((gate for gate in closed if gate in stops), None)
    if found is None and closed and f"{PAUSE}:{name_of(lane)}" in stops:
        found = PAUSE
    return found or (None if is_anybody_sending() else "worker")

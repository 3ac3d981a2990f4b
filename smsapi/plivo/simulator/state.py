"""What the simulator knows: the texts it took, and the calls it counted."""

import math
import uuid
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from smsapi.plivo.magic import Behaviour


@dataclass(frozen=True, slots=True)
class Taken:
    """One text that was taken; numbers are as Plivo shows them, without ``+``."""

    message_uuid: str
    sender: str
    to: str
    text: str
    url: str | None
    method: str
    log: str
    requester_ip: str
    units: int
    taken_at: datetime
    behaviour: Behaviour
    scale: float

    def progress(self, now: datetime) -> tuple[str, str | None, datetime]:
        """Return the state, its error code and the moment it was reached, as of now.

        A message that no report will ever speak of is sent at once.
        """
        if not self.behaviour.receipts:
            return "sent", None, self.taken_at
        elapsed = (now - self.taken_at).total_seconds()
        reached = self.behaviour.reached(elapsed / self.scale if self.scale else math.inf)
        if reached is None:
            return "queued", None, self.taken_at
        return reached.status, reached.error_code, self.after(reached.delay_seconds)

    def after(self, delay_seconds: float) -> datetime:
        """Return the moment so long after taking, in scaled seconds."""
        return self.taken_at + timedelta(seconds=delay_seconds * self.scale)


class Store:
    """Every text taken since the last reset, in order, and found by number and id. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._all: list[Taken] = []
        self._by_uuid: dict[str, Taken] = {}
        self._by_number: dict[str, list[Taken]] = {}
        self._attempts: Counter[tuple[str, str | None, str]] = Counter()

    def take(self, messages: list[Taken]) -> None:
        """Keep the messages, all in one step."""
        with self._lock:
            self._all.extend(messages)
            for message in messages:
                self._by_uuid[message.message_uuid] = message
                self._by_number.setdefault(message.to, []).append(message)

    def find(self, message_uuid: str) -> Taken | None:
        """Return the message with that id."""
        with self._lock:
            return self._by_uuid.get(message_uuid)

    def taken(self, to: str | None = None) -> list[Taken]:
        """Return the messages, oldest first; only those to the number (without ``+``) where one is given."""
        with self._lock:
            return list(self._all if to is None else self._by_number.get(to, ()))

    def count(self, to: str | None = None) -> int:
        """Return how many messages were taken."""
        with self._lock:
            return len(self._all if to is None else self._by_number.get(to, ()))

    def texts_by_number(self) -> dict[str, int]:
        """Return how many messages each number got."""
        with self._lock:
            return {number: len(messages) for number, messages in self._by_number.items()}

    def count_numbers(self) -> tuple[int, int]:
        """Return how many numbers got a message, and how many of them more than one."""
        with self._lock:
            return len(self._by_number), sum(len(messages) > 1 for messages in self._by_number.values())

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._all.clear()
            self._by_uuid.clear()
            self._by_number.clear()
            self._attempts.clear()

    def count_attempt(self, to: str, url: str | None, text: str) -> int:
        """Count one more attempt at what looks like the same message, and return which one it is, from 1.

        Plivo has no idempotency key; a sender's own callback URL for each message is what tells two messages apart.
        """
        with self._lock:
            self._attempts[to, url, text] += 1
            return self._attempts[to, url, text]

    def forget_attempts(self, to: str, url: str | None, text: str) -> None:
        """Start to count anew; for once the message was taken."""
        with self._lock:
            self._attempts.pop((to, url, text), None)


class CallLimit:
    """At most so many calls in any window of so many seconds; None is no limit. Safe to share between threads."""

    def __init__(self, calls: int | None, window_seconds: float) -> None:
        self._calls = calls
        self._window_seconds = window_seconds
        self._lock = Lock()
        self._passed: deque[datetime] = deque()

    def wait_seconds(self, now: datetime) -> int | None:
        """Let the call pass (None) and count it, or return in how many whole seconds one will; that costs nothing."""
        if self._calls is None:
            return None
        with self._lock:
            horizon = now - timedelta(seconds=self._window_seconds)
            while self._passed and self._passed[0] <= horizon:
                self._passed.popleft()
            if len(self._passed) < self._calls:
                self._passed.append(now)
                return None
            if not self._passed:
                return math.ceil(self._window_seconds)
            return max(1, math.ceil((self._passed[0] - horizon).total_seconds()))


def new_uuid() -> str:
    """Return an id as Plivo makes them."""
    return str(uuid.uuid4())

"""Providers that a test puts in Plivo's place, where it has to look at the very moment of the call."""

import threading
from collections.abc import Callable, Sequence
from uuid import uuid4

from smsapi.plivo.outcomes import Accepted, Outcome, Outgoing


class Scripted:
    """Gives these outcomes in turn, the last one for ever, and remembers what it was asked."""

    name = "plivo"

    def __init__(self, *outcomes: Outcome, before: Callable[[Outgoing], None] = lambda _: None) -> None:
        self._outcomes: Sequence[Outcome] = outcomes
        self._before = before
        self._lock = threading.Lock()
        self.asked: list[Outgoing] = []

    def send(self, message: Outgoing) -> Outcome:
        with self._lock:
            self.asked.append(message)
            place = len(self.asked) - 1
        self._before(message)
        return self._outcomes[min(place, len(self._outcomes) - 1)]


class Died(BaseException):
    """Stands for the death of the process within the call: nothing after it runs that catches exceptions."""


def taken() -> Accepted:
    return Accepted(str(uuid4()))

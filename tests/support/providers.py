"""Providers that a test puts in Plivo's place, where it has to look at the very moment of the call."""

import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from smsapi.plivo.lookup import LookupFailed, Page, Query, Record
from smsapi.plivo.outcomes import Accepted, AcceptedTogether, JoinedOutcome, Outcome, Outgoing, OutgoingToMany

NOTHING = Page((), 0, None)

Listed = Callable[[Query], Page | LookupFailed] | Sequence[Page | LookupFailed]


class Scripted:
    """Gives these outcomes in turn, the last one for ever, and remembers what it was asked.

    ``listed`` may be set at any time: the pages to answer look-ups with, likewise in turn, or what answers them;
    without any, every look-up finds an empty list.
    """

    name = "plivo"

    def __init__(
        self,
        *outcomes: Outcome | AcceptedTogether,
        before: Callable[[Outgoing | OutgoingToMany], None] = lambda _: None,
        listed: Listed = (),
    ) -> None:
        self._outcomes: Sequence[Any] = outcomes
        self._before = before
        self._lock = threading.Lock()
        self.asked: list[Any] = []
        self.queries: list[Query] = []
        self.listed = listed

    @property
    def listed(self) -> Listed:
        return self._listed

    @listed.setter
    def listed(self, listed: Listed) -> None:
        self._listed = listed
        self._pages_given = 0

    def send(self, message: Outgoing) -> Outcome:
        with self._lock:
            self.asked.append(message)
            place = len(self.asked) - 1
        self._before(message)
        return self._outcomes[min(place, len(self._outcomes) - 1)]

    def send_joined(self, message: OutgoingToMany) -> JoinedOutcome:
        """Give the next outcome to all; ``taken()`` is as many UUIDs as there are numbers."""
        with self._lock:
            self.asked.append(message)
            place = len(self.asked) - 1
        self._before(message)
        outcome = self._outcomes[min(place, len(self._outcomes) - 1)]
        if isinstance(outcome, Accepted):
            return AcceptedTogether(tuple(str(uuid4()) for _ in message.numbers))
        return outcome

    def look_up(self, query: Query) -> Page | LookupFailed:
        with self._lock:
            self.queries.append(query)
            place = self._pages_given
            self._pages_given += 1
        if callable(self._listed):
            return self._listed(query)
        return self._listed[min(place, len(self._listed) - 1)] if self._listed else NOTHING


class Died(BaseException):
    """Stands for the death of the process within the call: nothing after it runs that catches exceptions."""


def taken() -> Accepted:
    return Accepted(str(uuid4()))


def page(*records: Record) -> Page:
    """The only page of a list that holds these."""
    return Page(records, len(records), None)

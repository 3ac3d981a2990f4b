"""Replacements for the far side and for the store, to be given to ``make_app``: real code, ordered to misbehave."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

from sqlalchemy import Connection

from smsapi.db import Database
from smsapi.errors import StoreUnavailable
from smsapi.plivo.lookup import LookupFailed, Page, Query
from smsapi.plivo.outcomes import Accepted, Outcome, Outgoing


class ScriptedProvider:
    """Answers each call as the script says, and remembers what it was asked to send."""

    name = "plivo"

    def __init__(self, answer: Callable[[Outgoing], Outcome] | Outcome | None = None) -> None:
        self._answer = answer
        self.calls: list[Outgoing] = []

    def send(self, message: Outgoing) -> Outcome:
        self.calls.append(message)
        if self._answer is None:
            return Accepted(str(uuid4()))
        return self._answer(message) if callable(self._answer) else self._answer

    def look_up(self, query: Query) -> Page | LookupFailed:
        return Page((), 0, None)


class GatedProvider(ScriptedProvider):
    """Says when a call has reached it, and answers none before the gate is opened."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.reached = threading.Event()
        self.gate = threading.Event()

    def _wait(self, _message: Outgoing) -> Outcome:
        self.reached.set()
        assert self.gate.wait(30), "nobody opened the gate"
        return Accepted(str(uuid4()))


class FailingDatabase(Database):
    """A store that is lost at the moment of committing, as often as it is told; what it had is rolled back."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.passing = 0
        self.failures = 0

    def fail(self, times: int, *, after: int = 0) -> None:
        """Let so many transactions pass, then lose so many."""
        self.passing, self.failures = after, times

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with super().transaction() as connection:
            yield connection
            self._maybe_fail()

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        with super().transaction() as connection:
            yield connection
            self._maybe_fail()

    def _maybe_fail(self) -> None:
        if self.passing:
            self.passing -= 1
        elif self.failures:
            self.failures -= 1
            raise StoreUnavailable("The database does not answer; try again.", retry_after_seconds=1)


def count_rows(database: Database, table: str) -> int:
    with database.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())

"""Time as a dependency, so that no test sleeps to see time pass."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let that many seconds pass."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""
        time.sleep(seconds)


class SharedClock:
    """The time of something that all hosts share, such as the database, run on between two looks at it.

    Leases and due times are compared across hosts, whose own clocks differ and jump. Between looks it runs on the
    machine's monotonic clock, which does not jump; before the first one it is the machine's own time. Thread-safe.
    """

    def __init__(self, look: Callable[[], datetime]) -> None:
        self._look = look
        # Replaced as a whole, so that no reader sees one of a pair.
        self._anchor = (datetime.now(UTC), time.monotonic())

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        moment, counted = self._anchor
        return moment + timedelta(seconds=time.monotonic() - counted)

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""
        time.sleep(seconds)

    def set(self) -> float:
        """Look, and go on from there; return by how many seconds that moved the clock. Raises what the look raises."""
        asked = time.monotonic()
        moment = self._look()
        answered = time.monotonic()
        before = self.now()
        # The moment lies somewhere between the question and its answer.
        self._anchor = (moment, (asked + answered) / 2)
        return (self.now() - before).total_seconds()


class ManualClock:
    """A clock that moves only when told to; for tests."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the moment that was last set."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move forward by so many seconds, at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move forward (or, with a negative number, back) by so many seconds."""
        self._now += timedelta(seconds=seconds)


def rfc3339(moment: datetime) -> str:
    """Return the moment as RFC 3339 in UTC with milliseconds and a ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

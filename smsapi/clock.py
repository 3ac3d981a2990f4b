"""Time as a dependency, so that no test sleeps to see time pass."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

# CLOCK_MONOTONIC stops while a Linux host is suspended, and what others hold for over by then would seem to be held on.
_COUNTER: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Return seconds from a moment in the past that stays the same; they go on while the host is suspended."""
    return time.clock_gettime(_COUNTER)


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

    Leases and due times are compared across hosts, whose own clocks differ and jump. Between looks it runs on seconds
    that pass whatever the machine's own clock is set to, also while it is suspended; before the first look it is the
    machine's own time. Thread-safe.
    """

    def __init__(self, look: Callable[[], datetime], *, counter: Callable[[], float] = elapsed) -> None:
        self._look = look
        self._counter = counter
        # Replaced as a whole, so that no reader sees one of a pair.
        self._anchor = (datetime.now(UTC), counter())

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        moment, counted = self._anchor
        return moment + timedelta(seconds=self._counter() - counted)

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""
        time.sleep(seconds)

    def set(self) -> float:
        """Look, and go on from there; return by how many seconds that moved the clock. Raises what the look raises."""
        asked = self._counter()
        moment = self._look()
        answered = self._counter()
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

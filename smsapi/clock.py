"""Time as a dependency, so that no test sleeps to see time pass."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

# CLOCK_MONOTONIC stops while a Linux host is suspended, and what others hold for over by then would seem to be held on.
_COUNTER: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


# RFC 3339 section 5.6, with T and Z in either case. Not taken are a space for the T, which only a note there allows,
# and the second 60, which no clock of ours can show.
RFC3339: Final = (
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_WRITTEN: Final = re.compile(RFC3339, re.ASCII)
_SECONDS: Final = len("2026-12-24T18:00:00")
_DAY: Final = timedelta(days=1)


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


def read_rfc3339(written: str) -> datetime:
    """Return the moment that a text says, aware, in UTC; what is finer than a microsecond is left out.

    This is the one reader of times from outside. Raises ValueError, with a sentence for the caller, for everything
    that RFC 3339 does not know (ISO 8601 has many more forms), for a second 60, and for a day that no calendar has.
    """
    found = _WRITTEN.fullmatch(written)
    if found is None:
        raise ValueError(
            "Must be a time in RFC 3339 with its offset, such as 2026-12-24T18:00:00Z, which is UTC, or "
            "2026-12-24T19:00:00+01:00."
        )
    seconds, fraction, offset = written[:_SECONDS], (found[4] or "")[:7], found[5]
    try:
        moment = datetime.fromisoformat(
            f"{seconds.upper()}{fraction.ljust(7, '0') if fraction else ''}{offset.upper()}"
        )
        # Within a day of the calendar's ends the change to another zone would overflow later, far from here.
        moment - _DAY, moment + _DAY
        return moment.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValueError("Must be a day of the calendar, and not at the calendar's ends.") from None

"""Keeping the clock that all hosts share: set at the start, and again now and then."""

import threading
from contextlib import suppress
from typing import Final

from smsapi.clock import Clock, SharedClock, SystemClock
from smsapi.db import Database
from smsapi.deps import Deps
from smsapi.log import get_logger

log = get_logger()

_INTERVAL_SECONDS: Final = 30.0
_WORTH_A_LINE_SECONDS: Final = 1.0


def clock_of(database: Database) -> Clock:
    """Return the time that the service goes by: PostgreSQL's, which several hosts may share, or this machine's.

    The first is this machine's too until it is set.
    """
    return SharedClock(database.time) if database.is_postgresql else SystemClock()


def set_clock_of(database: Database) -> Clock:
    """Return the same, set by one look at the database. Raises :class:`~smsapi.errors.StoreUnavailable`."""
    clock = clock_of(database)
    if isinstance(clock, SharedClock):
        clock.set()
    return clock


class Timekeeper:
    """Sets the clock of one process, on a thread of its own, from ``start`` to ``stop``; any other clock it lets be."""

    def __init__(self, world: Deps, *, interval_seconds: float = _INTERVAL_SECONDS) -> None:
        self._clock = world.clock
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Set the clock now, where the store answers, and go on doing so."""
        if isinstance(self._clock, SharedClock):
            self._set(self._clock)
            self._thread = threading.Thread(target=self._keep, args=(self._clock,), name="smsapi-clock", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop setting it; it runs on."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self, clock: SharedClock) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self._set(clock)

    def _set(self, clock: SharedClock) -> None:
        # It runs on as it is; the next look sets it, so that whatever is raised must not end the thread.
        with suppress(Exception):
            moved = clock.set()
            if abs(moved) > _WORTH_A_LINE_SECONDS:
                log.warning("clock_set", moved_seconds=round(moved, 3))

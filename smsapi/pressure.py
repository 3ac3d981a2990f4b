"""How full the queue is, looked up now and then, so that a send that would wait for ever is refused at once."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from smsapi.errors import Unavailable

_LOOK_AGAIN_SECONDS: Final = 2.0
# However long the look takes, no more than a fiftieth of the time goes to it.
_LOOK_SHARE: Final = 50


@dataclass(frozen=True, slots=True)
class Load:
    """What is due of one lane: how much, and since when."""

    waiting: int
    oldest_due_at: datetime


class Pressure:
    """Thread-safe. ``look`` reads the store; it is called by one thread at a time, every two seconds at most."""

    def __init__(self, look: Callable[[], Mapping[int, Load]]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._loads: Mapping[int, Load] = {}
        self._next_look = float("-inf")

    def load(self, lane: int) -> Load | None:
        """Return what was due of the lane at the last look, or None where nothing was."""
        if time.monotonic() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        return self._loads.get(lane)

    def _refresh(self) -> None:
        started = time.monotonic()
        try:
            self._loads = self._look()
        except Unavailable:
            return  # whoever comes next meets the store itself
        finally:
            took = time.monotonic() - started
            self._next_look = time.monotonic() + max(_LOOK_AGAIN_SECONDS, took * _LOOK_SHARE)

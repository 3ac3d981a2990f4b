"""Poller: a thread that looks for work, at once when it is rung, and otherwise after as long as its last look said."""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from smsapi.errors import Unavailable
from smsapi.log import get_logger

log = get_logger()

# How many sweeps' time a poller rests that no sweep reassures, before it looks for itself.
SWEEPS_MISSED: Final = 2
# However often it is rung: what comes from moment to moment is found together.
_SHORTEST_REST_SECONDS: Final = 0.05


class Lookout:
    """Calls ``look`` from ``start`` to ``stop``, on a thread of its own that outlives whatever a look raises.

    ``look`` is given a function that says whether it should come to its end, and returns for how many seconds there is
    then nothing to do; longer than ``longest_seconds`` it never rests, unless ``reassure`` says meanwhile that there is
    nothing. However often it is rung, it rests for ``shortest_seconds``, which ``look`` may set, where there is nothing
    to do. ``name`` is what it looks for, and stands in the log.
    """

    def __init__(self, name: str, look: Callable[[Callable[[], bool]], float], *, longest_seconds: float) -> None:
        self.shortest_seconds = _SHORTEST_REST_SECONDS
        self._name = name
        self._look = look
        self._longest = longest_seconds
        self._reassured_at = -math.inf
        self._rung = threading.Event()
        self._rung_at_once = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look now, and go on looking."""
        self._thread = threading.Thread(target=self._run, name=f"smsapi-{self._name}", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Begin no further look; the one that is under way may end within the time."""
        self._stopping.set()
        self.ring(at_once=True)
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    @property
    def thread(self) -> threading.Thread | None:
        """Return the thread that looks; None before the start."""
        return self._thread

    def ring(self, *, at_once: bool = False) -> None:
        """Say that there may be something new; ``at_once`` ends even the shortest rest."""
        self._rung.set()
        if at_once:
            self._rung_at_once.set()

    def reassure(self, asked_at: float) -> None:
        """Say that at this moment, by ``time.monotonic``, there was nothing due: whoever asked will ask again."""
        self._reassured_at = asked_at

    def _run(self) -> None:
        while True:
            self._rung.clear()
            self._rung_at_once.clear()
            # After the bells are cleared: the last ring of all would otherwise be lost.
            if self._stopping.is_set():
                return
            rest = self._longest
            # The thread must live on, whatever is raised, also by what is said of it.
            with suppress(Exception):
                rest = self._look_once()
            if rest > 0:
                self._rest(rest)

    def _look_once(self) -> float:
        try:
            return self._look(self._stopping.is_set)
        except Unavailable:
            log.warning("lookout_waits", what=self._name, reason="the database does not answer")
        except Exception:  # what was not committed is found again
            log.exception("lookout_failed", what=self._name)
        return self._longest

    def _rest(self, seconds: float) -> None:
        since = time.monotonic()
        self._rung_at_once.wait(min(seconds, self.shortest_seconds))
        while not self._rung.is_set():
            until = min(since + seconds, max(since, self._reassured_at) + self._longest)
            left = until - time.monotonic()
            if left <= 0:
                return
            self._rung.wait(left)

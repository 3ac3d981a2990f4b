"""A thread that looks for work: at once when it is rung, and otherwise after as long as its last look said."""

import threading
from collections.abc import Callable
from contextlib import suppress

from smsapi.errors import Unavailable
from smsapi.log import get_logger

log = get_logger()


class Lookout:
    """Calls ``look`` from ``start`` to ``stop``, on a thread of its own that outlives whatever a look raises.

    ``look`` is given a function that says whether it should come to its end, and returns for how many seconds there is
    then nothing to do; longer than ``longest_seconds`` it never rests. However often it is rung, it rests for
    ``shortest_seconds`` where there is nothing to do. ``name`` is what it looks for, in the plural, and stands in the
    log.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[Callable[[], bool]], float],
        *,
        longest_seconds: float,
        shortest_seconds: float = 0.0,
    ) -> None:
        self._name = name
        self._look = look
        self._longest = longest_seconds
        self._shortest = shortest_seconds
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look now, and go on looking."""
        self._thread = threading.Thread(target=self._run, name=f"smsapi-{self._name}", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Begin no further look; the one that is under way may end within the time."""
        self._stopping.set()
        self._rung.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def ring(self) -> None:
        """Say that there may be something new."""
        self._rung.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._rung.clear()
            rest = self._longest
            # The thread must live on, whatever is raised, also by what is said of it.
            with suppress(Exception):
                rest = min(self._look_once(), rest)
            if rest > 0:
                self._stopping.wait(min(rest, self._shortest))
                self._rung.wait(rest)

    def _look_once(self) -> float:
        try:
            return self._look(self._stopping.is_set)
        except Unavailable:
            log.warning("lookout_waits", what=self._name, reason="the database does not answer")
        except Exception:  # what was not committed is found again
            log.exception("lookout_failed", what=self._name)
        return self._longest

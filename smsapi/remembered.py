"""Remembered look-ups: a question with a patience, on a thread of its own, whose answer holds for a moment."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Generic, TypeVar

from smsapi.errors import StoreUnavailable

_Answer = TypeVar("_Answer")

REMEMBER_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 4.0
# No more than a tenth of the time goes to a look that takes long, up to so many seconds between two: one that took long
# because the store stood still says nothing of what the next one takes, and what it found is old by then.
_LOOK_SHARE: Final = 10
REMEMBER_AT_MOST_SECONDS: Final = 4.0


class Question(Generic[_Answer]):
    """One run of a function, on a thread of its own: whoever asks need not wait until it is over."""

    def __init__(self, ask: Callable[[], _Answer]) -> None:
        self._ask = ask
        self._answer: list[_Answer] = []
        self._error: Exception | None = None
        self._over = threading.Event()
        threading.Thread(target=self._run, name="smsapi-question", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Say whether it has been answered, or has failed."""
        return self._over.is_set()

    def result(self, until: float) -> _Answer:
        """Return the answer, or raise what was raised; wait for it until this moment by ``time.monotonic``.

        Raises:
            TimeoutError: there was none by then.

        """
        if not self._over.wait(max(0.0, until - time.monotonic())):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def _run(self) -> None:
        try:
            self._answer.append(self._ask())
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is asked for
            self._error = error
        finally:
            self._over.set()


class Remembered(Generic[_Answer]):
    """The answer of ``look``, asked for every two to four seconds at most, by one thread at a time. Thread-safe."""

    def __init__(self, look: Callable[[], _Answer], *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._look = look
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._running: Question[_Answer] | None = None
        self._answer: list[_Answer] = []
        self._good_until = float("-inf")
        self._forgotten = 0

    def get(self) -> _Answer:
        """Return what was found a moment ago, or is now. What a look raises is raised, and not remembered.

        Raises:
            StoreUnavailable: there was no answer in time; no further look begins before that one is over.

        """
        with self._lock:
            if self._answer and time.monotonic() < self._good_until:
                return self._answer[0]
            if self._running is None or self._running.is_over:
                self._running = Question(partial(self._look_once, self._forgotten))
            running = self._running
        try:
            return running.result(time.monotonic() + self._patience_seconds)
        except TimeoutError:
            raise StoreUnavailable("The database does not answer; try again.", retry_after_seconds=1) from None

    def forget(self) -> None:
        """Look anew at the next question."""
        with self._lock:
            self._good_until, self._running = float("-inf"), None
            self._forgotten += 1

    def _look_once(self, forgotten: int) -> _Answer:
        began_at = time.monotonic()
        answer = self._look()
        now = time.monotonic()
        # Here, and not where it is waited for: an answer that came too late for one is there for the next.
        with self._lock:
            if forgotten == self._forgotten:
                self._answer = [answer]
                between = max(REMEMBER_SECONDS, (now - began_at) * _LOOK_SHARE)
                self._good_until = now + min(between, REMEMBER_AT_MOST_SECONDS)
        return answer

"""What applies the reports that were stored and not applied, on a thread of its own: no message waits for it."""

import threading
from typing import Final

from smsapi.deps import Deps
from smsapi.errors import Unavailable
from smsapi.log import get_logger
from smsapi.receipts.service import apply_waiting

log = get_logger()

# Seldom is there any that nobody rang for: one whose message was held, or has not appeared.
_SELDOM: Final = 8


class Reporter:
    """Applies what waits from ``start`` to ``stop``; one for each process that sends."""

    def __init__(self, world: Deps) -> None:
        self._world = world
        self._nudged = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to look."""
        self._thread = threading.Thread(target=self._run, name="smsapi-reports", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Let what is being applied end, and apply no more."""
        self._stopping.set()
        self._nudged.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def ring(self) -> None:
        """Say that a report was stored."""
        self._nudged.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._nudged.clear()
            try:
                apply_waiting(self._world, self._stopping.is_set)
            except Unavailable:
                log.warning("reports_wait", reason="the database does not answer")
            except Exception:  # the thread must live on; what waits is looked at again
                log.exception("reports_failed")
            self._nudged.wait(self._world.settings.dispatch_sweep_seconds * _SELDOM)

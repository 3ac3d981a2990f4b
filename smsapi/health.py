"""Whether what this process needs is there, by name."""

import threading
import time
from collections.abc import Callable

_PATIENCE_SECONDS = 2.0


class Health:
    """The checks of one process. ``patience_seconds`` is how long all of them together may take."""

    def __init__(self, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._checks: dict[str, Callable[[], bool]] = {}
        self._running: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def register(self, name: str, check: Callable[[], bool]) -> None:
        """Add a check, or replace the one of this name; False, an exception or no answer in time means down."""
        self._checks[name] = check

    def report(self) -> dict[str, bool]:
        """Run all checks at once; return which hold."""
        until = time.monotonic() + self._patience_seconds
        running = {name: self._run(name, check) for name, check in tuple(self._checks.items())}
        return {name: run.result(until) for name, run in running.items()}

    def _run(self, name: str, check: Callable[[], bool]) -> "_Run":
        # A server that is there and does not answer would otherwise hold one more thread at each question.
        with self._lock:
            run = self._running.get(name)
            if run is None or run.is_over:
                run = self._running[name] = _Run(check)
            return run


class _Run:
    """One run of a check, on a thread of its own."""

    def __init__(self, check: Callable[[], bool]) -> None:
        self._check = check
        self._holds = False
        self._over = threading.Event()
        threading.Thread(target=self._look, name="smsapi-health", daemon=True).start()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def result(self, until: float) -> bool:
        return self._over.wait(max(0.0, until - time.monotonic())) and self._holds

    def _look(self) -> None:
        try:
            self._holds = self._check()
        except Exception:  # noqa: BLE001 - whatever it is, the thing cannot be used
            self._holds = False
        finally:
            self._over.set()

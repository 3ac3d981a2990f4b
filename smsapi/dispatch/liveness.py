"""Liveness of a dispatcher: whether its threads still do what they are for, so that its heartbeat claims no more."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from smsapi.settings import Settings

# Beyond what a statement may take, and waiting for a connection before it.
_PATIENCE_SECONDS: Final = 30.0
_SWEEPS: Final = 3


class Liveness:
    """Thread-safe. ``senders`` counts the threads that send anything; that for codes alone comes on top of them."""

    def __init__(self, settings: Settings, senders: int, *, counter: Callable[[], float] = time.monotonic) -> None:
        self._senders = max(1, senders)
        self._counter = counter
        # The call ends with its lease.
        self._longest_send = settings.lease_seconds + _PATIENCE_SECONDS
        self._longest_sweep = settings.dispatch_sweep_seconds * _SWEEPS + _PATIENCE_SECONDS
        self._lock = threading.Lock()
        self._began_at: dict[int, float] = {}
        self._swept_at = counter()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Note that this thread makes an attempt for the length of the block."""
        me = threading.get_ident()
        with self._lock:
            self._began_at[me] = self._counter()
        try:
            yield
        finally:
            with self._lock:
                self._began_at.pop(me, None)

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """Note, at the end of the block, that the sweep came to its end; that the store did not answer is no matter."""
        try:
            yield
        finally:
            self._swept_at = self._counter()

    def trouble(self, needed: Iterable[threading.Thread | None], senders: Sequence[threading.Thread]) -> str | None:
        """Return why nothing would be sent: none of the senders, or one of the needed threads, lives or moves on."""
        if any(each is None or not each.is_alive() for each in needed):
            return "a thread that looks for work has ended"
        if not any(each.is_alive() for each in senders):
            return "the threads that send have ended"
        now = self._counter()
        if now - self._swept_at > self._longest_sweep:
            return "the thread that looks for work does not come to an end"
        with self._lock:
            stuck = sum(now - began > self._longest_send for began in self._began_at.values())
        return "the threads that send do not come to an end" if stuck >= self._senders else None

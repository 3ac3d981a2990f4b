"""Waits for the signal to stop, without a lock and without a handler: see ``signal.set_wakeup_fd``."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals() -> Iterator[Callable[[], None]]:
    """Yield what waits for SIGTERM or SIGINT, however often they come, also before it waits.

    The handlers before are put back at the end. Must run in the main thread (ValueError otherwise).
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def wait() -> None:
        while os.read(readable, 1)[0] not in _SIGNALS:
            """Another signal that somebody handles."""

    try:
        # Written by the interpreter itself, in whichever thread the signal comes. A handler in Python runs in the main
        # thread only, and would not run while that one is in ``os.read`` and another thread got the signal.
        before_it = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        before = {number: signal.signal(number, _do_nothing) for number in _SIGNALS}
        try:
            yield wait
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_it)
    finally:
        os.close(readable)
        os.close(writable)


def _do_nothing(_signal: int, _frame: FrameType | None) -> None:
    """Take the place of the default, which ends the process."""

"""Waiting for the signal to stop, without a lock: a handler that takes one may have interrupted whoever holds it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals() -> Iterator[Callable[[], None]]:
    """Yield what waits for SIGTERM or SIGINT, however often they come, also before it waits.

    The handlers before are put back at the end. Must run in the main thread (ValueError otherwise).
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def ask(_signal: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # it was asked often enough
            os.write(writable, b".")

    def wait() -> None:
        os.read(readable, 1)

    try:
        before = {number: signal.signal(number, ask) for number in _SIGNALS}
        try:
            yield wait
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    finally:
        os.close(readable)
        os.close(writable)

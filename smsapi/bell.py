"""A bell that says "there is work", so that nobody has to wait for the next sweep."""

from collections.abc import Callable


class Bell:
    """Ringing it may fail to be heard, and nothing depends on it."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def answer_with(self, listener: Callable[[], None]) -> None:
        """Call the listener at each ring, in the ringing thread; it must be quick."""
        self._listeners.append(listener)

    def ring(self) -> None:
        """Say that there is work."""
        for listener in self._listeners:
            listener()

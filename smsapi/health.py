"""Whether what this process needs is there, by name."""

from collections.abc import Callable


class Health:
    """The checks of one process."""

    def __init__(self) -> None:
        self._checks: dict[str, Callable[[], bool]] = {}

    def register(self, name: str, check: Callable[[], bool]) -> None:
        """Add a check, or replace the one of this name; it must be quick, and False or an exception means down."""
        self._checks[name] = check

    def report(self) -> dict[str, bool]:
        """Run all checks; return which hold."""
        return {name: _holds(check) for name, check in self._checks.items()}


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception:  # noqa: BLE001 - whatever it is, the thing cannot be used
        return False

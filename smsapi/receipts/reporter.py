"""What applies the reports that were stored and not applied, on a thread of its own: no message waits for it."""

import math
from typing import Final

from smsapi.deps import Deps
from smsapi.lookout import Lookout
from smsapi.receipts.service import apply_waiting

# Seldom is there any that nobody rang for: one whose message was held, or has not appeared.
_SELDOM: Final = 8


class Reporter:
    """Applies what waits from ``start`` to ``stop``; one for each process that sends."""

    def __init__(self, world: Deps) -> None:
        self._world = world
        rest = world.settings.dispatch_sweep_seconds * _SELDOM
        self._lookout = Lookout("reports", self._apply, longest_seconds=rest)

    def start(self) -> None:
        """Start to look."""
        self._lookout.start()

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Let what is being applied end, and apply no more."""
        self._lookout.stop(timeout_seconds)

    def ring(self) -> None:
        """Say that a report was stored."""
        self._lookout.ring()

    def _apply(self) -> float:
        apply_waiting(self._world, self._lookout.is_stopping)
        return math.inf

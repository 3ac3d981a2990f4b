"""What applies the reports that were stored and not applied, on a thread of its own: no message waits for it."""

import math
from collections.abc import Callable
from typing import Final

from smsapi.deps import Deps
from smsapi.lookout import SWEEPS_MISSED, Lookout
from smsapi.receipts.service import apply_waiting

# Whoever applies them now may have looked for the last time just before the newest came.
_SOON_SECONDS: Final = 0.05


def lookout_for_reports(world: Deps) -> Lookout:
    """Return what applies the reports that wait; one for each process that sends."""

    def look(stopping: Callable[[], bool]) -> float:
        return _SOON_SECONDS if apply_waiting(world, stopping) is None else math.inf

    longest = world.settings.dispatch_sweep_seconds * SWEEPS_MISSED
    return Lookout("reports", look, longest_seconds=longest)

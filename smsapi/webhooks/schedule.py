"""When a delivery is tried again, and when it is given up: the schedule of Standard Webhooks, with jitter."""

from random import Random
from typing import Final

_MINUTE, _HOUR = 60, 3600
# Before each try but the first; more than 75 hours in all.
WAITS_SECONDS: Final = (
    5,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
LONGEST_RETRY_AFTER_SECONDS: Final = 24.0 * _HOUR
_JITTER: Final = 0.1


def wait_seconds(tries: int, retry_after_seconds: float | None, random: Random) -> float | None:
    """Return how long to wait after so many failed tries, or None where that was the last one.

    Up to a tenth longer than the schedule says, never shorter, and at least as long as the receiver asked for.
    """
    if tries > len(WAITS_SECONDS):
        return None
    return max(WAITS_SECONDS[tries - 1] * (1 + _JITTER * random.random()), retry_after_seconds or 0.0)

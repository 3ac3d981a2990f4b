"""When to try again: only after an outcome that says nothing was sent, later each time, and never past a moment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from smsapi.clock import Clock
from smsapi.plivo.outcomes import Outcome, Unavailable

# 2.0 ** 1024 overflows a float; any real cap is reached long before this many doublings.
_MOST_DOUBLINGS = 1000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait between attempts, in seconds.

    ``base_seconds`` and ``cap_seconds`` bound the random part; ``0`` means no random wait.
    ``max_retry_after_seconds`` bounds what the far side may ask for; ``0`` ignores it and ``None`` obeys without limit.
    Raises ``ValueError`` for a negative number.
    """

    base_seconds: float = 0.5
    cap_seconds: float = 30.0
    max_retry_after_seconds: float | None = 300.0

    def __post_init__(self) -> None:
        # "not >= 0" also refuses a NaN, which compares false with everything.
        limit = self.max_retry_after_seconds
        if not self.base_seconds >= 0 or not self.cap_seconds >= 0 or (limit is not None and not limit >= 0):
            raise ValueError("a retry policy's seconds must not be negative")

    def delay(self, attempt: int, retry_after_seconds: float | None, random: Random) -> float:
        """Return the seconds to wait after attempt number ``attempt`` (the first is 1) came back unavailable.

        "Full jitter": uniform between 0 and the doubled and capped base
        (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). What the far side asked for is
        added below it, so it is never undercut, and callers that were all told the same second do not all come back
        in it. Raises ``ValueError`` for an attempt below 1.
        """
        if attempt < 1:
            raise ValueError("attempts are counted from 1")
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
        return self._floor(retry_after_seconds) + random.uniform(0.0, ceiling)

    def _floor(self, retry_after_seconds: float | None) -> float:
        if retry_after_seconds is None or not retry_after_seconds > 0:
            return 0.0
        if self.max_retry_after_seconds is None:
            return retry_after_seconds
        return min(retry_after_seconds, self.max_retry_after_seconds)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a run of attempts came to.

    ``attempts`` counts those made in this run. ``retry_after_seconds`` is the wait that was not started because it
    would have passed the moment to give up, and is ``None`` unless ``outcome`` is ``Unavailable``.
    """

    outcome: Outcome
    attempts: int
    retry_after_seconds: float | None


def send_until_settled(
    attempt_once: Callable[[int], Outcome],
    *,
    first_attempt: int,
    give_up_at: datetime,
    clock: Clock,
    policy: RetryPolicy,
    random: Random,
) -> Settled:
    """Call ``attempt_once`` with 1, 2, 3 … from ``first_attempt`` on until it settles or the next wait ends too late.

    Only ``Unavailable`` is tried again: after ``Unknown`` the text may be on its way, and a second one would be a
    duplicate. One attempt is always made, also when ``give_up_at`` has passed; no wait is begun that would end after
    it. What ``attempt_once`` raises passes through.
    """
    attempt = first_attempt
    while True:
        outcome = attempt_once(attempt)
        made = attempt - first_attempt + 1
        if not isinstance(outcome, Unavailable):
            return Settled(outcome, made, None)
        wait = policy.delay(attempt, outcome.retry_after_seconds, random)
        # Seconds are compared, not moments: adding an obeyed Retry-After of years to a datetime can overflow.
        if wait > (give_up_at - clock.now()) / timedelta(seconds=1):
            return Settled(outcome, made, wait)
        clock.sleep(wait)
        attempt += 1

"""A circuit breaker: after enough failures in a row, stop asking for a while, then ask with one call first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Literal

from smsapi.clock import Clock

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Admitted:
    """Leave to make one call, to be handed back to ``Breaker.settle`` with what the call showed."""

    era: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No call now; asking again makes sense after ``retry_after_seconds``."""

    retry_after_seconds: float


class Breaker:
    """Opens after ``failure_threshold`` failures in a row, for ``open_seconds``; then one probe decides.

    A probe whose result has not come within ``probe_seconds`` counts as lost and the next caller probes instead, so
    give more than one call can last. While a probe is out, others are told to come back in ``busy_seconds``.
    No lock is held during a call. Raises ``ValueError`` for a threshold below 1.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        failure_threshold: int = 5,
        open_seconds: float = 30.0,
        probe_seconds: float = 30.0,
        busy_seconds: float = 1.0,
    ) -> None:
        if failure_threshold < 1:
            raise ValueError("a breaker needs a threshold of at least 1")
        self._clock = clock
        self._threshold = failure_threshold
        self._open_seconds = open_seconds
        self._probe_seconds = probe_seconds
        self._busy_seconds = busy_seconds
        self._lock = Lock()
        self._failures = 0
        self._state: State = "closed"
        self._until: datetime | None = None
        # Each change of state begins an era. A call that was let in during an earlier one is no evidence any more:
        # a late success must not close what later failures opened.
        self._era = 0

    @property
    def state(self) -> State:
        """Return ``closed``, ``open`` or ``half_open`` (due for a probe, or a probe is out)."""
        with self._lock:
            if self._state == "open" and self._remaining(self._open_seconds) <= 0:
                return "half_open"
            return self._state

    def admit(self) -> Admitted | Refused:
        """Return leave for one call, or how long to stay away. Every ``Admitted`` goes back through ``settle``."""
        with self._lock:
            if self._state == "closed":
                return Admitted(self._era)
            if self._state == "open":
                remaining = self._remaining(self._open_seconds)
                if remaining > 0:
                    return Refused(remaining)
            else:
                remaining = self._remaining(self._probe_seconds)
                if remaining > 0:
                    return Refused(min(remaining, self._busy_seconds))
            self._turn("half_open", self._probe_seconds)
            return Admitted(self._era)

    def settle(self, admitted: Admitted, *, healthy: bool | None) -> None:
        """Count what the call showed of the far side: ``True`` alive, ``False`` failing, ``None`` nothing at all."""
        with self._lock:
            if admitted.era != self._era:
                return
            if healthy:
                self._failures = 0
                if self._state == "half_open":
                    self._turn("closed", 0.0)
            elif healthy is None:
                if self._state == "half_open":
                    self._turn("open", 0.0)  # the probe showed nothing, so the next caller is the probe
            else:
                self._failures += 1
                if self._state == "half_open" or self._failures >= self._threshold:
                    self._turn("open", self._open_seconds)

    def _turn(self, state: State, seconds: float) -> None:
        self._state = state
        self._era += 1
        self._until = self._clock.now() + timedelta(seconds=seconds)
        if state == "closed":
            self._failures = 0

    def _remaining(self, at_most: float) -> float:
        now = self._clock.now()
        if self._until is None:
            return 0.0
        remaining = (self._until - now).total_seconds()
        if remaining > at_most:
            # The clock was set back. Without a new anchor the circuit would stay open for as long as the jump.
            self._until = now + timedelta(seconds=at_most)
            return at_most
        return remaining

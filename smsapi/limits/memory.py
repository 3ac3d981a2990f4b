"""Limits of this process alone: for one process without Redis, and as the spare while Redis is away."""

import threading
from collections.abc import Sequence

from smsapi.clock import Clock
from smsapi.limits.gcra import SECOND_US, Charge, Tally, Verdict, decide, given_back, verdict_of
from smsapi.limits.store import fingerprint, now_us


class MemoryStore:
    """A ``LimitStore`` in a dictionary, bounded in size.

    Drained keys are dropped every ``sweep_seconds``. At ``max_keys`` (about 25 MB at the default) the key that was
    spent on longest ago makes room: whoever can make up that many keys gets an old one's quota back, so charge made-up
    keys only after something that cannot be made up.
    """

    def __init__(self, clock: Clock, *, max_keys: int = 100_000, sweep_seconds: float = 60.0) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._sweep_us = int(sweep_seconds * SECOND_US)
        self._swept_at_us = now_us(clock)
        # Ordered by the last spending. A token's mark is a tally that no charge reads, clear when the mark ends.
        self._tallies: dict[str, Tally] = {}
        self._lock = threading.Lock()

    @property
    def keys_held(self) -> int:
        """Return how many keys and tokens are remembered right now, drained ones included."""
        return len(self._tallies)

    def spend(self, charges: Sequence[Charge], *, once: str | None = None) -> Verdict:
        """Decide and spend all charges, all or nothing; see ``LimitStore.spend``. Never raises ``LimitStoreDown``."""
        with self._lock:
            now = now_us(self._clock)
            self._sweep(now)
            return self._spend(charges, now, once)

    def decide_each(
        self, groups: Sequence[Sequence[Charge]], *, spend: bool, once: str | None = None
    ) -> Sequence[Verdict]:
        """Decide each group by itself, all in one step; see ``LimitStore.decide_each``. Never raises."""
        with self._lock:
            now = now_us(self._clock)
            self._sweep(now)
            return [self._spend(charges, now, once) if spend else self._peek(charges, now) for charges in groups]

    def give_back(self, charges: Sequence[Charge], *, once: str | None = None, seconds_ago: float = 0.0) -> None:
        """Undo what was spent; see ``LimitStore.give_back``. Never raises ``LimitStoreDown``."""
        with self._lock:
            now = now_us(self._clock)
            for charge in charges:
                if once is not None and charge.once_seconds:
                    mark = fingerprint(charge.key, once)
                    if not self._is_live(mark, now):
                        continue
                    del self._tallies[mark]
                left = given_back(self._tallies.get(charge.key), charge, now, ago_us=int(seconds_ago * SECOND_US))
                if left is not None:
                    self._tallies[charge.key] = left
                else:
                    self._tallies.pop(charge.key, None)

    def peek(self, charges: Sequence[Charge]) -> Verdict:
        """Return the standing of all charges without spending; never raises ``LimitStoreDown``."""
        with self._lock:
            return self._peek(charges, now_us(self._clock))

    def _peek(self, charges: Sequence[Charge], now: int) -> Verdict:
        findings, _ = decide(charges, self._tallies, now, spend=False)
        return verdict_of(charges, findings)

    def _spend(self, charges: Sequence[Charge], now: int, once: str | None) -> Verdict:
        marks = {} if once is None else {c.key: fingerprint(c.key, once) for c in charges if c.once_seconds}
        paid = {key for key, mark in marks.items() if self._is_live(mark, now)}
        findings, written = decide(charges, self._tallies, now, paid=paid)
        if not any(finding.wait_us for finding in findings):
            for charge in charges:
                if charge.once_seconds and charge.key in marks and charge.key not in paid:
                    written[marks[charge.key]] = Tally(now + charge.once_seconds * SECOND_US, 1)
            self._write(written)
        return verdict_of(charges, findings)

    def _is_live(self, mark: str, now: int) -> bool:
        tally = self._tallies.get(mark)
        return tally is not None and tally.clear_at_us > now

    def _write(self, written: dict[str, Tally]) -> None:
        for key, tally in written.items():
            self._tallies.pop(key, None)
            self._tallies[key] = tally
        while len(self._tallies) > self._max_keys:
            del self._tallies[next(iter(self._tallies))]

    def _sweep(self, now: int) -> None:
        # A clock that was set back must not postpone the next sweep, hence the absolute value.
        if abs(now - self._swept_at_us) < self._sweep_us:
            return
        self._swept_at_us = now
        self._tallies = {key: tally for key, tally in self._tallies.items() if tally.clear_at_us > now}

"""Limits that go on, as a local share, while the shared store is away."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from smsapi.clock import Clock
from smsapi.limits.gcra import SECOND_US, Charge, Verdict, Window
from smsapi.limits.store import LimitStore, LimitStoreDown, now_us
from smsapi.log import get_logger

_T = TypeVar("_T")


class FallbackStore:
    """A ``LimitStore`` that asks ``primary``, and ``spare`` with a share of each quota while ``primary`` is down.

    ``shares`` is the number of processes that spend together: each gives out a ``1/shares`` part, at least one unit,
    so that together they stay near the limit. For ``retry_seconds`` after a failure nobody waits for the primary; then
    one request tries it, and only that one pays the time-out if it is still away. What was spent meanwhile is not
    carried over. Verdicts keep naming the full quota, which is the policy; what remains is what this process has left.

    Limits that must fail closed (log-ins, code checks) are spent on ``strict``. Raises ``ValueError`` for no shares.
    """

    def __init__(
        self, primary: LimitStore, spare: LimitStore, *, shares: int, clock: Clock, retry_seconds: float = 1.0
    ) -> None:
        self._primary = primary
        self._spare = ShareStore(spare, shares=shares)
        self._shares = shares
        self._clock = clock
        self._retry_us = int(retry_seconds * SECOND_US)
        self._failed_at_us: int | None = None
        self._lock = threading.Lock()

    @property
    def degraded(self) -> bool:
        """Return whether the last attempt on the primary failed. Only a request finds out that it is back."""
        return self._failed_at_us is not None

    @property
    def strict(self) -> LimitStore:
        """Return the primary itself, which raises ``LimitStoreDown`` instead of falling back."""
        return self._primary

    def spend(self, charges: Sequence[Charge], *, once: str | None = None) -> Verdict:
        """Decide and spend all charges on whichever store is in charge; see ``LimitStore.spend``."""
        return self._ask(lambda store: store.spend(charges, once=once))

    def decide_each(
        self, groups: Sequence[Sequence[Charge]], *, spend: bool, once: str | None = None
    ) -> Sequence[Verdict]:
        """Decide each group on whichever store is in charge; see ``LimitStore.decide_each``."""
        return self._ask(lambda store: store.decide_each(groups, spend=spend, once=once))

    def give_back(self, charges: Sequence[Charge], *, once: str | None = None, seconds_ago: float = 0.0) -> None:
        """Undo what was spent, on whichever store is in charge; see ``LimitStore.give_back``."""
        self._ask(lambda store: store.give_back(charges, once=once, seconds_ago=seconds_ago))

    def peek(self, charges: Sequence[Charge]) -> Verdict:
        """Return the standing of all charges on whichever store is in charge; spends nothing."""
        return self._ask(lambda store: store.peek(charges))

    def _ask(self, act: Callable[[LimitStore], _T]) -> _T:
        if self._may_try():
            try:
                found = act(self._primary)
            except LimitStoreDown as down:
                self._note(down)
            else:
                if self._failed_at_us is not None:
                    self._note(None)
                return found
        return act(self._spare)

    def _may_try(self) -> bool:
        with self._lock:
            if self._failed_at_us is None:
                return True
            now = now_us(self._clock)
            # The absolute value, so that a clock set back by an hour does not keep us from the primary for an hour.
            if abs(now - self._failed_at_us) < self._retry_us:
                return False
            # Claimed: whoever asks while this attempt runs goes to the spare.
            self._failed_at_us = now
            return True

    def _note(self, failure: LimitStoreDown | None) -> None:
        with self._lock:
            was_degraded = self._failed_at_us is not None
            self._failed_at_us = None if failure is None else now_us(self._clock)
        if failure is not None and not was_degraded:
            get_logger().warning("limit_store_down", reason=str(failure), shares=self._shares)
        elif failure is None and was_degraded:
            get_logger().info("limit_store_back")


class ShareStore:
    """A ``LimitStore`` that gives out of ``store`` this process's part of each quota; ``shares`` processes have one.

    For processes that share no store. Each has at least one unit, and together they let no more through than the limit
    where that is no less than their number; what costs more than one part never passes. Verdicts name the full quota;
    what remains is what this process has left. Raises ``ValueError`` for no shares.
    """

    def __init__(self, store: LimitStore, *, shares: int) -> None:
        if shares < 1:
            raise ValueError("a limit needs at least one share")
        self._store = store
        self._shares = shares

    def spend(self, charges: Sequence[Charge], *, once: str | None = None) -> Verdict:
        """Decide and spend all charges on this process's part; see ``LimitStore.spend``."""
        return _named_whole(self._store.spend(self._shared(charges), once=once), charges)

    def decide_each(
        self, groups: Sequence[Sequence[Charge]], *, spend: bool, once: str | None = None
    ) -> Sequence[Verdict]:
        """Decide each group on this process's part; see ``LimitStore.decide_each``."""
        verdicts = self._store.decide_each([self._shared(charges) for charges in groups], spend=spend, once=once)
        return [_named_whole(verdict, charges) for charges, verdict in zip(groups, verdicts, strict=True)]

    def give_back(self, charges: Sequence[Charge], *, once: str | None = None, seconds_ago: float = 0.0) -> None:
        """Undo what was spent on this process's part; see ``LimitStore.give_back``."""
        self._store.give_back(self._shared(charges), once=once, seconds_ago=seconds_ago)

    def peek(self, charges: Sequence[Charge]) -> Verdict:
        """Return the standing of all charges on this process's part; spends nothing."""
        return _named_whole(self._store.peek(self._shared(charges)), charges)

    def _shared(self, charges: Sequence[Charge]) -> Sequence[Charge]:
        return [_share(charge, self._shares) for charge in charges]


def _named_whole(verdict: Verdict, charges: Sequence[Charge]) -> Verdict:
    items = (item._replace(quota=charge.window.quota) for item, charge in zip(verdict.items, charges, strict=True))
    return verdict._replace(items=tuple(items))


def _share(charge: Charge, shares: int) -> Charge:
    quota = charge.window.quota
    part = max(1, quota // shares) if quota else 0
    # What costs more than the share, as a large batch may, does not pass: each process would let it through once.
    return replace(charge, window=Window(part, charge.window.seconds))

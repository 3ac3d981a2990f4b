"""The generic cell rate algorithm over several limits at once: functions of values and time, nothing else.

A key's whole state is one moment, the one at which everything spent on it will have drained away. Spending moves that
moment into the future by one interval a unit; what lies between now and then is the key's *debt*. A charge is within
its window while the debt, the charge included, is at most the quota's worth of intervals. So a full quota may be spent
at once, and each unit comes back one interval later, not all together at the edge of a window.

A window is so a bucket that is refilled evenly: a stretch of time as long as it, at the beginning of which it is full,
may see up to twice the quota. All times are whole microseconds, and the interval is rounded up; the price is at most
one microsecond a unit. Every number stays below 2**53 and so is exact in Redis's Lua as well.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """A bucket of ``quota`` units, refilled evenly in ``seconds``; a quota of 0 allows nothing at all.

    To have no limit, make no charge: there is no value that stands for infinity. Raises ``ValueError`` for a negative
    quota and for a window of less than a second.
    """

    quota: int
    seconds: int
    #: Microseconds after which one spent unit is free again; 0 where nothing is allowed.
    interval_us: int = field(init=False, repr=False, compare=False)
    #: The debt, in microseconds, at which the quota is used up.
    burst_us: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.quota < 0 or self.seconds < 1:
            raise ValueError(f"a window is 0 units or more in 1 second or more, not {self.quota} in {self.seconds}")
        interval = -(-self.seconds * SECOND_US // self.quota) if self.quota else 0
        object.__setattr__(self, "interval_us", interval)
        object.__setattr__(self, "burst_us", interval * self.quota)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request would spend on one key.

    ``policy`` is the limit's public name. ``cost`` is in units of the quota; 0 spends nothing and asks only. With
    ``once_seconds``, a request that comes with a token is charged at most once for this key and token in so many
    seconds, so that repeats of one request do not use up the quota. Raises ``ValueError`` for a negative cost or time
    and an empty key.
    """

    key: str
    window: Window
    policy: str
    cost: int = 1
    once_seconds: int = 0

    def __post_init__(self) -> None:
        if self.cost < 0 or self.once_seconds < 0 or not self.key:
            raise ValueError(f"a charge needs a key, a cost and a time of 0 or more: {self.policy} {self.cost}")

    @property
    def cost_us(self) -> int:
        """Return by how many microseconds this charge lengthens the key's debt."""
        return self.cost * self.window.interval_us


class Standing(NamedTuple):
    """Where one policy stands after the decision.

    ``effective_seconds`` is how long ``remaining`` has to last, rounded up: whoever spends no more than that in it is
    never refused, and after it may spend as much again. Where nothing remains, it is the time until one unit is free;
    where nothing is ever allowed, the window. This is the ``t`` of draft-ietf-httpapi-ratelimit-headers-11, which asks
    that ``r`` over ``t`` be no more than the service can take. ``denied`` marks a policy that refused.
    """

    policy: str
    quota: int
    seconds: int
    remaining: int
    effective_seconds: int
    denied: bool = False


class Verdict(NamedTuple):
    """What was decided on all charges of a request together.

    ``items`` follow the charges' order. ``retry_after_seconds`` is rounded up, 0 where allowed, and otherwise the time
    until every charge would pass if nobody else spent; for a charge that can never pass (a quota of 0, a cost above
    the quota) it is the length of its window.
    """

    allowed: bool
    items: tuple[Standing, ...]
    retry_after_seconds: int


class Tally(NamedTuple):
    """What is kept of a key: when it will have drained, and at which interval it was written."""

    clear_at_us: int
    interval_us: int


class Finding(NamedTuple):
    """The debt of a charge's key after the decision, and how long the charge would have to wait: 0 where it passes."""

    debt_us: int
    wait_us: int


def debt_us(tally: Tally | None, window: Window, now_us: int) -> int:
    """Return what is still owed on a key, in microseconds of its present window.

    A tally from another quota is carried over unit by unit, so that a raised limit gives room at once and a lowered
    one keeps what was spent. The debt is never more than the full quota: a clock that was set back by hours would
    otherwise refuse for hours.
    """
    if tally is None or tally.clear_at_us <= now_us:
        return 0
    debt = tally.clear_at_us - now_us
    if tally.interval_us != window.interval_us:
        debt = -(-debt // tally.interval_us) * window.interval_us
    return min(debt, window.burst_us)


def decide(
    charges: Sequence[Charge],
    tallies: Mapping[str, Tally],
    now_us: int,
    *,
    paid: Container[str] = frozenset(),
    spend: bool = True,
) -> tuple[list[Finding], dict[str, Tally]]:
    """Decide all charges together and return a finding for each, with the tallies that must be written.

    All or nothing: where one charge is refused, or with ``spend`` false, nothing is to be written. A key may occur
    more than once, each charge then adds to the one before. A charge that
    counts once passes for nothing where its key is in ``paid``.
    """
    written: dict[str, Tally] = {}
    waits = []
    refused = False
    for charge in charges:
        key, window = charge.key, charge.window
        if charge.once_seconds and key in paid:
            waits.append(0)
            continue
        debt = debt_us(written.get(key) or tallies.get(key), window, now_us) + charge.cost_us
        wait = _wait_us(charge, debt)
        waits.append(wait)
        refused = refused or wait > 0
        # Nothing for a quota of 0 either: its interval says nothing about what other charges on the key spent.
        if charge.cost_us:
            written[key] = Tally(now_us + debt, window.interval_us)
    if refused or not spend:
        written = {}
    findings = [
        Finding(debt_us(written.get(charge.key) or tallies.get(charge.key), charge.window, now_us), wait)
        for charge, wait in zip(charges, waits, strict=True)
    ]
    return findings, written


def given_back(tally: Tally | None, charge: Charge, now_us: int, *, ago_us: int) -> Tally | None:
    """Return a key's tally without a charge that was spent on it so many microseconds ago; None where that clears it.

    What has drained of the charge since then is not given back a second time: whoever spends and takes back never has
    more than the quota.
    """
    debt = debt_us(tally, charge.window, now_us) - max(0, charge.cost_us - max(0, ago_us))
    return Tally(now_us + debt, charge.window.interval_us) if debt > 0 else None


def _wait_us(charge: Charge, debt: int) -> int:
    burst = charge.window.burst_us
    if debt <= burst and burst:
        return 0
    return charge.window.seconds * SECOND_US if charge.cost > charge.window.quota or not burst else debt - burst


def verdict_of(charges: Sequence[Charge], findings: Iterable[Finding]) -> Verdict:
    """Put findings into words: what remains, how long that has to last, and when to try again."""
    items = []
    longest = 0
    for charge, (debt, wait) in zip(charges, findings, strict=True):
        window = charge.window
        interval = window.interval_us
        remaining, lasts = 0, window.seconds
        if interval:
            remaining = (window.burst_us - debt) // interval
            # The rounded interval may make a full quota last a little longer than its window.
            lasts = min(lasts, _seconds_up(remaining * interval if remaining else debt - window.burst_us + interval))
        longest = max(longest, wait)
        items.append(Standing(charge.policy, window.quota, window.seconds, remaining, lasts, wait > 0))
    return Verdict(longest == 0, tuple(items), _seconds_up(longest))


def _seconds_up(microseconds: int) -> int:
    return -(-microseconds // SECOND_US)

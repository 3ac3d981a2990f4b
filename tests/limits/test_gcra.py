from collections import deque
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.limits.gcra import Charge, Finding, Tally, Window, decide, verdict_of

START_US = 1_772_366_400_000_000


def charge(quota=10, seconds=60, key="k", cost=1, policy="send"):
    return Charge(key, Window(quota, seconds), policy, cost)


def ask(charges, tallies, now_us=START_US, **options):
    findings, written = decide(charges, tallies, now_us, **options)
    tallies.update(written)
    return verdict_of(charges, findings)


def test_a_full_quota_may_be_spent_at_once_and_no_more():
    tallies = {}
    verdicts = [ask([charge()], tallies) for _ in range(11)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 10 + [False]
    assert [verdict.items[0].remaining for verdict in verdicts] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]


def test_units_come_back_one_by_one_and_retry_after_says_when():
    tallies = {}
    ask([charge(cost=10)], tallies)
    assert ask([charge()], tallies).retry_after_seconds == 6
    assert not ask([charge()], tallies, START_US + 5_999_999).allowed
    assert ask([charge()], tallies, START_US + 6_000_000).allowed
    assert not ask([charge()], tallies, START_US + 6_000_000).allowed


def test_what_remains_has_to_last_as_long_as_the_rate_says_and_when_nothing_does_until_one_is_free():
    tallies = {}
    assert ask([charge()], tallies, spend=False).items[0].effective_seconds == 60
    assert ask([charge()], tallies).items[0].effective_seconds == 54
    assert ask([charge(cost=9)], tallies).items[0].effective_seconds == 6
    assert ask([charge()], tallies, START_US + 4_000_000).items[0].effective_seconds == 2
    assert ask([charge(quota=0)], tallies).items[0].effective_seconds == 60


@given(quota=st.integers(1, 200), seconds=st.integers(1, 3_600), spent=st.integers(0, 200))
def test_who_spends_what_remains_in_its_time_is_never_refused(quota, seconds, spent):
    tallies, now_us = {}, START_US
    ask([charge(quota, seconds, cost=min(spent, quota))], tallies)
    for _ in range(5):
        standing = ask([charge(quota, seconds, cost=0)], tallies, now_us).items[0]
        assert 1 <= standing.effective_seconds <= seconds
        assert ask([charge(quota, seconds, cost=standing.remaining)], tallies, now_us).allowed
        # A microsecond a unit is the price of whole microseconds: see the module.
        now_us += standing.effective_seconds * 1_000_000 + quota
        assert ask([charge(quota, seconds, cost=max(1, standing.remaining))], tallies, now_us, spend=False).allowed


def test_a_refused_charge_spends_nothing_on_any_key():
    tallies = {}
    full = charge(quota=1, key="full", policy="full")
    ask([full], tallies)
    verdict = ask([charge(key="free", policy="free"), full], tallies)
    assert not verdict.allowed
    assert [(item.policy, item.remaining, item.denied) for item in verdict.items] == [
        ("free", 10, False),
        ("full", 0, True),
    ]
    assert set(tallies) == {"full"}


def test_the_longest_wait_of_all_charges_is_the_one_to_wait():
    tallies = {}
    minute, day = charge(quota=1, key="m"), charge(quota=1, seconds=86_400, key="d")
    ask([minute, day], tallies)
    assert ask([minute, day], tallies).retry_after_seconds == 86_400


def test_a_quota_of_zero_allows_nothing_not_even_a_cost_of_zero():
    for cost in (0, 1):
        verdict = ask([charge(quota=0, cost=cost)], {})
        assert not verdict.allowed
        assert verdict.items[0].remaining == 0
        assert verdict.retry_after_seconds == 60


def test_a_cost_above_the_quota_never_passes_and_waits_a_window():
    verdict = ask([charge(quota=10, cost=11)], {})
    assert not verdict.allowed
    assert verdict.retry_after_seconds == 60
    assert verdict.items[0].remaining == 10


def test_a_cost_of_zero_asks_and_spends_nothing():
    tallies = {}
    ask([charge(cost=10)], tallies)
    assert ask([charge(cost=0)], tallies).allowed
    assert ask([charge(cost=0)], {}).items[0].remaining == 10


def test_no_charges_are_allowed():
    assert ask([], {}).allowed


def test_one_key_named_twice_is_charged_twice():
    tallies = {}
    verdict = ask([charge(cost=4), charge(cost=4)], tallies)
    assert [item.remaining for item in verdict.items] == [2, 2]
    assert not ask([charge(cost=1), charge(cost=2)], tallies).allowed
    assert ask([charge(cost=1), charge(cost=1)], tallies).allowed


def test_a_raised_quota_gives_room_at_once():
    tallies = {}
    ask([charge(quota=10, cost=10)], tallies)
    assert ask([charge(quota=100)], tallies).items[0].remaining == 89


def test_a_lowered_quota_keeps_what_was_spent():
    tallies = {}
    ask([charge(quota=100, cost=50)], tallies)
    verdict = ask([charge(quota=10)], tallies)
    assert not verdict.allowed
    assert verdict.retry_after_seconds == 6


def test_a_clock_set_back_by_hours_refuses_for_one_interval_only():
    tallies = {}
    ask([charge(cost=10)], tallies)
    earlier = START_US - 5 * 3_600_000_000
    assert ask([charge()], tallies, earlier).retry_after_seconds == 6
    assert ask([charge()], {"k": Tally(START_US, 6_000_000)}, earlier).retry_after_seconds == 6


@pytest.mark.parametrize(("quota", "seconds"), [(-1, 60), (1, 0), (1, -1)])
def test_a_window_that_means_nothing_is_refused(quota, seconds):
    with pytest.raises(ValueError, match="a window is"):
        Window(quota, seconds)


@pytest.mark.parametrize(("key", "cost", "once_seconds"), [("", 1, 0), ("k", -1, 0), ("k", 1, -1)])
def test_a_charge_that_means_nothing_is_refused(key, cost, once_seconds):
    with pytest.raises(ValueError, match="a charge needs"):
        Charge(key, Window(1, 1), "send", cost, once_seconds)


def test_a_finding_reads_as_debt_then_wait():
    assert verdict_of([charge()], [Finding(6_000_000, 0)]).items[0].remaining == 9


steps = st.lists(
    st.tuples(st.integers(0, 20_000_000), st.integers(0, 4), st.booleans()),
    min_size=1,
    max_size=60,
)


class Bucket:
    """A leaky bucket in exact fractions: what the algorithm is meant to be, written the slow and obvious way."""

    def __init__(self, quota: int, seconds: int) -> None:
        self.quota = quota
        # Rounded up to whole microseconds, as is promised.
        self.per_us = Fraction(1, -(-seconds * 1_000_000 // quota))
        self.level = Fraction(0)

    def drain(self, passed_us: int) -> None:
        self.level = max(Fraction(0), self.level - passed_us * self.per_us)

    def fits(self, cost: int) -> bool:
        return self.level + cost <= self.quota


@given(quota=st.integers(1, 40), seconds=st.integers(1, 90), other=st.integers(1, 10), steps=steps)
def test_it_decides_as_two_leaky_buckets_that_are_filled_together(quota, seconds, other, steps):
    tallies, now_us = {}, START_US
    first, second = Bucket(quota, seconds), Bucket(other, 30)
    for passed_us, cost, spend in steps:
        now_us += passed_us
        first.drain(passed_us)
        second.drain(passed_us)
        charges = [charge(quota, seconds, "a", cost), charge(other, 30, "b", 1)]
        allowed = first.fits(cost) and second.fits(1)
        verdict = ask(charges, tallies, now_us, spend=spend)
        assert verdict.allowed == allowed
        if allowed and spend:
            first.level += cost
            second.level += 1
        assert [item.remaining for item in verdict.items] == [
            int(first.quota - first.level),
            int(second.quota - second.level),
        ]


@given(quota=st.integers(1, 5_000), seconds=st.integers(1, 86_400), steps=steps)
def test_waiting_as_long_as_it_says_is_enough(quota, seconds, steps):
    tallies, now_us = {}, START_US
    for passed_us, cost, _ in steps:
        now_us += passed_us
        asked = charge(quota, seconds, cost=min(cost, quota))
        verdict = ask([asked], tallies, now_us)
        if not verdict.allowed:
            now_us += verdict.retry_after_seconds * 1_000_000
            assert ask([asked], tallies, now_us).allowed


@given(quota=st.integers(1, 30), seconds=st.integers(1, 60), steps=steps)
def test_no_stretch_of_time_sees_more_than_its_rate_on_top_of_one_quota(quota, seconds, steps):
    tallies, now_us = {}, START_US
    allowed_at: deque[int] = deque()
    for passed_us, _, _ in steps:
        now_us += passed_us
        if ask([charge(quota, seconds)], tallies, now_us).allowed:
            allowed_at.append(now_us)
            stretches = ((len(allowed_at) - i, now_us - began) for i, began in enumerate(allowed_at))
            assert all(count <= quota + Fraction(length * quota, seconds * 1_000_000) for count, length in stretches)

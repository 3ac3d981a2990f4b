from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.clock import ManualClock
from smsapi.plivo.outcomes import Accepted, Outcome, Rejected, Unavailable, Unknown
from smsapi.plivo.retry import RetryPolicy, Settled, send_until_settled

START = datetime(2026, 1, 1, tzinfo=UTC)
seconds = st.floats(min_value=0, max_value=1e6)


class Highest(Random):
    """Draws the longest wait each time."""

    def uniform(self, a, b):
        return b


def settle(outcomes: list[Outcome], *, give_up_after: float, policy=None, first_attempt=1):
    clock = ManualClock(START)
    made: list[tuple[int, float]] = []

    def attempt_once(attempt: int) -> Outcome:
        made.append((attempt, (clock.now() - START).total_seconds()))
        return outcomes[len(made) - 1]

    settled = send_until_settled(
        attempt_once,
        first_attempt=first_attempt,
        give_up_at=START + timedelta(seconds=give_up_after),
        clock=clock,
        policy=policy or RetryPolicy(base_seconds=1, cap_seconds=8),
        random=Highest(),
    )
    return settled, made


@given(
    settings=st.tuples(seconds, seconds, st.none() | seconds),
    attempt=st.integers(1, 10**6),
    asked=st.none() | st.floats(allow_nan=False, max_value=1e9),
    seed=st.integers(),
)
def test_a_delay_lies_between_what_was_asked_for_and_that_plus_the_capped_backoff(settings, attempt, asked, seed):
    base, cap, limit = settings
    policy = RetryPolicy(base, cap, limit)
    floor = max(asked or 0.0, 0.0)
    if limit is not None:
        floor = min(floor, limit)
    waited = policy.delay(attempt, asked, Random(seed))
    assert floor <= waited <= floor + cap
    if attempt < 500:
        assert waited <= (floor + base * 2 ** (attempt - 1)) * (1 + 1e-9)


def test_the_backoff_doubles_up_to_its_cap():
    policy = RetryPolicy(base_seconds=0.5, cap_seconds=30)
    delays = [policy.delay(attempt, None, Highest()) for attempt in range(1, 9)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_jitter_covers_the_whole_range():
    drawn = [RetryPolicy(base_seconds=8).delay(1, None, Random(seed)) for seed in range(200)]
    assert min(drawn) < 0.5
    assert max(drawn) > 7.5


def test_zero_means_zero_and_none_means_no_limit():
    assert RetryPolicy(base_seconds=0).delay(5, None, Highest()) == 0
    assert RetryPolicy(cap_seconds=0).delay(5, None, Highest()) == 0
    assert RetryPolicy(base_seconds=0, max_retry_after_seconds=0).delay(1, 60, Highest()) == 0
    assert RetryPolicy(base_seconds=0, max_retry_after_seconds=None).delay(1, 1e6, Highest()) == 1e6


@pytest.mark.parametrize("policy", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (float("nan"), 1, 1)])
def test_a_negative_policy_is_refused(policy):
    with pytest.raises(ValueError, match="negative"):
        RetryPolicy(*policy)


def test_attempts_are_counted_from_one():
    with pytest.raises(ValueError, match="from 1"):
        RetryPolicy().delay(0, None, Random(1))


@pytest.mark.parametrize("outcome", [Accepted("u"), Rejected("message", "no", 400), Unknown("lost")])
def test_only_unavailable_is_tried_again(outcome):
    settled, made = settle([outcome], give_up_after=1000)
    assert settled == Settled(outcome, 1, None)
    assert made == [(1, 0.0)]


def test_attempts_go_on_with_growing_waits_until_one_settles():
    down = Unavailable("refused")
    settled, made = settle([down, down, down, Accepted("u")], give_up_after=1000, first_attempt=3)
    assert made == [(3, 0.0), (4, 4.0), (5, 12.0), (6, 20.0)]
    assert settled == Settled(Accepted("u"), 4, None)


def test_a_retry_after_is_waited_for():
    _, made = settle([Unavailable("slow down", 429, 7), Accepted("u")], give_up_after=1000)
    assert made == [(1, 0.0), (2, 8.0)]


def test_no_wait_is_begun_that_would_pass_the_moment_to_give_up():
    down = Unavailable("refused")
    settled, made = settle([down, down, down], give_up_after=6.9)
    assert made == [(1, 0.0), (2, 1.0), (3, 3.0)]
    assert settled == Settled(down, 3, 4)


def test_a_wait_that_ends_exactly_at_the_moment_to_give_up_is_made():
    _, made = settle([Unavailable("refused"), Accepted("u")], give_up_after=1)
    assert made == [(1, 0.0), (2, 1.0)]


def test_one_attempt_is_made_even_when_it_is_already_too_late():
    settled, made = settle([Unavailable("refused")], give_up_after=-60)
    assert made == [(1, 0.0)]
    assert settled.retry_after_seconds == 1


def test_a_retry_after_of_ages_does_not_overflow():
    policy = RetryPolicy(max_retry_after_seconds=None)
    settled, _ = settle([Unavailable("later", 429, 1e30)], give_up_after=60, policy=policy)
    assert settled.retry_after_seconds >= 1e30


def test_what_an_attempt_raises_passes_through():
    def broken(attempt: int) -> Outcome:
        raise LookupError("the row is gone")

    with pytest.raises(LookupError):
        send_until_settled(
            broken,
            first_attempt=1,
            give_up_at=START,
            clock=ManualClock(START),
            policy=RetryPolicy(),
            random=Random(1),
        )

import threading
from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock
from smsapi.plivo.breaker import Admitted, Breaker, Refused


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def breaker(clock):
    return Breaker(clock=clock, failure_threshold=3, open_seconds=30, probe_seconds=20)


def call(breaker: Breaker, *, healthy: bool | None) -> None:
    admitted = breaker.admit()
    assert isinstance(admitted, Admitted)
    breaker.settle(admitted, healthy=healthy)


def opened(breaker: Breaker) -> Breaker:
    for _ in range(3):
        call(breaker, healthy=False)
    assert breaker.state == "open"
    return breaker


def test_it_opens_after_so_many_failures_in_a_row(breaker):
    call(breaker, healthy=False)
    call(breaker, healthy=False)
    assert breaker.state == "closed"
    call(breaker, healthy=False)
    assert breaker.state == "open"
    assert breaker.admit() == Refused(30.0)


def test_a_sign_of_life_starts_the_count_again(breaker):
    for healthy in (False, False, True, False, False):
        call(breaker, healthy=healthy)
    assert breaker.state == "closed"


def test_a_call_that_shows_nothing_neither_counts_nor_clears(breaker):
    for healthy in (False, False, None, False):
        call(breaker, healthy=healthy)
    assert breaker.state == "open"


def test_a_refusal_says_how_long_it_lasts(breaker, clock):
    opened(breaker)
    clock.advance(12)
    assert breaker.admit() == Refused(18.0)


def test_when_due_it_lets_exactly_one_probe_out(breaker, clock):
    opened(breaker)
    clock.advance(30)
    assert breaker.state == "half_open"
    assert isinstance(breaker.admit(), Admitted)
    assert breaker.admit() == Refused(1.0)


def test_a_good_probe_closes_it(breaker, clock):
    opened(breaker)
    clock.advance(30)
    call(breaker, healthy=True)
    assert breaker.state == "closed"
    call(breaker, healthy=False)
    assert breaker.state == "closed"


def test_a_bad_probe_opens_it_for_the_whole_time_again(breaker, clock):
    opened(breaker)
    clock.advance(31)
    call(breaker, healthy=False)
    assert breaker.admit() == Refused(30.0)


def test_a_probe_that_showed_nothing_makes_the_next_caller_the_probe(breaker, clock):
    opened(breaker)
    clock.advance(30)
    call(breaker, healthy=None)
    assert breaker.state == "half_open"
    call(breaker, healthy=True)
    assert breaker.state == "closed"


def test_a_lost_probe_does_not_block_for_ever(breaker, clock):
    opened(breaker)
    clock.advance(30)
    lost = breaker.admit()
    clock.advance(19.5)
    assert breaker.admit() == Refused(0.5)
    clock.advance(0.5)
    second = breaker.admit()
    assert isinstance(second, Admitted)
    breaker.settle(lost, healthy=True)
    assert breaker.state == "half_open"
    breaker.settle(second, healthy=True)
    assert breaker.state == "closed"


def test_a_late_success_of_an_earlier_call_does_not_close_it(breaker):
    early = breaker.admit()
    opened(breaker)
    breaker.settle(early, healthy=True)
    assert breaker.state == "open"


def test_late_failures_of_earlier_calls_do_not_lengthen_the_wait(breaker, clock):
    early = breaker.admit()
    opened(breaker)
    clock.advance(20)
    breaker.settle(early, healthy=False)
    assert breaker.admit() == Refused(10.0)


def test_a_clock_that_is_set_back_does_not_keep_it_open(breaker, clock):
    opened(breaker)
    clock.advance(-86_400)
    assert breaker.admit() == Refused(30.0)
    clock.advance(30)
    assert isinstance(breaker.admit(), Admitted)


def test_many_threads_at_the_due_moment_get_one_probe(breaker, clock):
    opened(breaker)
    clock.advance(30)
    together = threading.Barrier(16)
    answers: list[Admitted | Refused] = []

    def ask() -> None:
        together.wait(10)
        answers.append(breaker.admit())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(answers) == 16
    assert sum(isinstance(answer, Admitted) for answer in answers) == 1


def test_a_threshold_below_one_is_refused(clock):
    with pytest.raises(ValueError, match="threshold"):
        Breaker(clock=clock, failure_threshold=0)

"""A poller looks when it is rung, when its last look said, and seldom otherwise; reassured, not even that."""

import math
import threading
import time

import pytest

from smsapi.errors import StoreUnavailable
from smsapi.lookout import Lookout
from tests.conftest import eventually


@pytest.fixture
def looking():
    """Start a poller that counts its looks; each answers what ``answer`` gives."""
    started = []

    def start(answer=lambda: math.inf, **settings):
        looks = []

        def look(_stopping):
            looks.append(time.monotonic())
            return answer()

        lookout = Lookout("things", look, **{"longest_seconds": 60.0, **settings})
        lookout.looks = looks
        lookout.start()
        started.append(lookout)
        eventually(lambda: looks)
        return lookout

    yield start
    for each in started:
        each.stop(10)
        assert not each._thread.is_alive()


def test_rung_after_a_rest_it_looks_at_once(looking):
    poller = looking()
    eventually(lambda: time.monotonic() - poller.looks[0] > 2 * poller.shortest_seconds)
    rung_at = time.monotonic()
    poller.ring()
    eventually(lambda: len(poller.looks) == 2)
    # Long before it would have looked by itself.
    assert poller.looks[1] - rung_at < 30


def test_however_often_it_is_rung_it_rests_between_two_looks(looking):
    poller = looking()
    until = time.monotonic() + 10 * poller.shortest_seconds
    while time.monotonic() < until:
        poller.ring()
    eventually(lambda: len(poller.looks) > 2)
    rests = [after - before for before, after in zip(poller.looks, poller.looks[1:], strict=False)]
    assert min(rests) >= poller.shortest_seconds


def test_rung_during_its_shortest_rest_it_looks_after_it(looking):
    poller = looking()
    poller.ring()
    eventually(lambda: len(poller.looks) == 2)


def test_what_waits_for_nothing_ends_even_the_shortest_rest(looking):
    def rest_longer():
        if poller is not None:
            poller.shortest_seconds = 60.0
        return math.inf

    poller = None
    poller = looking(rest_longer)
    poller.ring()
    eventually(lambda: len(poller.looks) == 2)
    poller.ring()
    poller.ring(at_once=True)
    eventually(lambda: len(poller.looks) == 3)


def test_it_looks_again_when_its_look_said_whoever_reassures_it(looking):
    answers = iter((0.2, math.inf))
    poller = looking(lambda: next(answers))
    poller.reassure(time.monotonic() + 60)
    eventually(lambda: len(poller.looks) == 2)
    assert poller.looks[1] - poller.looks[0] >= 0.2


def test_reassured_it_does_not_look_and_left_alone_it_looks_for_itself(looking):
    reassured, alone = looking(longest_seconds=0.3), looking(longest_seconds=0.3)
    reassured.reassure(time.monotonic() + 3600)
    eventually(lambda: len(alone.looks) >= 4)
    assert len(reassured.looks) == 1
    reassured.ring()
    eventually(lambda: len(reassured.looks) == 2)


@pytest.mark.parametrize("error", [StoreUnavailable("away", retry_after_seconds=1), RuntimeError("a bug of ours")])
def test_it_outlives_what_a_look_raises_and_looks_again_however_it_is_reassured(looking, error):
    def fail():
        raise error

    poller = looking(fail, longest_seconds=0.05)
    poller.reassure(time.monotonic() + 3600)
    eventually(lambda: len(poller.looks) >= 3)


def test_told_to_stop_at_any_moment_it_ends_at_once():
    for _ in range(50):
        looked = threading.Event()
        poller = Lookout("things", lambda _, looked=looked: looked.set() or math.inf, longest_seconds=3600.0)
        poller.start()
        looked.wait(10)
        poller.stop(10)
        assert not poller._thread.is_alive()


def test_told_to_stop_in_the_middle_of_a_look_it_ends_after_it():
    reached = threading.Event()

    def look(stopping):
        reached.set()
        eventually(stopping)
        return math.inf

    poller = Lookout("things", look, longest_seconds=3600.0)
    poller.start()
    assert reached.wait(10)
    poller.stop(10)
    assert not poller._thread.is_alive()

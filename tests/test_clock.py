"""The clock that all hosts share, and the thread that keeps it."""

from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock, SharedClock, SystemClock
from smsapi.errors import StoreUnavailable
from smsapi.timekeeping import Timekeeper
from tests.conftest import eventually
from tests.support.dispatching import world_of

ELSEWHERE = datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_it_is_this_machine_s_until_it_is_set_and_then_the_shared_one_running_on():
    clock = SharedClock(lambda: ELSEWHERE)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    moved = clock.set()
    assert moved > 86400
    first = clock.now()
    assert ELSEWHERE <= first < ELSEWHERE + timedelta(seconds=5)
    clock.sleep(0.002)
    assert clock.now() > first


def test_two_hosts_whose_own_clocks_differ_agree():
    answers = iter([ELSEWHERE, ELSEWHERE + timedelta(milliseconds=1)])
    one, other = SharedClock(lambda: next(answers)), SharedClock(lambda: next(answers))
    one.set()
    other.set()
    assert abs(one.now() - other.now()) < timedelta(seconds=1)


def test_a_store_that_does_not_answer_leaves_it_running(make_app):
    moments = [ELSEWHERE]

    def look():
        if moments:
            return moments.pop()
        raise StoreUnavailable("The database does not answer.")

    clock = SharedClock(look)
    keeper = Timekeeper(world_of(make_app({"clock": clock})), interval_seconds=0.01)
    keeper.start()
    assert clock.now() >= ELSEWHERE
    moments.append(ELSEWHERE + timedelta(days=1))
    eventually(lambda: clock.now() >= ELSEWHERE + timedelta(days=1))
    keeper.stop()
    before = clock.now()
    assert clock.now() >= before


def test_postgresql_s_time_is_the_time_of_all_and_a_file_has_the_machine_s(make_app, database_url):
    world = world_of(make_app())
    assert isinstance(world.clock, SharedClock if world.database.is_postgresql else SystemClock)
    keeper = Timekeeper(world)
    keeper.start()
    assert abs(world.clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    keeper.stop()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_clock_of_another_kind_is_let_be(make_app):
    clock = ManualClock(ELSEWHERE)
    keeper = Timekeeper(world_of(make_app({"clock": clock})), interval_seconds=0.001)
    keeper.start()
    keeper.stop()
    assert clock.now() == ELSEWHERE

"""A real Redis that is killed, frozen and started again under a store that must go on."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
import redis
from structlog.testing import capture_logs

from smsapi.limits.fallback import FallbackStore
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.memory import MemoryStore
from smsapi.limits.redis import RedisStore
from smsapi.limits.store import LimitStoreDown
from tests.services import start_redis


def charge(key="client", quota=10, seconds=60, cost=1):
    return Charge(key, Window(quota, seconds), "send", cost)


class Switch:
    """A store in memory that can be taken away, and that counts who asks."""

    def __init__(self, clock):
        self._store = MemoryStore(clock)
        self.is_down = False
        self.asked = 0
        self.hold = None

    def _answer(self):
        self.asked += 1
        if self.hold:
            self.hold.wait(10)
        if self.is_down:
            raise LimitStoreDown("switched off")

    def spend(self, charges, *, once=None):
        self._answer()
        return self._store.spend(charges, once=once)

    def peek(self, charges):
        self._answer()
        return self._store.peek(charges)


@pytest.fixture
def primary(clock):
    return Switch(clock)


@pytest.fixture
def store(primary, clock):
    return FallbackStore(primary, MemoryStore(clock), shares=2, clock=clock, retry_seconds=1.0)


@pytest.fixture(scope="module")
def own_redis():
    with start_redis() as service:
        yield service


@pytest.fixture
def over_redis(own_redis, clock):
    own_redis.start()
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushdb()
    primary = RedisStore(own_redis.url, clock=clock)
    yield FallbackStore(primary, MemoryStore(clock), shares=2, clock=clock)
    primary.close()


def test_while_redis_is_gone_each_process_gives_out_its_share(store, primary):
    assert store.spend([charge()]).items[0].remaining == 9
    primary.is_down = True
    verdicts = [store.spend([charge()]) for _ in range(6)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]
    assert verdicts[0].items[0].quota == 10
    assert [verdict.items[0].remaining for verdict in verdicts] == [4, 3, 2, 1, 0, 0]
    assert store.degraded


@pytest.mark.parametrize(("quota", "cost", "allowed"), [(1, 1, 1), (0, 1, 0), (4, 2, 1), (4, 3, 0), (4, 4, 0)])
def test_a_share_is_at_least_one_unit_and_what_costs_more_than_it_does_not_pass(store, primary, quota, cost, allowed):
    primary.is_down = True
    assert sum(store.spend([charge(quota=quota, cost=cost)]).allowed for _ in range(3)) == allowed


def test_nobody_asks_the_primary_again_before_the_time_is_up(store, primary, clock):
    primary.is_down = True
    for _ in range(20):
        store.spend([charge()])
    assert primary.asked == 1
    clock.advance(0.999)
    store.peek([charge()])
    assert primary.asked == 1
    clock.advance(0.001)
    store.peek([charge()])
    store.peek([charge()])
    assert primary.asked == 2


def test_when_the_primary_is_back_so_are_its_tallies(store, primary, clock):
    store.spend([charge(cost=8)])
    primary.is_down = True
    store.spend([charge(cost=5)])
    primary.is_down = False
    clock.advance(1)
    assert store.spend([charge()]).items[0].remaining == 1
    assert not store.degraded


def test_one_request_probes_while_all_others_use_the_share(store, primary, clock):
    primary.is_down = True
    store.spend([charge()])
    primary.hold = threading.Event()
    clock.advance(1)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(store.peek, [charge()]) for _ in range(8)]
        for _, future in zip(range(7), as_completed(asking, timeout=10), strict=False):
            future.result()
        assert sum(future.done() for future in asking) == 7
        primary.hold.set()
    assert primary.asked == 2


def test_a_clock_set_back_does_not_keep_the_primary_away(store, primary, clock):
    primary.is_down = True
    store.spend([charge()])
    primary.is_down = False
    clock.advance(-3_600)
    store.spend([charge()])
    assert not store.degraded


def test_the_strict_store_does_not_fall_back(store, primary):
    primary.is_down = True
    with pytest.raises(LimitStoreDown):
        store.strict.spend([charge()])


def test_going_and_coming_back_are_each_logged_once(store, primary, clock):
    with capture_logs() as logs:
        primary.is_down = True
        for _ in range(3):
            store.spend([charge()])
            clock.advance(1)
        primary.is_down = False
        store.spend([charge()])
        store.spend([charge()])
    assert [entry["event"] for entry in logs] == ["limit_store_down", "limit_store_back"]


def test_no_shares_are_refused(clock):
    with pytest.raises(ValueError, match="at least one share"):
        FallbackStore(MemoryStore(clock), MemoryStore(clock), shares=0, clock=clock)


def test_a_killed_redis_costs_no_request_and_a_started_one_is_used_again(over_redis, own_redis, clock):
    assert over_redis.spend([charge(cost=6)]).items[0].remaining == 4
    own_redis.kill()
    began = time.monotonic()
    assert [over_redis.spend([charge()]).allowed for _ in range(100)] == [True] * 5 + [False] * 95
    # With a time-out each it would be ten seconds.
    assert time.monotonic() - began < 8
    assert over_redis.degraded
    own_redis.start()
    clock.advance(1)
    assert over_redis.spend([charge()]).items[0].remaining == 9
    assert not over_redis.degraded


def test_a_restarted_redis_is_used_on_even_where_connections_are_dead(over_redis, own_redis):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: over_redis.spend([charge(str(number))]), range(40)))
        own_redis.restart()
        verdicts = list(pool.map(lambda number: over_redis.spend([charge(f"new {number}")]), range(40)))
    assert all(verdict.allowed for verdict in verdicts)
    assert not over_redis.degraded


def test_a_frozen_redis_costs_one_time_out_and_then_nothing(over_redis, own_redis, clock):
    over_redis.spend([charge()])
    own_redis.pause()
    try:
        began = time.monotonic()
        over_redis.spend([charge()])
        first = time.monotonic() - began
        for _ in range(100):
            over_redis.peek([charge()])
        rest = time.monotonic() - began - first
    finally:
        own_redis.resume()
    assert 0.09 < first < 8
    # With a time-out each it would be ten seconds.
    assert rest < 8
    clock.advance(1)
    over_redis.spend([charge()])
    assert not over_redis.degraded


def test_a_server_that_takes_connections_and_is_silent_costs_each_waiting_thread_one_time_out(clock):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        silent = RedisStore(f"redis://127.0.0.1:{listening.getsockname()[1]}/0", clock=clock)
        store = FallbackStore(silent, MemoryStore(clock), shares=1, clock=clock)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            verdicts = list(pool.map(lambda _: store.spend([charge()]), range(800)))
        # With a time-out for each question it would be ten seconds.
        assert time.monotonic() - began < 8
    assert sum(verdict.allowed for verdict in verdicts) == 10
    silent.close()

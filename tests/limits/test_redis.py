"""What only the store in Redis promises: round trips, lifetimes, time-outs, forks, and what breaks it."""

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smsapi.clock import ManualClock
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.redis import PREFIX, RedisStore
from smsapi.limits.store import LimitStoreDown

ROOT = Path(__file__).parents[2]
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def charge(key="client", quota=10, seconds=60, cost=1, *, once=False):
    return Charge(key, Window(quota, seconds), "send", cost, 60 if once else 0)


@pytest.fixture
def shared(server, redis_url):
    store = RedisStore(redis_url, timeout_seconds=5)
    yield store
    store.close()


@contextmanager
def silent_server():
    """A server that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


def calls(server):
    return {name: row["calls"] for name, row in server.info("commandstats").items()}


def run_python(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_any_number_of_charges_is_one_round_trip(server, shared):
    shared.spend([charge()])
    server.config_resetstat()
    for _ in range(10):
        shared.spend([charge(str(number), once=True) for number in range(6)], once="token")
    sent = calls(server)
    assert sent["cmdstat_evalsha"] == 10
    assert "cmdstat_eval" not in sent


def test_a_server_that_forgot_the_script_is_taught_it_again(server, shared):
    shared.spend([charge()])
    server.script_flush()
    server.config_resetstat()
    assert shared.spend([charge()]).items[0].remaining == 8
    assert shared.spend([charge()]).items[0].remaining == 7
    assert calls(server)["cmdstat_eval"] == 1


def test_no_charges_ask_nothing(server, shared):
    server.config_resetstat()
    shared.spend([])
    shared.peek([])
    assert not {"cmdstat_evalsha", "cmdstat_eval"} & calls(server).keys()


def test_every_key_has_the_prefix_and_ends(server, shared):
    shared.spend([charge("+14155550001", once=True), charge("day", 5, 86_400)], once="secret token")
    keys = server.keys("*")
    assert len(keys) == 3
    assert all(key.startswith(PREFIX) for key in keys)
    assert not any("4155550001" in key or "secret" in key for key in keys)
    lifetimes = sorted(server.pttl(key) for key in keys)
    # One unit of ten in a minute and the second of grace; the token's minute; one unit of five in a day.
    assert 6_000 < lifetimes[0] <= 7_000
    assert 60_000 < lifetimes[1] <= 61_000
    assert 17_280_000 < lifetimes[2] <= 17_281_000


def test_peeking_and_refusals_write_nothing(server, shared):
    shared.peek([charge(once=True)])
    shared.spend([charge("a", once=True), charge("b", 0)], once="token")
    assert server.keys("*") == []


def test_time_is_the_servers_own_when_no_clock_is_given(server, shared, redis_url):
    shared.spend([charge(cost=5)])
    seconds, microseconds = server.time()
    clear_at = int(server.get(server.keys("*")[0]).split(":")[0])
    assert clear_at - 30_000_000 == pytest.approx(seconds * 1_000_000 + microseconds, abs=5_000_000)
    assert clear_at > 2**50


@pytest.mark.parametrize("value", ["a list", "words"])
def test_a_foreign_value_under_our_key_is_a_store_that_is_down_and_spends_nothing(server, shared, value):
    shared.spend([charge("broken")])
    (key,) = server.keys("*")
    server.delete(key)
    if value == "a list":
        server.rpush(key, "x")
    else:
        server.set(key, value)
    with pytest.raises(LimitStoreDown, match="ResponseError"):
        shared.spend([charge("whole"), charge("broken")])
    assert server.keys("*") == [key]


def test_a_full_server_is_down(server, shared):
    shared.peek([charge()])
    before = server.config_get("maxmemory")["maxmemory"]
    server.config_set("maxmemory", "1")
    try:
        with pytest.raises(LimitStoreDown):
            shared.spend([charge()])
    finally:
        server.config_set("maxmemory", before)


def test_a_refused_connection_is_down_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(LimitStoreDown):
        RedisStore(f"redis://127.0.0.1:{port}/0").spend([charge()])
    assert time.monotonic() - began < 10


def test_a_server_that_never_answers_is_down_after_one_time_out():
    with silent_server() as port:
        store = RedisStore(f"redis://127.0.0.1:{port}/0")
        began = time.monotonic()
        with pytest.raises(LimitStoreDown, match="TimeoutError"):
            store.spend([charge()])
        assert 0.09 < time.monotonic() - began < 10
        store.close()


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(server, redis_url):
    store = RedisStore(redis_url, timeout_seconds=0.1)
    store.spend([charge("other", cost=9), charge("client", 100)])
    server.execute_command("CLIENT", "PAUSE", "300", "ALL")
    with pytest.raises(LimitStoreDown):
        store.spend([charge("other")])
    # Answered only once the pause is over.
    server.ping()
    verdict = store.peek([charge("client", 100)])
    assert (verdict.items[0].quota, verdict.items[0].remaining) == (100, 99)
    store.close()


def test_nothing_is_connected_before_the_first_question():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        RedisStore(f"redis://127.0.0.1:{listening.getsockname()[1]}/0").close()
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_a_url_that_is_none_is_refused_at_construction():
    with pytest.raises(ValueError, match="URL"):
        RedisStore("localhost:6379")


SPENDER = """
import sys
from datetime import UTC, datetime
from smsapi.clock import ManualClock
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.redis import RedisStore
store = RedisStore(sys.argv[1], clock=ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), timeout_seconds=10)
asked = [Charge("client", Window(150, 60), "send"), Charge("day", Window(10_000, 86_400), "send-day")]
print(sum(store.spend(asked).allowed for _ in range(100)))
"""


def test_several_processes_together_get_the_quota_and_not_one_more(server, redis_url):
    spenders = [run_python(SPENDER, redis_url) for _ in range(4)]
    assert sum(int(spender.communicate(timeout=60)[0]) for spender in spenders) == 150


FORKER = """
import os, sys
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.redis import RedisStore
store = RedisStore(sys.argv[1], timeout_seconds=10)
asked = [Charge("client", Window(1000, 86_400), "send")]
store.spend(asked)
child = os.fork()
for _ in range(50):
    store.spend(asked)
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(store.peek(asked).items[0].remaining)
"""


def test_a_store_that_was_used_before_a_fork_works_on_both_sides(server, redis_url):
    assert int(run_python(FORKER, redis_url).communicate(timeout=60)[0]) == 899


def test_threads_use_connections_of_their_own(server, redis_url):
    store = RedisStore(redis_url, clock=ManualClock(MOMENT), timeout_seconds=5)
    together = threading.Barrier(8)

    def hit(number):
        together.wait(10)
        return [store.spend([charge(f"client {number}", 50)]).items[0].remaining for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hit, range(8))) == [list(range(49, -1, -1))] * 8
    store.close()

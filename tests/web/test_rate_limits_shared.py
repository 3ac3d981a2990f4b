"""Limits that several instances share in Redis, and what callers see when it is killed, silent or emptied."""

import time
from datetime import UTC, datetime

import pytest
import redis

from smsapi.clock import ManualClock
from tests.conftest import eventually
from tests.support.api import Caller
from tests.support.limits import all_at_once, left, policies, send

SILENCE_SECONDS = 0.1


@pytest.fixture
def database_url(sqlite_url):
    return sqlite_url


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def own(make_app, redis_server, clock):
    """Make an app on a Redis of this test's own, on a clock that the test moves."""
    return lambda **settings: make_app({"clock": clock}, redis_url=redis_server.url, **settings)


def at(app, caller: Caller) -> Caller:
    """Return the same caller at another instance."""
    return Caller(app, caller.key, caller.client_id, caller.key_id)


def degraded(app) -> bool:
    text = app.test_client().get("/metrics").text
    return "smsapi_limits_degraded 1.0" in text


def readiness(app):
    answer = app.test_client().get("/readyz")
    return answer.status_code, answer.get_json()["down"]


def login(caller: Caller):
    return caller.app.test_client().post("/v1/auth/token", json={"api_key": caller.key})


def test_two_instances_share_every_limit_and_see_a_change_at_once(make_app, redis_url, make_caller):
    limits = {"limit_send": "100 per day", "limit_key": "100 per day", "limit_number": "3 per day"}
    apps = [make_app(redis_url=redis_url, **limits) for _ in range(2)]
    one, admin = make_caller(apps[0]), make_caller(apps[0])
    two = at(apps[1], one)
    assert [left(send(who))["send"] for who in (one, two, one)] == [99, 98, 97]
    assert send(two).status_code == 429
    answer = admin.request("PATCH", f"/v1/clients/{one.client_id}", {"limits": {"number": "9 per day"}})
    assert answer.status_code == 200
    assert left(send(two)) == {"send": 96, "key": 96, "number": 5}


def test_thirty_two_threads_on_two_instances_get_the_quota_and_not_one_more(make_app, redis_url, make_caller):
    apps = [make_app(redis_url=redis_url, limit_api="150 per day", redis_timeout_seconds=5.0) for _ in range(2)]
    one = make_caller(apps[0])
    callers = [at(apps[number % 2], one) for number in range(64)]
    codes = all_at_once([lambda who=who: [who.get("/v1/auth/whoami").status_code for _ in range(4)] for who in callers])
    flat = [code for each in codes for code in each]
    assert (flat.count(200), flat.count(429)) == (150, 106)
    assert not any(degraded(app) for app in apps)


def test_one_number_texted_from_two_instances_at_once_gets_its_share_and_one_key_counts_once(
    make_app, redis_url, make_caller
):
    apps = [make_app(redis_url=redis_url, limit_number="5 per day", redis_timeout_seconds=5.0) for _ in range(2)]
    one = make_caller(apps[0])
    callers = [at(apps[number % 2], one) for number in range(12)]
    together = all_at_once([lambda who=who: send(who, Idempotency_Key="k") for who in callers])
    assert {answer.status_code for answer in together} <= {202, 409}
    assert {left(answer)["number"] for answer in together} == {4}
    apart = all_at_once([lambda who=who: send(who) for who in callers])
    assert sorted(answer.status_code for answer in apart) == [202] * 4 + [429] * 8


def test_a_request_is_one_round_trip_however_many_limits_it_spends(own, redis_server, make_caller):
    caller = make_caller(own())
    send(caller)
    with redis.Redis.from_url(redis_server.url) as server:
        server.config_resetstat()
        for number in range(5):
            assert send(caller, Idempotency_Key=str(number)).status_code == 202
        caller.get("/v1/limits")
        stats = server.info("commandstats")
        # What the script itself does is counted too; nothing of it crosses the wire.
        inside = {"cmdstat_get", "cmdstat_set", "cmdstat_time"}
        asked = {name: row["calls"] for name, row in stats.items() if name not in inside}
        asked.pop("cmdstat_config|resetstat")
        assert asked == {"cmdstat_evalsha": 6}
        assert server.info("stats")["total_connections_received"] <= 1


def test_an_emptied_redis_forgets_and_nothing_else(own, redis_server, make_caller):
    app = own(limit_send="3 per day")
    caller = make_caller(app)
    assert [left(send(caller))["send"] for _ in range(3)] == [2, 1, 0]
    with redis.Redis.from_url(redis_server.url) as server:
        server.flushall()
        server.script_flush()
    assert [left(send(caller))["send"] for _ in range(3)] == [2, 1, 0]
    assert send(caller).status_code == 429
    assert not degraded(app)
    assert readiness(app) == (200, [])


def test_while_redis_is_dead_sends_go_on_within_a_share_and_log_ins_wait(own, redis_server, make_caller, clock):
    app = own(limit_send="10 per day", workers=2)
    caller = make_caller(app)
    assert [left(send(caller))["send"] for _ in range(3)] == [9, 8, 7]
    redis_server.kill()
    answers = [send(caller) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [202] * 5 + [429] * 2
    assert {policies(answer)["send"] for answer in answers} == {(10, 86_400)}
    assert [left(answer)["send"] for answer in answers] == [4, 3, 2, 1, 0, 0, 0]
    assert degraded(app)
    assert readiness(app) == (503, ["redis"])
    refused = login(caller)
    assert (refused.status_code, refused.get_json()["code"]) == (503, "limiter_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert caller.get("/v1/limits").status_code == 200
    redis_server.start()
    clock.advance(1)
    # It was killed and had nothing on disk, so it begins anew.
    assert left(send(caller))["send"] == 9
    assert not degraded(app)
    assert readiness(app) == (200, [])
    assert login(caller).status_code == 200


def test_a_silent_redis_costs_one_request_one_time_out_and_then_nobody(own, redis_server, make_caller, clock):
    app = own(limit_send="100 per day", workers=1)
    caller = make_caller(app)
    left_before = left(send(caller))["send"]
    redis_server.pause()
    try:
        waits, answers = zip(*[timed(lambda: send(caller)) for _ in range(6)], strict=True)
        assert [answer.status_code for answer in answers] == [202] * 6
        assert SILENCE_SECONDS * 0.9 < waits[0] < 1
        assert sorted(waits[1:])[2] < SILENCE_SECONDS * 0.9
        assert degraded(app)
        assert login(caller).status_code == 503
        assert readiness(app) == (503, ["redis"])
        clock.advance(1)
        slow, answer = timed(lambda: send(caller))
        assert answer.status_code == 202
        assert SILENCE_SECONDS * 0.9 < slow < 10
    finally:
        redis_server.resume()
    clock.advance(1)
    # What was asked for while it was silent may still have been carried out, once it woke.
    assert left_before - 4 <= left(send(caller))["send"] <= left_before - 1
    assert not degraded(app)
    eventually(lambda: login(caller).status_code == 200)


def timed(act):
    began = time.monotonic()
    answer = act()
    return time.monotonic() - began, answer


def test_when_redis_dies_under_load_no_request_fails(own, redis_server, make_caller, clock):
    app = own(limit_api="100000 per day")
    caller = make_caller(app)
    codes = []

    def ask():
        codes.extend(caller.get("/v1/limits").status_code for _ in range(15))

    def disturb():
        eventually(lambda: len(codes) > 20)
        redis_server.kill()
        eventually(lambda: len(codes) > 60)
        redis_server.start()
        clock.advance(1)

    all_at_once([ask] * 8 + [disturb])
    assert codes == [200] * 120
    caller.get("/v1/limits")
    assert not degraded(app)

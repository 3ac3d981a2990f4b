"""``smsapi serve`` with two workers, as a process, on PostgreSQL with Redis and on SQLite."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from smsapi import migrations
from smsapi.db import Database
from smsapi.plivo.simulator.faults import Rule
from tests.conftest import eventually
from tests.services import start_postgres
from tests.support.dispatching import ASYNC
from tests.support.served import caller_of, environment, serving


@pytest.fixture(params=["sqlite", "postgresql and redis"])
def environ(request, simulator):
    if request.param == "sqlite":
        return environment(request.getfixturevalue("sqlite_url"), simulator.url)
    redis = request.getfixturevalue("redis_url")
    return environment(request.getfixturevalue("postgres_url"), simulator.url, SMSAPI_REDIS_URL=redis)


def statuses(caller):
    page = caller.request("GET", "/v1/messages?limit=100").json()
    return sorted(message["status"] for message in page["data"])


def send_at_once(caller, numbers):
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda n: caller.send(to=f"+1415557{2000 + n}"), numbers))


def queue(caller, numbers):
    answers = [caller.send(to=f"+1415557{2000 + n}", headers=ASYNC) for n in numbers]
    assert {answer.status_code for answer in answers} == {202}


def is_settled(caller):
    return not {"queued", "sending"} & set(statuses(caller))


# One story for each store, since each start of the service costs seconds.
def test_two_workers_send_count_and_survive_what_kills_them(environ, simulator):
    with serving(environ) as served:
        caller = caller_of(served)
        see_it_ready(served)
        lose_a_worker(served, caller)
        see_it_counted(served, simulator, unknown=statuses(caller).count("unknown"))
        lose_everything(served, caller, simulator)
        stop_with_a_request_in_flight(served, caller, simulator)
        assert {line["event"] for line in served.lines()} >= {"request", "attempt"}


def see_it_ready(served):
    ready = requests.get(f"{served.url}/readyz", timeout=10)
    redis = {"redis"} if "SMSAPI_REDIS_URL" in served.environ else set()
    assert (ready.status_code, set(ready.json()["checks"])) == (200, {"database", "queue"} | redis)


def lose_a_worker(served, caller):
    # The first answers while the second is still being started.
    before = eventually(lambda: len(workers := served.workers()) == 2 and workers)
    assert {answer.status_code for answer in send_at_once(caller, range(20))} == {201}
    queue(caller, range(20, 40))
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(served.workers()) == 2 and before[0] not in served.workers())
    assert {answer.status_code for answer in send_at_once(caller, range(40, 45))} == {201}
    # What the dead worker had claimed comes back when its lease ends.
    eventually(lambda: is_settled(caller))


def see_it_counted(served, simulator, unknown):
    # By both workers, and by the one that is dead.
    assert served.metric("smsapi_request_seconds_count", method="POST", route="/v1/messages") == 45
    assert served.metric("smsapi_messages_total", status="queued", mode="live") == 45
    assert unknown <= 4
    assert 45 - unknown <= simulator.store.count() <= 45
    assert set(simulator.store.texts_by_number().values()) == {1}


def lose_everything(served, caller, simulator):
    simulator.faults.replace([Rule("slow", seconds=0.5)])
    before, lost = simulator.store.count(), statuses(caller).count("unknown")
    queue(caller, range(100, 140))
    eventually(lambda: simulator.store.count() >= before + 1)
    served.kill()
    assert simulator.store.count() < before + 40
    simulator.faults.replace([])
    served.start()
    eventually(lambda: is_settled(caller))
    assert set(simulator.store.texts_by_number().values()) == {1}
    assert len(statuses(caller)) == 85
    # Two workers with four threads each: no more than eight calls can have been under way at the kill.
    unknown = statuses(caller).count("unknown") - lost
    assert unknown <= 8
    assert before + 40 - unknown <= simulator.store.count() <= before + 40


def stop_with_a_request_in_flight(served, caller, simulator):
    simulator.faults.replace([Rule("slow", seconds=1.5)])
    before, answers = simulator.store.count(), []
    waiting = threading.Thread(target=lambda: answers.append(caller.send(to="+14155580009")))
    waiting.start()
    with requests.Session() as idle:
        # A connection that is kept alive must not hold the stop up.
        idle.get(f"{served.url}/healthz", timeout=10)
        eventually(lambda: "sending" in statuses(caller))
        started = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - started < 60
    waiting.join(10)
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(201, "sent")]
    assert simulator.store.count() == before + 1


def test_readiness_names_what_is_gone_and_sending_goes_on_without_redis(simulator, redis_server):
    with start_postgres() as postgres:
        store = Database(postgres.url)
        migrations.upgrade(store)
        store.close()
        environ = environment(postgres.url, simulator.url, SMSAPI_REDIS_URL=redis_server.url, SMSAPI_WORKERS=1)
        with serving(environ) as served:
            caller = caller_of(served)

            def ready():
                answer = requests.get(f"{served.url}/readyz", timeout=10)
                return answer.status_code, answer.json()["down"]

            assert ready() == (200, [])
            redis_server.kill()
            assert ready() == (503, ["redis"])
            assert caller.send().status_code == 201
            postgres.kill()
            assert ready() == (503, ["database", "redis"])
            down = caller.send()
            assert (down.status_code, down.json()["code"]) == (503, "store_unavailable")
            assert int(down.headers["Retry-After"]) >= 1
            assert requests.get(f"{served.url}/healthz", timeout=10).status_code == 200
            redis_server.start()
            postgres.start()
            eventually(lambda: ready() == (200, []))
            assert caller.send().status_code == 201
            # There, and silent: no answer is no, and the question is answered all the same.
            postgres.pause()
            started = time.monotonic()
            assert ready() == (503, ["database"])
            assert time.monotonic() - started < 14
            postgres.resume()
            eventually(lambda: ready() == (200, []))
            assert served.stop() == 0

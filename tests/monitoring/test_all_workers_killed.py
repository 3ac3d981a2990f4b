"""All that send are killed beside a full queue: probe, metrics, doctor, queue status and the alert rule say so."""

import json
import re
import tempfile
from pathlib import Path

import requests

from smsapi.plivo.simulator.faults import Rule
from smsapi.remembered import REMEMBER_AT_MOST_SECONDS
from smsapi.workers.store import ALIVE_SECONDS
from tests.conftest import eventually, new_caller
from tests.support.dispatching import ASYNC, multiply, world_of
from tests.support.rules import PROMTOOL, fires
from tests.support.served import environment, run_smsapi, serving, working

DUE = 500
NOBODY = "no process that sends is alive"


def fill(app, count):
    first = new_caller(app).send(headers=ASYNC)
    multiply(world_of(app), first.get_json(), count - 1)


def ready_of(served):
    answer = requests.get(f"{served.url}/readyz", timeout=30)
    return answer.status_code, answer.json()


def alert_fires(served):
    text = requests.get(f"{served.url}/metrics", timeout=30).text
    with tempfile.TemporaryDirectory() as made:
        return fires("SmsapiNobodySends", text, Path(made))


def checks_of(environ):
    done = run_smsapi(environ, "doctor", "--json")
    return {each["check"]: each for each in json.loads(done.stdout)["checks"]}


def test_the_times_add_up_to_less_than_fifteen_seconds():
    # Here, since no test may be held to a time on a machine that has much else to do.
    assert ALIVE_SECONDS + REMEMBER_AT_MOST_SECONDS < 15


def test_all_say_so_when_everybody_who_sends_was_killed_and_no_more_once_one_is_back(make_app, database_url, simulator):
    simulator.faults.replace([Rule("slow", seconds=2.0)])
    fill(make_app(dispatch_threads=0), DUE)
    environ = environment(database_url, simulator.url, SMSAPI_WORKERS=1)
    with (
        serving(environ | {"SMSAPI_DISPATCH_THREADS": "0"}) as served,
        working(environ, processes=2, threads=2) as worker,
    ):
        worker.start()
        eventually(lambda: served.metric("smsapi_workers_alive") == 2)
        see_it_well(served, environ)
        worker.kill()
        eventually(lambda: ready_of(served)[1]["status"] == "degraded")
        see_it_told(served, environ)
        worker.start()
        eventually(lambda: ready_of(served)[1]["status"] == "ready")
        see_it_well(served, environ)
        assert worker.stop() == 0
        # Those that stopped in order leave nothing behind, those that were killed are shown for a while.
        left = json.loads(run_smsapi(environ, "queue", "status", "--json").stdout)["workers"]
        assert [each["alive"] for each in left] == [False, False]


def see_it_well(served, environ):
    assert ready_of(served)[1]["checks"]["queue"] == "ok"
    assert PROMTOOL is None or not alert_fires(served)
    shown = run_smsapi(environ, "queue", "status")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert (
        len(re.findall(r"^Process: worker 0\S+ on \S+ \(pid \d+, threads 2\) sends, ", shown.stdout, re.MULTILINE)) == 2
    )


def see_it_told(served, environ):
    status, ready = ready_of(served)
    assert (status, ready["down"], ready["checks"]["queue"]) == (200, [], "degraded")
    assert re.fullmatch(rf"\d+ due, the first for \d+ s, and {NOBODY}", ready["degraded"]["queue"])
    assert served.metric("smsapi_workers_alive") == 0
    assert served.metric("smsapi_queue_depth", lane="transactional") > DUE / 2
    assert served.metric("smsapi_queue_oldest_seconds", lane="transactional") > 5
    assert PROMTOOL is None or alert_fires(served)
    checks = checks_of(environ)
    assert (checks["workers"]["state"], NOBODY in checks["workers"]["detail"]) == ("fail", True)
    assert "smsapi worker" in checks["workers"]["advice"]
    shown = run_smsapi(environ, "queue", "status")
    assert (shown.returncode, NOBODY in shown.stderr) == (1, True)
    assert len(re.findall(r"^Process: worker .* is gone, last heartbeat at ", shown.stdout, re.MULTILINE)) == 2

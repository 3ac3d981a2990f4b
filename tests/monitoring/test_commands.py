"""The processes that send, as ``smsapi doctor`` and ``smsapi queue status`` show them."""

import json
import re

import pytest

from smsapi.clock import rfc3339
from smsapi.monitoring.workers import ALIVE_SECONDS
from tests.conftest import AUTH_ID, AUTH_TOKEN, JWT_SECRET, new_caller
from tests.support.command import called
from tests.support.dispatching import ASYNC, world_of
from tests.support.heartbeats import beat
from tests.support.staged import stage


@pytest.fixture
def run(database_url, simulator):
    """Run a command on this test's store."""
    environ = {
        "SMSAPI_DATABASE_URL": database_url,
        "SMSAPI_PLIVO_URL": simulator.url,
        "SMSAPI_JWT_SECRET": JWT_SECRET,
        "PLIVO_AUTH_ID": AUTH_ID,
        "PLIVO_AUTH_TOKEN": AUTH_TOKEN,
    }
    return lambda *words: called(*words, **environ)


@pytest.fixture
def examined(run):
    def look():
        checks = {each["check"]: each for each in json.loads(run("doctor", "--json").stdout)["checks"]}
        return checks["workers"], checks["dispatcher"]

    return look


def test_the_doctor_fails_at_once_where_something_is_due_and_nobody_sends(app, examined):
    world = world_of(app)
    assert examined()[0]["detail"] == "nothing is due, and no process sends"
    gone = beat(world, seconds_ago=ALIVE_SECONDS + 1, version="0.0.9")
    new_caller(app).send(headers=ASYNC)
    workers, dispatcher = examined()
    assert workers["detail"] == (
        "1 due, and no process that sends is alive: worker 0.0.9 on there (pid 7, threads 4) is gone, "
        f"last heartbeat at {rfc3339(gone.beat_at)}."
    )
    assert (workers["state"], "smsapi worker" in workers["advice"]) == ("fail", True)
    assert (dispatcher["state"], dispatcher["detail"]) == ("skip", "needs workers")
    # Ahead by as much as a busy machine may take until it looks.
    beat(world, host="here", role="serve", seconds_ago=-8)
    workers, dispatcher = examined()
    said = workers["detail"].split("; ")
    assert said[0].startswith("serve 0.1.0 on here (pid 7, threads 4) sends, last heartbeat ")
    assert (workers["state"], len(said), dispatcher["state"]) == ("ok", 2, "ok")


def test_a_process_that_dies_at_each_of_its_starts_does_not_fill_the_page(app, examined):
    for number in range(9):
        beat(world_of(app), seconds_ago=100 + number, pid=number)
    said = examined()[0]["detail"].split("; ")
    assert [re.findall(r"pid (\d+)", each) for each in said] == [["0"], ["1"], ["2"], ["3"], ["4"], []]
    assert said[-1] == "4 more that are gone"


def test_the_status_fails_at_once_where_something_is_due_and_nobody_sends(app, run):
    assert run("queue", "status").exit_code == 0
    stage(new_caller(app), 3)
    for as_json in ((), ("--json",)):
        failed = run("queue", "status", *as_json)
        assert failed.exit_code == 1
        assert failed.exception.detail.startswith("3 due, and no process that sends is alive. Run `smsapi worker`")
        assert "marketing" in failed.stdout
    beat(world_of(app), seconds_ago=-8)
    shown = run("queue", "status")
    assert "\nRows of batches that are due and not messages yet: 3.\n" in shown.stdout
    assert shown.exit_code == 0

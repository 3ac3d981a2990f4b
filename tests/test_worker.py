"""``smsapi worker`` as real processes: they share the queue, and whatever ends one loses and doubles nothing."""

import os
import signal
from contextlib import ExitStack

import pytest
import requests

from smsapi.cli.start import check_worker
from smsapi.errors import SmsapiError
from smsapi.plivo.simulator.faults import Rule
from tests.conftest import eventually, free_port, new_caller
from tests.support.command import environment as command_environment
from tests.support.dispatching import ASYNC, counts_by_status, multiply, world_of
from tests.support.served import caller_of, environment, serving, working

COUNT = 60
NEVER_KNOWN = "deliveries_are_never_known"


@pytest.fixture
def app(make_app):
    """Return an app that fills the queue and looks at it; it sends nothing."""
    return make_app(dispatch_threads=0)


def fill(app, count):
    first = new_caller(app).send(headers=ASYNC)
    assert first.status_code == 202
    multiply(world_of(app), first.get_json(), count - 1)


def is_over(app):
    return not {"queued", "sending"} & counts_by_status(world_of(app)).keys()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_on_one_machine_that_is_told_to_stop_ends_what_it_began(app, database_url, simulator):
    simulator.faults.replace([Rule("slow", seconds=0.3)])
    fill(app, COUNT)
    port = free_port()
    environ = environment(database_url, simulator.url, SMSAPI_WORKER_METRICS_BIND=f"127.0.0.1:{port}")
    with working(environ, processes=2, threads=2) as worker:
        worker.start()
        eventually(lambda: 'smsapi_attempts_total{outcome="accepted"' in metrics_at(port))
        stop_in_the_middle(worker, app, simulator)


def metrics_at(port):
    return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text


# What Python 3.14 starts processes with, in place of a fork.
FORK_SERVER = """
from multiprocessing import context
context._default_context._default_context = context._concrete_contexts["forkserver"]
"""


# One story, since each start costs seconds.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_take_over_from_each_other_however_one_ends(app, database_url, simulator, tmp_path):
    environ = environment(database_url, simulator.url)
    (tmp_path / "sitecustomize.py").write_text(FORK_SERVER)
    newer = environ | {"PYTHONPATH": str(tmp_path)}
    simulator.faults.replace([Rule("slow", seconds=0.3)])
    fill(app, COUNT)
    with ExitStack() as stack:
        first, second, third = (
            stack.enter_context(working(given, processes=processes, threads=2))
            for given, processes in ((environ, 2), (environ, 1), (newer, 1))
        )
        first.start()
        stop_in_the_middle(first, app, simulator)
        second.begin()
        third.begin()
        lose_one_of_two(second, third, app)
        simulator.faults.replace([])
        eventually(lambda: is_over(app))
        lose_a_process_of(third)
    counted = counts_by_status(world_of(app))
    # Two calls at most were under way in the one that was killed.
    assert counted.get("unknown", 0) <= 2
    assert counted.keys() <= {"sent", "unknown"}
    assert set(simulator.store.texts_by_number().values()) == {1}


def stop_in_the_middle(worker, app, simulator):
    eventually(lambda: simulator.store.count() >= 4)
    assert worker.stop() == 0
    counted = counts_by_status(world_of(app))
    # Every call that had begun is written down, and nothing was begun that nobody would end.
    assert counted == {"sent": simulator.store.count(), "queued": COUNT - simulator.store.count()}
    assert len(worker.lines("worker_stopped")) == 2


def lose_one_of_two(lost, other, app):
    for each in (lost, other):
        eventually(lambda worker=each: worker.lines("attempt"))
    lost.kill()
    assert counts_by_status(world_of(app))["queued"] > 0


def lose_a_process_of(worker):
    (process,) = worker.workers()
    os.kill(process, signal.SIGKILL)
    assert worker.process.wait(10) != 0
    (line,) = [line for line in worker.lines() if line["level"] == "critical"]
    assert "exited unexpectedly" in line["event"]


def test_the_broker_wakes_workers_and_without_it_they_look_for_themselves(postgres_url, redis_server, simulator):
    environ = environment(postgres_url, simulator.url, SMSAPI_BROKER_URL=redis_server.url, SMSAPI_WORKERS=1)
    rare = {**environ, "SMSAPI_DISPATCH_SWEEP_SECONDS": "60"}
    accepting = {**rare, "SMSAPI_DISPATCH_THREADS": "0"}
    with working(rare) as told, working(environ) as looking:
        told.begin()
        with serving(accepting) as served:
            told.wait()
            caller = caller_of(served)
            # The first may be found by the first look, the second only by a hint.
            for _ in range(2):
                send_and_wait(caller)
            redis_server.kill()
            looking.start()
            send_and_wait(caller)
            eventually(lambda: told.lines("broker_down"))
            redis_server.start()
            eventually(lambda: told.lines("broker_back"))
            # Without the process that would pass on to them that they are to end, they end.
            looking.process.kill()
            eventually(lambda: looking.lines("worker_stopped"))
            send_and_wait(caller)
            # As a terminal does it, to all that is there.
            os.killpg(told.process.pid, signal.SIGINT)
            assert told.process.wait(15) == 0
            # Only the service has an address that Plivo could report to.
            for each, first in ((served, []), (told, [NEVER_KNOWN]), (looking, [NEVER_KNOWN])):
                # On a busy machine a lease may run out before its call.
                warned = [line["event"] for line in each.lines() if line["level"] != "info"]
                warned = [event for event in warned if event not in {"held_up", "heartbeat_waits"}]
                assert warned == [*first, "broker_down"]
            assert [len(each.lines("attempt")) for each in (served, told, looking)] == [0, 3, 1]
            assert simulator.store.count() == 4


def send_and_wait(caller):
    answer = caller.send(headers=ASYNC)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    # Before a sweep, which comes once a minute, could have found it.
    eventually(lambda: caller.message(answer.json()["id"])["sent_at"], seconds=40)


class TestWhatStopsTheStart:
    @pytest.fixture
    def environ(self, sqlite_url):
        return environment(sqlite_url, f"http://127.0.0.1:{free_port()}")

    def refusal(self, environ):
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ.keys() - command_environment().keys():
                patch.delenv(name)
            for name, value in environ.items():
                patch.setenv(name, value)
            with pytest.raises(SmsapiError) as refused:
                check_worker()
        return refused.value.detail

    def test_is_named_in_a_line_each(self, environ):
        said = self.refusal(environ | {"SMSAPI_BROKER_URL": "kafka://:hunter2@nowhere", "SMSAPI_LOG_LEVEL": "loud"})
        assert {line.partition(" ")[0] for line in said.splitlines()} == {"SMSAPI_BROKER_URL", "SMSAPI_LOG_LEVEL"}
        assert "hunter2" not in said

    def test_may_be_that_it_would_have_no_threads(self, environ):
        assert "--threads" in self.refusal(environ | {"SMSAPI_DISPATCH_THREADS": "0"})

    def test_may_be_the_schema(self, environ, tmp_path):
        said = self.refusal(environ | {"SMSAPI_DATABASE_URL": f"sqlite:///{tmp_path / 'empty.db'}"})
        assert "smsapi db upgrade" in said

"""A log that cannot be written decides nothing: requests are answered, texts sent and settled, threads live on."""

import logging
import os
import subprocess
import sys

import psycopg
import pytest
import requests

from smsapi.log import configure_logging, get_logger
from smsapi.logsink import LogSink, count_dropped_with, read_log_trouble
from smsapi.plivo.simulator.faults import Rule
from tests.conftest import eventually
from tests.support.dispatching import ASYNC
from tests.support.logs import KINDS, dead_log
from tests.support.served import Served, Worker, caller_of, environment

# A text whose call was answered by a 500 is asked for this long after it, and not for a minute.
SOON = {"SMSAPI_WORKERS": 1, "SMSAPI_RECONCILE_AFTER_SECONDS": 1}


@pytest.fixture(params=KINDS)
def dead(request):
    with dead_log(request.param) as fd:
        yield fd


@pytest.fixture
def served(dead, cut, postgres_url, simulator, tmp_path):
    environ = environment(postgres_url, simulator.url, SMSAPI_DISPATCH_THREADS=2, **SOON)
    served = Served(environ, tmp_path / "served")
    served.log.parent.mkdir()
    try:
        served.log_to(dead)
        served.start()
        yield served
    finally:
        served.close()


@pytest.fixture
def cut(postgres_url):
    """Cut every connection of the service, and none of the tests' own, which are there already."""
    plain = postgres_url.replace("+psycopg", "")
    theirs = "SELECT pid FROM pg_stat_activity WHERE application_name = 'smsapi' AND datname = current_database()"
    with psycopg.connect(plain, autocommit=True) as connection:
        ours = [pid for (pid,) in connection.execute(theirs)]
        yield lambda: connection.execute(
            f"SELECT pg_terminate_backend(pid) FROM ({theirs}) s WHERE pid <> ALL(%s)", [ours]
        )


def send_and_see_it_arrive(caller, **headers):
    answer = caller.send(headers=headers)
    assert answer.status_code in {201, 202}, answer.text
    eventually(lambda: caller.message(answer.json()["id"])["status"] == "delivered", seconds=120)


def test_a_service_whose_log_is_gone_answers_sends_settles_and_says_so(served, cut, simulator):
    caller = caller_of(served)
    (before,) = served.workers()
    send_and_see_it_arrive(caller)
    send_and_see_it_arrive(caller, **ASYNC)
    simulator.faults.replace([Rule("500", count=1, taken=False), Rule("429", count=1)])
    send_and_see_it_arrive(caller, **ASYNC, **{"Idempotency-Key": "one"})
    # Every thread that looks for work is told that the store does not answer, which it logs.
    cut()
    eventually(lambda: requests.get(f"{served.url}/readyz", timeout=30).ok, seconds=60)
    send_and_see_it_arrive(caller, **ASYNC)
    ready = requests.get(f"{served.url}/readyz", timeout=10).json()
    assert ready["status"] == "ready"
    assert ready["log"]["status"] == "failing"
    assert ready["log"]["reason"]
    assert ready["log"]["dropped_lines"] > 5
    assert served.metric("smsapi_log_lines_dropped_total") >= ready["log"]["dropped_lines"]
    assert served.workers() == [before]


def test_a_worker_whose_log_is_gone_sends_and_settles_all_the_same(dead, cut, postgres_url, simulator, tmp_path):
    environ = environment(postgres_url, simulator.url, **SOON)
    served = Served({**environ, "SMSAPI_DISPATCH_THREADS": "0"}, tmp_path / "api")
    worker = Worker({**environ, "SMSAPI_PUBLIC_URL": served.url}, tmp_path / "worker", threads=2)
    for unit in (served, worker):
        unit.log.parent.mkdir()
    try:
        served.start()
        worker.log_to(dead)
        worker.begin()
        caller = caller_of(served)
        send_and_see_it_arrive(caller, **ASYNC)
        simulator.faults.replace([Rule("500", count=2, taken=False), Rule("429", count=1)])
        send_and_see_it_arrive(caller, **ASYNC)
        cut()
        eventually(lambda: requests.get(f"{served.url}/readyz", timeout=30).ok, seconds=60)
        # A process that died within a call is logged of while its message is put right.
        worker.kill()
        worker.begin()
        send_and_see_it_arrive(caller, **ASYNC)
        assert worker.stop() == 0
    finally:
        served.close()
        worker.close()


def test_what_cannot_be_written_is_dropped_and_counted_and_the_log_goes_on_when_it_can():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        sink = LogSink(stream)
        sink.write("one")
        assert read_log_trouble().reason is None
        os.close(reader)
        dropped = read_log_trouble().dropped
        sink.write("two")
        assert read_log_trouble().dropped == dropped + 1
        assert read_log_trouble().reason == "BrokenPipeError: Broken pipe"
    with dead_log("disk_full") as fd, os.fdopen(os.dup(fd), "w") as stream:
        LogSink(stream).write("three")
    assert "No space left" in read_log_trouble().reason
    LogSink(sys.__stderr__).write("{}")
    assert read_log_trouble().reason is None


def test_a_line_that_was_cut_off_spoils_no_other_line():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as out:
        sink = LogSink(stream)
        long = "x" * 100_000
        sink.write(long)
        found = out.read(1 << 20)
        sink.write("whole")
        found += out.read(1 << 20)
    assert found.splitlines()[-1] == b"whole"
    assert len(found.splitlines()) == 2


def test_long_lines_of_several_writers_of_one_pipe_stay_whole():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb") as out:
        sinks = [LogSink(stream), LogSink(stream)]
        for sink, letter in zip(sinks, "ab", strict=True):
            sink.write(letter * 9000)
        assert {out.readline().strip() for _ in sinks} == {b"a" * 9000, b"b" * 9000}


def test_a_process_without_a_stderr_logs_nothing_and_works():
    program = (
        "import logging\n"
        "from smsapi.log import configure_logging, get_logger\n"
        "from smsapi.logsink import read_log_trouble\n"
        "configure_logging('info')\n"
        "get_logger().warning('it_happened')\n"
        "logging.getLogger('library').error('it_happened')\n"
        "print(read_log_trouble())\n"
    )
    code = f'exec {sys.executable} -c "$PROGRAM" 2>&-'
    done = subprocess.run(
        ["/bin/sh", "-c", code],
        env={**os.environ, "PROGRAM": program},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert "dropped=2" in done.stdout


HOSTILE = """
import logging
from smsapi.log import configure_logging, get_logger
from smsapi.logsink import read_log_trouble

class Unspeakable(str):
    def __str__(self):
        raise RuntimeError("not to be said")
    __repr__ = __format__ = encode = __str__

circle = {}
circle["itself"] = circle
configure_logging("info")
get_logger().warning("it_happened", what=circle)
get_logger().warning("it_happened", what={Unspeakable("x"): {object(): 1}})
logging.getLogger("library").error("%d and %d", "no number")
assert read_log_trouble().dropped >= 2
get_logger().warning("it_goes_on")
"""


def test_a_line_that_cannot_be_made_raises_nothing():
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "it_goes_on" in done.stderr.splitlines()[-1]


def test_an_error_listener_that_fails_takes_no_line_away(capsys):
    def fail(_error):
        raise RuntimeError("Sentry is gone")

    try:
        configure_logging("info", on_error=fail)
        logging.getLogger("library").error("it_happened", exc_info=ValueError("x"))
        assert "it_happened" in capsys.readouterr().err
    finally:
        configure_logging("info")


def test_lines_dropped_before_anybody_counts_are_counted_too():
    LogSink(None).write("gone")
    counted = []
    try:
        count_dropped_with(counted.append)
        assert sum(counted) == read_log_trouble().dropped > 0
        LogSink(None).write("gone")
        assert sum(counted) == read_log_trouble().dropped
    finally:
        count_dropped_with(lambda _lines: None)


RAISING = """
import sys, threading
from types import SimpleNamespace
import structlog
from sqlalchemy import event
from smsapi.app import build_deps
from smsapi.clock import SharedClock
from smsapi.dispatch.engine import Dispatcher
from smsapi.dispatch.hints import Hints
from smsapi.lookout import Lookout
from smsapi.settings import read_settings
from smsapi.timekeeping import Timekeeper

class Raising:
    def __getattr__(self, name):
        def fail(*_args, **_fields):
            said.release()
            raise OSError("the log is gone")
        return fail

said = threading.Semaphore(0)
structlog.configure(processors=[], logger_factory=lambda *_: Raising(), cache_logger_on_first_use=False)

def fail(*_args):
    again.release()
    raise RuntimeError("a bug of ours")

again = threading.Semaphore(0)
lookout = Lookout("bugs", fail, longest_seconds=0.01)
timekeeper = Timekeeper(SimpleNamespace(clock=SharedClock(fail)), interval_seconds=0.01)
hints = Hints("redis://127.0.0.1:1/0", fail)
hints.start()
hints.ring()
assert said.acquire(timeout=30)
for thread in (lookout, timekeeper):
    thread.start()
    for _ in range(3):
        assert again.acquire(timeout=30), thread
    thread.stop(*([10] if thread is lookout else []))
given = {"plivo_auth_id": "MATESTTESTTESTTEST00", "plivo_auth_token": "x", "jwt_secret": "-" * 32}
# Without a schema: whatever looks into it is told that the store does not answer.
world = build_deps(read_settings({}, database_url=f"sqlite:///{sys.argv[1]}", dispatch_sweep_seconds=0.05, **given))
dispatcher = Dispatcher(world)
dispatcher.start()
for _ in range(40):
    assert said.acquire(timeout=30)
names = {thread.name for thread in threading.enumerate()}
looking = ("sweep", "webhooks", "batches", "reports", "housekeeping", "hints", "heartbeat")
assert {f"smsapi-{each}" for each in looking} <= names, names
assert dispatcher.trouble() is None
dispatcher.stop(10)
hints.stop()
print("alive")
"""


def test_no_thread_ends_where_what_is_said_of_a_failure_raises_as_well(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RAISING, str(tmp_path / "empty.db")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "alive\n", done.stderr


def test_a_logger_that_was_used_before_follows_when_logging_is_configured_again():
    used, errors = get_logger(), []
    used.info("it_happened")
    try:
        configure_logging("info", on_error=errors.append)
        used.error("it_happened_again", exc_info=ValueError("x"))
    finally:
        configure_logging("info")
    assert [str(error) for error in errors] == ["x"]

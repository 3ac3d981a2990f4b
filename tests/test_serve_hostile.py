"""``smsapi serve`` as a process, with callers who are slow, callers who wait, and requests that are no HTTP."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import orjson
import pytest
import requests

from smsapi.plivo.simulator.faults import Rule
from tests.conftest import eventually
from tests.support.api import Remote
from tests.support.contract import check_answer
from tests.support.raw_http import exchange
from tests.support.served import caller_of, environment, serving, working

THREADS = 4
UNFINISHED = (
    b"POST /v1/auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
)


@pytest.fixture
def served(sqlite_url, simulator):
    small = {
        "SMSAPI_WORKERS": 1,
        "SMSAPI_THREADS": THREADS,
        "SMSAPI_REQUEST_READ_SECONDS": 1,
        "SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS": 6,
        "SMSAPI_LEASE_SECONDS": 8,
    }
    with serving(
        {**environment(sqlite_url, simulator.url), **{name: str(value) for name, value in small.items()}}
    ) as it:
        yield it


def healthy_within(served, seconds):
    began = time.monotonic()
    assert requests.get(f"{served.url}/healthz", timeout=seconds).status_code == 200
    return time.monotonic() - began


def cut_off(served):
    return sum(line["count"] for line in served.lines() if line["event"] == "slow_requests_cut_off")


def test_slow_senders_are_cut_off_and_the_others_go_on(served):
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(3 * THREADS)]
        for number, sock in enumerate(slow):
            sock.sendall(UNFINISHED if number % 2 else UNFINISHED[:30])
        # Three rounds of a second each, until every one of them has had its time.
        assert healthy_within(served, 10) < 8
        for sock in slow:
            sock.settimeout(10)
            assert sock.recv(100) == b""
    # The line is written after the sockets are shut, so it may come a moment later.
    eventually(lambda: cut_off(served) == len(slow))


def test_who_says_nothing_holds_no_thread_and_is_let_go(served):
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(60 * THREADS)
        ]
        # With a thread for each of them it would take a minute.
        assert healthy_within(served, 20) < 15
        for sock in silent:
            sock.settimeout(30)
            assert sock.recv(100) == b""
    assert cut_off(served) == 0
    with socket.create_connection(("127.0.0.1", served.port)) as late:
        # Whoever comes later is answered later: by then this one is known, and silent.
        healthy_within(served, 20)
        late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert late.recv(12) == b"HTTP/1.1 200"


def test_more_silent_connections_than_it_takes_keep_nobody_out(sqlite_url, simulator):
    patient = {"SMSAPI_WORKERS": 1, "SMSAPI_REQUEST_READ_SECONDS": 60}
    few = environment(sqlite_url, simulator.url, **patient, GUNICORN_CMD_ARGS="--worker-connections 20")
    with serving(few) as it, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", it.port)))
        # By themselves those that are silent would be let go after a minute.
        assert healthy_within(it, 25) < 20


def test_callers_who_wait_leave_threads_for_those_who_do_not(served, simulator):
    simulator.faults.replace([Rule(kind="hang", seconds=5.0)])
    caller: Remote = caller_of(served)
    with ThreadPoolExecutor(12) as threads:
        began = time.monotonic()
        sends = [threads.submit(caller.send, to=f"+1415557{3000 + n}", headers={"Prefer": "wait=4"}) for n in range(12)]
        eventually(lambda: any(send.done() for send in sends), seconds=3)
        assert healthy_within(served, 3) < 2.5
        answers = [send.result(30) for send in sends]
        assert time.monotonic() - began < 9
    assert {answer.status_code for answer in answers} == {202}
    waited = [answer for answer in answers if answer.headers.get("Preference-Applied") == "wait=4"]
    assert 1 <= len(waited) <= THREADS * 3 // 4 * 2
    assert len(answers) > len(waited)


def test_a_stop_begins_nothing_new_and_ends_what_runs(served, simulator):
    simulator.faults.replace([Rule(kind="slow", seconds=1.5)])
    caller: Remote = caller_of(served)
    for number in range(30):
        assert caller.send(to=f"+1415557{4000 + number}", headers={"Prefer": "wait=0"}).status_code == 202
    began = time.monotonic()
    assert served.stop(20) == 0
    # A call or two of each thread, not thirty of them one after the other.
    assert time.monotonic() - began < 8
    taken = simulator.store.count()
    assert taken < 30
    simulator.faults.replace([])
    served.start()
    eventually(lambda: simulator.store.count() == 30)
    page = caller.request("GET", "/v1/messages?limit=100").json()["data"]
    assert "unknown" not in {message["status"] for message in page}
    assert set(simulator.store.texts_by_number().values()) == {1}


def test_what_is_no_http_is_answered_with_a_problem(served):
    cases = {
        b"GET /v1/messages?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n": (414, "uri_too_long"),
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n": (431, "headers_too_large"),
        b"nonsense\r\n\r\n": (400, "malformed_request"),
        b"GET / HTTP/1.1\r\nHost: x\r\nBad header\r\n\r\n": (400, "malformed_request"),
    }
    for request, expected in cases.items():
        answer = exchange(served.port, [request])
        assert (answer.status, answer.code) == expected
        assert answer.headers["x-request-id"] == orjson.loads(answer.body)["request_id"]
        check_answer("GET", "/nothing", 404, answer.headers["content-type"], answer.body)


def test_what_cannot_be_read_is_logged_without_the_ids_of_the_caller_before_it(served):
    caller = caller_of(served)
    for _ in range(2 * THREADS):
        assert caller.request("GET", "/v1/auth/whoami").status_code == 200
        exchange(served.port, [b"NO HTTP AT ALL\r\n\r\n"])
    lines = eventually(lambda: [line for line in served.lines() if line["event"] == "invalid_request"])
    assert all(not {"client_id", "key_id"} & line.keys() for line in lines)


def test_nothing_is_imported_from_the_directory_that_it_is_started_in(sqlite_url, simulator, tmp_path):
    trap = "import pathlib\npathlib.Path(__file__).with_suffix('.imported').touch()\n"
    for name in ("json", "redis", "smsapi", "dramatiq", "gunicorn", "orjson", "yaml", "sentry_sdk"):
        (tmp_path / f"{name}.py").write_text(trap)
    environ = environment(sqlite_url, simulator.url, SMSAPI_WORKERS=1)
    with serving(environ, cwd=tmp_path) as it:
        assert caller_of(it).request("GET", "/v1/auth/whoami").status_code == 200
    with working(environ) as sending:
        sending.cwd = tmp_path
        sending.start()
    assert list(tmp_path.glob("*.imported")) == []

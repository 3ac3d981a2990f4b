"""Processes of a benchmark: waits are bounded, failures are reported, and nothing outlives the benchmark."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import load
from benchmarks.processes import BenchmarkError, running, serving, until
from benchmarks.receipts import _tell
from tests.processes import is_running, wait_until

ROOT = Path(__file__).parents[2]
# Answers each POST with the status given as its second argument; exits at the request given as its third.
SERVER = """
import os, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
host, port = sys.argv[1].split(":")
status, last = int(sys.argv[2]), int(sys.argv[3])
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = 0
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_POST(self):
        Handler.seen += 1
        if Handler.seen == last:
            print("out of order", flush=True)
            os._exit(3)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""
BENCHMARK = """
import sys, time
from benchmarks.processes import running
with running("a sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], {}) as process:
    print(process.pid, process.log, flush=True)
    time.sleep(600)
"""


def server(status: int = 200, last: int = 0):
    return serving("the server", lambda address: [sys.executable, "-c", SERVER, address, str(status), str(last)])


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "requests.lua"
    path.write_text('wrk.method = "POST"\n')
    return path


def test_the_rate_and_the_cost_of_requests_are_measured(script):
    with server() as running_one:
        found = load(running_one, "/", script, seconds=1, warm_seconds=0)
    assert found.requests > 0
    assert found.per_second > 0
    assert found.cpu_ms >= 0
    assert found.p99_ms > 0


@pytest.mark.parametrize(("status", "last"), [(500, 0), (429, 0), (200, 20)])
def test_requests_that_fail_are_an_error_and_not_a_rate(script, status, last):
    said = r"requests to http://\S+ failed: (Non-2xx|Socket errors)"
    with pytest.raises(BenchmarkError, match=said), server(status, last) as running_one:
        load(running_one, "/", script, seconds=1, warm_seconds=0)


@pytest.mark.parametrize(
    ("status", "last", "said"), [(503, 0, "answered with 503"), (200, 20, "ended with 3: out of order")]
)
def test_a_report_that_is_not_answered_with_200_is_an_error(status, last, said):
    reports = [("/plivo/status/msg_1", "Status=sent", {})] * 50
    with pytest.raises(BenchmarkError, match=said), server(status, last) as running_one:
        _tell(reports, running_one, 1000)


def test_a_process_that_ends_is_reported_with_its_output():
    with (
        pytest.raises(BenchmarkError, match="the worker ended with 5: no such key"),
        running("the worker", [sys.executable, "-c", "import sys; print('no such key'); sys.exit(5)"], {}) as process,
    ):
        until("it works", lambda: False, process, seconds=30)


def test_a_process_that_ends_between_two_checks_is_reported_at_the_end_of_the_block():
    with (
        pytest.raises(BenchmarkError, match="the worker ended with 0"),
        running("the worker", [sys.executable, "-c", ""], {}) as process,
    ):
        process.popen.wait(30)


def test_a_wait_is_bounded():
    with pytest.raises(BenchmarkError, match="not so after 0 seconds: the condition holds"):
        until("the condition holds", lambda: False, seconds=0.1)


def test_no_process_outlives_a_benchmark_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", BENCHMARK], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        pid, log = process.stdout.readline().split()
        assert is_running(int(pid))
        process.kill()
    assert wait_until(lambda: not is_running(int(pid)) and not Path(log).exists(), 15)

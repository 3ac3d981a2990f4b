"""What stops the start of ``smsapi serve``: a sentence for each thing that is wrong, exit code 1, and no traceback."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import eventually, free_port
from tests.support.forkserver import SMSAPI
from tests.support.served import environment, run_smsapi, serving


@pytest.fixture
def environ(sqlite_url):
    return environment(sqlite_url, "http://127.0.0.1:9", SMSAPI_BIND=f"127.0.0.1:{free_port()}")


def said(ran):
    assert (ran.returncode, ran.stdout) == (1, "")
    lines = ran.stderr.splitlines()
    assert all(line.startswith("smsapi: ") for line in lines), ran.stderr
    return [line.removeprefix("smsapi: ") for line in lines]


def test_every_bad_setting_is_named_at_once_and_no_value_is_repeated(environ):
    bad = {
        "SMSAPI_WORKERS": "many",
        "SMSAPI_DATABASE_URL": "mysql://root:hunter2@db/sms",
        "SMSAPI_JWT_SECRET": "hunter2",
        "SMSAPI_LIMIT_SEND": "often",
        "PLIVO_AUTH_ID": "hunter2",
    }
    lines = said(run_smsapi(environ | bad, "serve"))
    assert sorted(line.partition(" ")[0] for line in lines) == sorted(bad)
    assert "hunter2" not in "".join(lines)


def test_every_missing_setting_is_named_at_once(environ):
    for name in ("PLIVO_AUTH_ID", "PLIVO_AUTH_TOKEN", "SMSAPI_JWT_SECRET"):
        del environ[name]
    lines = said(run_smsapi(environ, "serve"))
    assert sorted(line.partition(" ")[0] for line in lines) == [
        "PLIVO_AUTH_ID",
        "PLIVO_AUTH_TOKEN",
        "SMSAPI_JWT_SECRET",
    ]


def test_a_database_without_the_schema_says_what_to_run(environ, tmp_path):
    environ["SMSAPI_DATABASE_URL"] = f"sqlite:///{tmp_path / 'empty.db'}"
    (line,) = said(run_smsapi(environ, "serve"))
    assert "smsapi db upgrade" in line


def test_a_database_that_is_not_there_is_one_sentence(environ):
    environ["SMSAPI_DATABASE_URL"] = f"postgresql://nobody:hunter2@127.0.0.1:{free_port()}/none"
    (line,) = said(run_smsapi(environ, "serve"))
    assert "database" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_is_taken_is_one_sentence_also_where_the_kernel_would_share_it(environ, shared):
    with socket.socket() as taken:
        if shared:  # as another service of ours does, which would then get half of the requests
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (line,) = said(run_smsapi(environ, "serve", "--bind", address))
        assert line == f"{address} cannot be listened on: Address already in use. Use --bind HOST:PORT."


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("command", ["serve", "worker"])
def test_told_to_stop_while_it_starts_it_ends_with_0(environ, command, seconds):
    started = subprocess.Popen(
        [*SMSAPI, command], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        words = Path(f"/proc/{started.pid}/cmdline")
        # From the moment at which it is the service; before it is Python that is starting.
        eventually(lambda: "smsapi.cli.starting" in words.read_text())
        threading.Event().wait(seconds)
        started.terminate()
        _, said = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 0, said
    assert "Traceback" not in said


def test_serve_says_that_it_listens_where_and_that_it_has_stopped(environ, sqlite_url):
    with serving(
        {**environ, "SMSAPI_DATABASE_URL": sqlite_url, "SMSAPI_WORKERS": "2", "SMSAPI_THREADS": "3"}
    ) as served:
        (line,) = served.lines("server_started")
        assert (line["address"], line["processes"], line["threads"]) == (served.url[7:], 2, 3)
        assert served.lines("server_stopped") == []
        assert served.stop() == 0
        assert len(served.lines("server_stopped")) == 1


def test_what_killed_services_left_of_their_metrics_is_removed_and_nothing_of_the_living(environ, tmp_path):
    environ = {**environ, "TMPDIR": str(tmp_path), "SMSAPI_WORKERS": "2"}
    living = {**environ, "SMSAPI_BIND": f"127.0.0.1:{free_port()}"}

    def directories():
        return set(tmp_path.glob("smsapi-metrics-*"))

    with serving(living):
        (of_living,) = directories()
        with serving(environ) as killed:
            (left,) = directories() - {of_living}
            killed.kill()
            assert directories() == {of_living, left}
        with serving(environ) as again:
            (own,) = directories() - {of_living}
            assert own != left
            assert again.stop() == 0
        assert directories() == {of_living}


@pytest.mark.parametrize(("command", "given"), [("serve", "bind=None"), ("worker", "processes=1, threads=None")])
def test_a_stop_that_comes_while_the_directory_of_metrics_is_made_is_kept_for_later(environ, command, given):
    said = "lambda: print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    code = f"""
import signal, smsapi.cli.serve as cli
cli._share_metrics, cli._become = {said}, lambda *_: None
cli.{command}.callback({given})
"""
    given = {**environ, "SMSAPI_WORKER_METRICS_BIND": "127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert "SIGINT" in done.stdout
    assert "SIGTERM" in done.stdout

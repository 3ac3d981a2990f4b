"""``smsapi serve`` and ``smsapi worker`` as real processes with their children, and what they wrote to stderr."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from smsapi.auth import service
from smsapi.auth.models import SCOPES
from smsapi.db import Database
from tests.conftest import AUTH_ID, AUTH_TOKEN, JWT_SECRET, eventually, free_port
from tests.processes import Guard, freeze, is_running, send_signal, wait_until
from tests.support.api import LANDLINE, Remote

# As the installed command does, it imports nothing from the directory that it is started in.
SMSAPI = [sys.executable, "-P", "-m", "smsapi"]
_ROOT = Path(__file__).parents[2]


def environment(database_url: str, plivo_url: str, **settings: Any) -> dict[str, str]:
    """Return an environment with nothing in it but what a service needs; names as in the documentation."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(_ROOT),
        "PYTHONWARNINGS": "error",
        "PLIVO_AUTH_ID": AUTH_ID,
        "PLIVO_AUTH_TOKEN": AUTH_TOKEN,
        "PLIVO_SENDER_ID": LANDLINE,
        "SMSAPI_JWT_SECRET": JWT_SECRET,
        "SMSAPI_DATABASE_URL": database_url,
        "SMSAPI_PLIVO_URL": plivo_url,
        "SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS": "3",
        "SMSAPI_LEASE_SECONDS": "3.5",
        "SMSAPI_DISPATCH_SWEEP_SECONDS": "0.2",
        "SMSAPI_PLIVO_REQUESTS_PER_5S": "0",
        # At the default of 20 what a killed process left unknown may wait for a minute until it is asked for.
        "SMSAPI_PLIVO_LIST_PER_MINUTE": "6000",
        "SMSAPI_LIMIT_SEND": "100000 per minute",
        "SMSAPI_LIMIT_KEY": "100000 per minute",
        **{name: str(value) for name, value in settings.items()},
    }


def make_key(database_url: str, mode: str = "live") -> str:
    store, now = Database(database_url), datetime.now(UTC)
    with store.transaction() as connection:
        made = service.create_client(connection, now, name="caller")
        _, key = service.issue_key(connection, now, client_id=made.id, name="key", live=mode == "live", scopes=SCOPES)
    store.close()
    return key


class Running:
    """One command of ours with its children. ``kill`` and ``start`` keep its settings and its log."""

    cwd: Path | None = None

    def __init__(self, environ: dict[str, str], directory: Path, *arguments: str) -> None:
        self.environ = environ
        self.log = directory / "stderr"
        self.process: subprocess.Popen[bytes] | None = None
        self._arguments = arguments
        self._stderr: int | None = None
        self._guard = Guard(directory, signal.SIGTERM)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.begin()
        self.wait()

    def wait(self) -> None:
        """Wait until it is ready."""
        # To load all the code takes seconds, and a minute where the machine has much else to do.
        eventually(lambda: self.is_ready() or self._has_ended(), seconds=120)

    def begin(self) -> None:
        """Start it and do not wait."""
        with self.log.open("ab") as log:
            where = log.fileno() if self._stderr is None else self._stderr
            self.process = subprocess.Popen(
                [*SMSAPI, *self._arguments],
                env=self.environ,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=where,
                stderr=where,
                start_new_session=True,
            )
        self._guard.watch(self.process.pid)

    def log_to(self, fd: int | None) -> None:
        """From its next start on, have it write to this descriptor, or to its log again."""
        self._stderr = fd

    def is_ready(self) -> bool:
        raise NotImplementedError

    def workers(self) -> list[int]:
        """Return the ids of the worker processes."""
        assert self.process is not None
        return children(self.process.pid)

    def stop(self, seconds: float = 30) -> int:
        """Tell it to end, as an orchestrator does, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End everything of it at once, as a crash of the machine would."""
        assert self.process is not None
        family = freeze(self.process.pid)
        for pid in family:
            send_signal(pid, signal.SIGKILL)
        self.process.wait(10)
        assert wait_until(lambda: not any(is_running(pid) for pid in family), 10)

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return what it logged, or only its lines of one event; every line has to be a JSON object."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [line for line in found if event in {None, line["event"]}]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._guard.release()

    def _has_ended(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return False


class Served(Running):
    """One service. ``kill`` and ``start`` keep its port, its settings and its log."""

    def __init__(self, environ: dict[str, str], directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__({"SMSAPI_PUBLIC_URL": self.url, **environ}, directory, "serve", "--bind", self.url[7:])

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).ok
        except requests.RequestException:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        total = 0.0
        for line in requests.get(f"{self.url}/metrics", timeout=10).text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(label in sample for label in wanted):
                total += float(value)
        return total


class Worker(Running):
    """One ``smsapi worker``."""

    def __init__(self, environ: dict[str, str], directory: Path, *, processes: int = 1, threads: int = 4) -> None:
        super().__init__(environ, directory, "worker", f"--processes={processes}", f"--threads={threads}")
        self._processes = processes
        self._started_before = 0

    def begin(self) -> None:
        self._started_before = len(self.lines("worker_started"))
        super().begin()

    def is_ready(self) -> bool:
        return len(self.lines("worker_started")) == self._started_before + self._processes


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def working(environ: dict[str, str], **options: int) -> Iterator[Worker]:
    """Have a worker for the block; it is not started yet. Nothing of it outlives the test process."""
    worker = Worker(environ, Path(tempfile.mkdtemp(prefix="smsapi-worker-")), **options)
    try:
        yield worker
    finally:
        worker.close()


@contextmanager
def serving(environ: dict[str, str], cwd: Path | None = None) -> Iterator[Served]:
    """Serve for the length of the block; nothing of it outlives the test process."""
    served = Served(environ, Path(tempfile.mkdtemp(prefix="smsapi-served-")))
    served.cwd = cwd
    try:
        served.start()
        yield served
    finally:
        served.close()


def caller_of(served: Served, mode: str = "live") -> Remote:
    return Remote(served.url, make_key(served.environ["SMSAPI_DATABASE_URL"], mode))


def run_smsapi(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*SMSAPI, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)

"""Processes of a benchmark: start, readiness, measurement, and an end even where the benchmark itself is killed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import Guard

SMSAPI = (sys.executable, "-m", "smsapi")
_ROOT = Path(__file__).parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 240.0
_ANSWER_SECONDS = 30.0
_STOP_SECONDS = 30.0
_END_SECONDS = 1.0


class BenchmarkError(Exception):
    """A benchmark failed: a process ended, something did not answer in time, or an answer was wrong."""


@dataclass(frozen=True)
class Process:
    """A running process; its output goes to a file of its own."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.popen.pid

    def check(self) -> None:
        """Raise BenchmarkError, with the end of its output, where the process has ended."""
        if self.popen.poll() is not None:
            raise BenchmarkError(f"{self.name} ended with {self.popen.returncode}: {self.said()}")

    def check_end(self) -> None:
        """Do as :meth:`check` after a failure that its end explains: its connections may be gone a moment before it."""
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(_END_SECONDS)
        self.check()

    def said(self) -> str:
        """Return the end of its output so far."""
        return self.log.read_text(errors="replace").strip()[-2000:]

    def cpu_seconds(self) -> float:
        """Return the processor time of the process and its living descendants so far."""
        return sum(map(_cpu_seconds, self._family()))

    def peak_megabytes(self) -> float:
        """Return the peak memory of the largest of the process and its descendants (``proc(5)``: VmHWM)."""
        status = [Path(f"/proc/{pid}/status").read_text() for pid in self._family()]
        return max(int(text.partition("VmHWM:")[2].split()[0]) for text in status) / 1024

    def _family(self) -> list[int]:
        self.check()
        family = [self.pid]
        for pid in family:
            family += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return family


@contextmanager
def running(name: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Process]:
    """Run a command until the end of the block. Settings of the service come from ``environment`` alone.

    Raises BenchmarkError where it ended before.
    """
    ours = ("SMSAPI_", "PLIVO_", "SENTRY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    directory = Path(tempfile.mkdtemp(prefix="smsapi-benchmark-"))
    guard = Guard(directory, signal.SIGTERM)
    popen = None
    try:
        with (directory / "log").open("wb") as log:
            popen = subprocess.Popen(
                command,
                cwd=_ROOT,
                env={**kept, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        guard.watch(popen.pid)
        process = Process(name, directory / "log", popen)
        yield process
        process.check()
    finally:
        guard.release()
        if popen is not None:
            popen.wait(_STOP_SECONDS)


@dataclass(frozen=True)
class Server:
    """An HTTP server that answers at ``url``."""

    url: str
    process: Process


@contextmanager
def serving(
    name: str, command: Callable[[str], Sequence[str]], environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server until the end of the block, which begins once it answers; ``command`` gets its HOST:PORT.

    Raises BenchmarkError where it ends, or does not answer within four minutes.
    """
    with socket.socket() as held:
        # Held for the whole block, so that no other process is given the port before the server listens.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        url = f"http://{address}"
        with running(name, command(address), {"SMSAPI_PUBLIC_URL": url, **(environment or {})}) as process:
            until(f"{name} answers", lambda: _answers(url), process, seconds=START_SECONDS)
            yield Server(url, process)


def until(what: str, look: Callable[[], Any], *processes: Process, seconds: float) -> Any:
    """Poll ``look`` until it returns something true, and return that; ``what`` describes it in the error.

    Raises BenchmarkError after so many seconds, or as soon as one of the processes has ended.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            said = "".join(f"; {process.name} says: {process.said()}" for process in processes)
            raise BenchmarkError(f"not so after {seconds:.0f} seconds: {what}{said}")
        time.sleep(0.02)
    return found


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/healthz", timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _cpu_seconds(pid: int) -> float:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / _TICKS

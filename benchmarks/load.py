"""A server under load from wrk, and what it cost: requests, failures and processor time."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 16
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What a run of wrk came to; ``cpu_ms`` is the server's own time for each request."""

    per_second: float
    cpu_ms: float
    p99_ms: float
    errors: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: list[str], environment: dict[str, str], port: int) -> Iterator[int]:
    """Run a server until the end of the block; yield its pid once it answers."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit("the server does not answer")


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its living children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return total / _TICKS + sum(cpu_seconds(int(child)) for child in children)


def load(url: str, pid: int, script: Path, seconds: int) -> Load:
    """Load the server with wrk for so many seconds, after one to warm up."""
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("The benchmarks need wrk: apt-get install wrk")
    command = [wrk, "-t1", f"-c{CONNECTIONS}", "--latency", "-s", str(script)]
    subprocess.run([*command, "-d1", url], capture_output=True, check=True)
    before = cpu_seconds(pid)
    out = subprocess.run([*command, f"-d{seconds}", url], capture_output=True, check=True, text=True).stdout
    spent = cpu_seconds(pid) - before
    requests = int(re.search(r"(\d+) requests in", out)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    p99, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]
    return Load(
        per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        cpu_ms=spent / max(requests, 1) * 1000,
        p99_ms=float(p99) * scale,
        errors=int(bad[1]) if bad else 0,
    )

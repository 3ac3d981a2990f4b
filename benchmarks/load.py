"""Load generator: wrk against a server, and the processor time of each request."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError, Server

CONNECTIONS = 16
# Longer than any request of a server that works: wrk counts what takes longer as an error.
_ANSWER_SECONDS = 30
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """Results of a run of wrk; ``cpu_ms`` is the server's own time for each request."""

    requests: int
    per_second: float
    cpu_ms: float
    p99_ms: float


def load(server: Server, path: str, script: Path, *, seconds: int, warm_seconds: int) -> Load:
    """Load the server with wrk for so many seconds, after some to warm up.

    Raises BenchmarkError where wrk is not installed, or any request failed or was not answered.
    """
    url = f"{server.url}{path}"
    if warm_seconds:
        _wrk(url, script, warm_seconds)
    # On a busy machine the server may get no processor time for a while: then it is measured for longer.
    for longer in (1, 5, 25):
        before = server.process.cpu_seconds()
        out = _wrk(url, script, seconds * longer)
        spent = server.process.cpu_seconds() - before
        if requests := int(_find(r"(\d+) requests in", out)[0]):
            break
    else:
        raise BenchmarkError(f"no request to {url} was answered in {seconds * longer} seconds")
    p99, unit = _find(r"99%\s+([\d.]+)(us|ms|s|m)\b", out)
    return Load(
        requests=requests,
        per_second=float(_find(r"Requests/sec:\s+([\d.]+)", out)[0]),
        cpu_ms=spent / requests * 1000,
        p99_ms=float(p99) * _UNITS_MS[unit],
    )


def _wrk(url: str, script: Path, seconds: int) -> str:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchmarkError("wrk is not installed: apt-get install wrk")
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", f"{_ANSWER_SECONDS}s", "--latency"]
    done = subprocess.run(
        [wrk, *options, "-s", str(script), url],
        capture_output=True,
        check=False,
        text=True,
        timeout=seconds + _ANSWER_SECONDS * 2,
    )
    # Failures have a line of their own, which is absent where there are none.
    failed = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", done.stdout)
    if done.returncode or failed:
        said = failed[0] if failed else (done.stderr or done.stdout).strip()
        raise BenchmarkError(f"requests to {url} failed: {said}")
    return done.stdout


def _find(pattern: str, out: str) -> tuple[str, ...]:
    found = re.search(pattern, out)
    if found is None:
        raise BenchmarkError(f"the output of wrk is not as expected: {out.strip()[-2000:]}")
    return found.groups()

"""Accept benchmark: ``POST /v1/messages`` with ``Prefer: respond-async``, durably, compared with a bare Flask route.

Nothing is dispatched meanwhile, so that only accepting is measured: the credential, the limits, the checks, and one
transaction with the message, its event and its Idempotency-Key. Both servers run in the same gunicorn settings, in
turn, in one run; the ratio and the processor time for each request are what to compare between machines.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Load, load
from benchmarks.processes import BenchmarkError, serving
from benchmarks.report import Benchmark
from benchmarks.servers import Servers
from benchmarks.service import api, settings
from benchmarks.store import count_statuses, create_client, opened
from smsapi.messages import statuses


@dataclass(frozen=True)
class Size:
    """Parameters: the stores, the rounds, and the seconds that each server is loaded and warmed up."""

    stores: tuple[str, ...]
    rounds: int
    seconds: int
    warm_seconds: int
    workers: int = 2
    threads: int = 8


@dataclass(frozen=True)
class Speed(Load):
    """A server under load; ``ratio`` is its rate divided by that of the bare route in the same round."""

    ratio: float


@dataclass(frozen=True)
class Figures:
    """Results: the speed of each server in each round."""

    rounds: list[dict[str, Speed]]


_SHOWN = {
    "bare": "bare Flask route",
    "sqlite": "SQLite, no Redis",
    "postgresql": "PostgreSQL, no Redis",
    "postgresql_redis": "PostgreSQL and Redis",
}
_PATH = "/v1/messages"
_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Prefer"] = "respond-async"
wrk.headers["X-API-Key"] = "%s"
-- Another for each run of wrk, so that no request is a replay of the warm-up's.
local salt = os.time() .. tostring({}):sub(8)
local n = 0
request = function()
  n = n + 1
  wrk.headers["Idempotency-Key"] = salt .. "-" .. n
  return wrk.format(nil, nil, nil, string.format('{"to": "+1415555%%04d", "text": "Your code is 123456"}', n %% 10000))
end
"""
_NO_LIMIT = "100000000 per minute"


def _script(directory: Path, key: str) -> Path:
    path = directory / "requests.lua"
    path.write_text(_SCRIPT % key)
    return path


def _bare(size: Size, directory: Path) -> Load:
    gunicorn = [sys.executable, "-m", "gunicorn", "-w", str(size.workers), "-k", "gthread"]
    gunicorn += ["--threads", str(size.threads), "--no-control-socket", "--keep-alive", "75", "--reuse-port"]
    with serving("the bare route", lambda address: [*gunicorn, "-b", address, "benchmarks.bare:app"]) as server:
        script = _script(directory, "none")
        return load(server, _PATH, script, seconds=size.seconds, warm_seconds=size.warm_seconds)


def _accept(size: Size, directory: Path, database_url: str, more: Mapping[str, str]) -> Load:
    environment = settings(
        database_url,
        SMSAPI_WORKERS=str(size.workers),
        SMSAPI_THREADS=str(size.threads),
        SMSAPI_DISPATCH_THREADS="0",
        SMSAPI_LIMIT_SEND=_NO_LIMIT,
        SMSAPI_LIMIT_KEY=_NO_LIMIT,
        SMSAPI_LIMIT_NUMBER=_NO_LIMIT,
        **more,
    )
    with opened(database_url) as database:
        script = _script(directory, create_client(database, "accept", live=False).key)
        with api(environment) as server:
            found = load(server, _PATH, script, seconds=size.seconds, warm_seconds=size.warm_seconds)
        stored = count_statuses(database)
    if stored[statuses.QUEUED] < found.requests:
        raise BenchmarkError(f"{found.requests} messages were acknowledged, and these are stored: {dict(stored)}")
    return found


def _round(size: Size, servers: Servers, directory: Path) -> dict[str, Speed]:
    stores = {
        "sqlite": (f"sqlite:///{directory / 'accept.db'}", {}),
        "postgresql": (servers.database_url, {}),
        "postgresql_redis": (servers.database_url, {"SMSAPI_REDIS_URL": servers.redis_url}),
    }
    bare = _bare(size, directory)
    found = {"bare": bare}
    for name in size.stores:
        database_url, more = stores[name]
        found[name] = _accept(size, directory, database_url, more)
    return {name: Speed(**vars(each), ratio=each.per_second / bare.per_second) for name, each in found.items()}


def _run(size: Size, servers: Servers) -> Figures:
    with tempfile.TemporaryDirectory() as made:
        return Figures([_round(size, servers, Path(made)) for _ in range(size.rounds)])


def _table(_: Size, figures: Figures) -> Iterator[str]:
    yield f"{'accept':24}{'req/s':>9}{'ratio':>8}{'CPU ms':>9}{'p99 ms':>9}"
    for found in figures.rounds:
        for name, each in found.items():
            rate = f"{each.per_second:>9.0f}{each.ratio:>8.2f}"
            yield f"{_SHOWN[name]:24}{rate}{each.cpu_ms:>9.2f}{each.p99_ms:>9.1f}"


BENCHMARK = Benchmark(
    full=Size(("sqlite", "postgresql", "postgresql_redis"), rounds=2, seconds=5, warm_seconds=1),
    tiny=Size(("postgresql_redis",), rounds=1, seconds=1, warm_seconds=0, workers=1),
    run=_run,
    table=_table,
    durable=True,
)

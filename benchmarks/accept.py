"""How fast a message is taken durably: ``POST /v1/messages`` with ``Prefer: respond-async``, against a bare route.

Nothing is dispatched meanwhile, so that only taking is measured: the credential, the limits, the checks, and one
transaction with the message, its event and its Idempotency-Key. Both servers run in the same gunicorn settings, in
turn, in one run; the ratio and the processor time for each request are what to compare between machines.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.load import Load, free_port, load, serving
from tests.services import start_postgres, start_redis

SECONDS = 5
ROUNDS = 2
WORKERS, THREADS = 2, 8
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
  wrk.headers["Idempotency-Key"] = "%s-" .. salt .. "-" .. n
  return wrk.format(nil, nil, nil, string.format('{"to": "+1415555%%04d", "text": "Your code is 123456"}', n %% 10000))
end
"""


def _script(directory: Path, key: str, run: str) -> Path:
    path = directory / f"{run}.lua"
    path.write_text(_SCRIPT % (key, run))
    return path


def _smsapi(*arguments: str, environment: dict[str, str]) -> dict[str, str]:
    command = [sys.executable, "-m", "smsapi", *arguments]
    out = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True, text=True).stdout
    return json.loads(out) if "--json" in arguments else {}


def _bare(directory: Path) -> Load:
    port = free_port()
    gunicorn = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", str(WORKERS)]
    gunicorn += ["-k", "gthread", "--threads", str(THREADS), "--no-control-socket", "--keep-alive", "75"]
    with serving([*gunicorn, "--reuse-port", "benchmarks.bare:app"], {}, port) as pid:
        return load(f"http://127.0.0.1:{port}/v1/messages", pid, _script(directory, "none", "bare"), SECONDS)


def _accept(directory: Path, name: str, extra: dict[str, str], run: int) -> Load:
    port = free_port()
    environment = {
        "PLIVO_AUTH_ID": "MABENCHBENCHBENCH000",
        "PLIVO_AUTH_TOKEN": "not-used",
        "PLIVO_SENDER_ID": "+12025550199",
        "SMSAPI_JWT_SECRET": "benchmark-benchmark-benchmark-benchmark",
        "SMSAPI_BIND": f"127.0.0.1:{port}",
        "SMSAPI_WORKERS": str(WORKERS),
        "SMSAPI_THREADS": str(THREADS),
        "SMSAPI_DISPATCH_THREADS": "0",
        "SMSAPI_LIMIT_SEND": "100000000 per minute",
        "SMSAPI_LIMIT_KEY": "100000000 per minute",
        "SMSAPI_LIMIT_NUMBER": "100000000 per minute",
        **extra,
    }
    _smsapi("db", "upgrade", environment=environment)
    client = _smsapi("clients", "create", f"bench-{run}", "--json", environment=environment)
    key = _smsapi(
        "keys", "create", "--client", client["id"], "--name", "b", "--mode", "test", "--json", environment=environment
    )["key"]
    with serving([sys.executable, "-m", "smsapi", "serve"], environment, port) as pid:
        script = _script(directory, key, f"{name}-{run}")
        return load(f"http://127.0.0.1:{port}/v1/messages", pid, script, SECONDS)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as made, start_postgres(durable=True) as postgres, start_redis() as redis:
        directory = Path(made)
        stores = {
            "SQLite, no Redis": {"SMSAPI_DATABASE_URL": f"sqlite:///{directory / 'bench.db'}"},
            "PostgreSQL, no Redis": {"SMSAPI_DATABASE_URL": postgres.url},
            "PostgreSQL and Redis": {"SMSAPI_DATABASE_URL": postgres.url, "SMSAPI_REDIS_URL": redis.url},
        }
        print(f"{'accept':24}{'req/s':>9}{'ratio':>8}{'CPU ms':>9}{'p99 ms':>9}{'errors':>8}")
        for run in range(ROUNDS):
            bare = _bare(directory)
            _print("bare Flask route", bare, bare)
            for name, extra in stores.items():
                _print(name, _accept(directory, name.split(",")[0].replace(" ", "-"), extra, run), bare)


def _print(name: str, found: Load, bare: Load) -> None:
    ratio = found.per_second / bare.per_second
    print(
        f"{name:24}{found.per_second:>9.0f}{ratio:>8.2f}{found.cpu_ms:>9.2f}{found.p99_ms:>9.1f}{found.errors:>8}",
        flush=True,
    )

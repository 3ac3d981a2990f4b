"""How fast workers send: against Plivo's own SDK in a bare loop, with as many threads, at the same simulated Plivo.

Plivo answers in 50 ms. The workers take their messages from PostgreSQL, write each attempt ahead and its outcome
down; the loop does nothing but call. Also: what a worker with nothing to do asks of the database, and how long a code
of one client takes while another has a hundred thousand marketing messages waiting.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import plivo
import requests
from requests.adapters import HTTPAdapter
from sqlalchemy import insert, text

from benchmarks.load import cpu_seconds, free_port
from smsapi import migrations
from smsapi.auth import service
from smsapi.db import Database
from smsapi.ids import new_id
from smsapi.messages.models import messages
from tests.services import start_postgres, start_redis

THREADS = 8
ANSWER_SECONDS = 0.05
SECONDS = 10
BACKLOG = 100_000
CODES = 40
_PLIVO = "https://api.plivo.com"
AUTH_ID, AUTH_TOKEN, SENDER = "MABENCHBENCHBENCH000", "not-used", "+12025550199"


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "smsapi", *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def _simulator() -> Iterator[str]:
    port = free_port()
    given = {"PLIVO_AUTH_ID": AUTH_ID, "PLIVO_AUTH_TOKEN": AUTH_TOKEN}
    command = ["simulator", "--bind", f"127.0.0.1:{port}", "--requests-per-5s", "0"]
    with _process([*command, "--answer-delay", str(ANSWER_SECONDS)], given):
        url = f"http://127.0.0.1:{port}"
        _until(lambda: _taken(url) is not None)
        yield url


def _taken(url: str) -> int | None:
    try:
        with urllib.request.urlopen(f"{url}/_taken?count", timeout=5) as answer:
            return int(json.load(answer)["count"])
    except OSError:
        return None


def _until(look: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def _rate(url: str) -> float:
    """Return the texts a second that the simulator takes, over ten seconds in the middle of a run."""
    time.sleep(2)
    before, started = _taken(url) or 0, time.monotonic()
    time.sleep(SECONDS)
    return ((_taken(url) or 0) - before) / (time.monotonic() - started)


def _bare_sdk(url: str) -> float:
    script = "import sys; from benchmarks.dispatch import loop_of_sdk; loop_of_sdk(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", script, url])
    try:
        return _rate(url)
    finally:
        process.terminate()
        process.wait(10)


class _Elsewhere(HTTPAdapter):
    """Takes what is for Plivo to another origin; the SDK itself cannot be told to."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        request.url = (request.url or "").replace(_PLIVO, self._origin)
        return super().send(request, *args, **kwargs)


def loop_of_sdk(url: str) -> None:
    """Call the SDK from so many threads until killed: one client each, since it promises no thread safety."""

    def call() -> None:
        client = plivo.RestClient(AUTH_ID, AUTH_TOKEN)
        client.session.mount(_PLIVO, _Elsewhere(url))
        while True:
            client.messages.create(src=SENDER[1:], dst="14155550123", text="Your code is 123456")

    threads = [threading.Thread(target=call, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _client(database: Database, name: str) -> tuple[object, object, str]:
    now = datetime.now(UTC)
    with database.transaction() as connection:
        made = service.create_client(connection, now, name=name)
        key, secret = service.issue_key(
            connection, now, client_id=made.id, name="b", live=True, scopes=("messages:send", "messages:read")
        )
    return made.id, key.id, secret


def _fill(database: Database, count: int, *, category: str, lane: int) -> None:
    client_id, key_id, _ = _client(database, f"backlog of {category}")
    now = datetime.now(UTC)
    row = {
        "client_id": client_id, "key_id": key_id, "test": False, "country": "US", "sender": SENDER, "due_at": now,
        "text": "Your code is 123456", "status": "queued", "category": category, "lane": lane, "encoding": "gsm7",
        "on_unknown": "reconcile", "segments": 1, "price_estimated": True, "metadata": {}, "attempts": 0, "epoch": 0,
        "created_at": now, "updated_at": now,
    }  # fmt: skip
    for start in range(0, count, 5000):
        rows = [
            {**row, "id": new_id(), "to_number": f"+1415{5551000 + number % 9000}"}
            for number in range(start, min(start + 5000, count))
        ]
        with database.transaction() as connection:
            connection.execute(insert(messages), rows)


def _environment(database_url: str, redis_url: str, plivo_url: str) -> dict[str, str]:
    return {
        "PLIVO_AUTH_ID": AUTH_ID,
        "PLIVO_AUTH_TOKEN": AUTH_TOKEN,
        "PLIVO_SENDER_ID": SENDER,
        "SMSAPI_PLIVO_URL": plivo_url,
        "SMSAPI_DATABASE_URL": database_url,
        "SMSAPI_REDIS_URL": redis_url,
        "SMSAPI_BROKER_URL": redis_url.removesuffix("/0") + "/1",
        "SMSAPI_JWT_SECRET": "benchmark-benchmark-benchmark-benchmark",
        "SMSAPI_PLIVO_REQUESTS_PER_5S": "0",
        "SMSAPI_LOG_LEVEL": "warning",
    }


def _workers(database: Database, environment: dict[str, str], url: str, processes: int) -> tuple[float, float]:
    """Return texts a second, and the workers' processor time for each in ms."""
    _fill(database, int(THREADS / ANSWER_SECONDS * processes * (SECONDS + 8)), category="transactional", lane=1)
    started = _taken(url) or 0
    with _process(["worker", "--processes", str(processes), "--threads", str(THREADS)], environment) as pid:
        _until(lambda: (_taken(url) or 0) > started)
        cpu = cpu_seconds(pid)
        before = _taken(url) or 0
        rate = _rate(url)
        spent = (cpu_seconds(pid) - cpu) / max(1, (_taken(url) or 0) - before)
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE messages, message_attempts, events"))
    return rate, spent * 1000


def _idle(database: Database, environment: dict[str, str]) -> float:
    """Return the transactions a second of a worker with nothing to do; a look is one."""
    with _process(["worker", "--threads", str(THREADS)], environment):
        time.sleep(5)
        before = _transactions(database)
        time.sleep(SECONDS * 2)
        # One is the question itself.
        return (_transactions(database) - before - 1) / (SECONDS * 2)


def _transactions(database: Database) -> int:
    # What is counted by a backend reaches the statistics when it ends or after a second.
    time.sleep(1.5)
    with database.read() as connection:
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.execute(text(query)).scalar_one())


def _codes(database: Database, environment: dict[str, str], url: str) -> list[float]:
    """Return how long each code took from its request until Plivo had it, in ms, while the backlog is sent."""
    _fill(database, BACKLOG, category="marketing", lane=2)
    _, _, key = _client(database, "codes")
    port = free_port()
    serve = {**environment, "SMSAPI_DISPATCH_THREADS": "0", "SMSAPI_WORKERS": "1", "SMSAPI_BIND": f"127.0.0.1:{port}"}
    with _process(["serve"], serve), _process(["worker", "--threads", str(THREADS)], environment):
        _until(lambda: (_taken(url) or 0) > 0)
        _until(lambda: _answers(port))
        return [_one_code(port, key, database, number) for number in range(CODES)]


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
    except OSError:
        return False
    return True


def _one_code(port: int, key: str, database: Database, number: int) -> float:
    body = json.dumps({"to": f"+1415555{2000 + number}", "text": "Your code is 123456", "category": "otp"}).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json", "Prefer": "respond-async"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/messages", body, headers)
    started = time.monotonic()
    with urllib.request.urlopen(request, timeout=30) as answer:
        made = json.load(answer)["id"].removeprefix("msg_")
    query = text("SELECT sent_at IS NOT NULL FROM messages WHERE id = :id")

    def sent() -> bool:
        with database.read() as connection:
            return bool(connection.execute(query, {"id": made}).scalar_one())

    _until(sent)
    time.sleep(0.05)
    return (time.monotonic() - started - 0.05) * 1000


def main() -> None:
    """Measure and print."""
    print(f"Workers against the bare SDK, {THREADS} threads each, Plivo answers in {ANSWER_SECONDS * 1000:.0f} ms")
    with start_postgres() as postgres, start_redis() as redis, tempfile.TemporaryDirectory() as directory:
        del directory
        database = Database(postgres.url)
        migrations.upgrade(database)
        with _simulator() as url:
            environment = _environment(postgres.url, redis.url, url)
            bare = _bare_sdk(url)
            one, cpu = _workers(database, environment, url, 1)
            again = _bare_sdk(url)
            two, _ = _workers(database, environment, url, 2)
            yardstick = (bare + again) / 2
            print(f"  bare SDK loop      {yardstick:7.1f} /s   ({bare:.1f} and {again:.1f})")
            print(f"  1 worker process   {one:7.1f} /s   ratio {one / yardstick:.2f}   {cpu:.2f} ms of CPU each")
            print(f"  2 worker processes {two:7.1f} /s   ratio {two / yardstick:.2f}")
            print(f"  idle worker        {_idle(database, environment):7.2f} transactions/s")
            delays = sorted(_codes(database, environment, url))
            print(
                f"  a code beside {BACKLOG} marketing messages: median {statistics.median(delays):.0f} ms, "
                f"largest {delays[-1]:.0f} ms of {len(delays)} (with the 50 ms of Plivo's answer)"
            )
        database.close()


if __name__ == "__main__":
    main()

"""Dispatch benchmark: workers compared with Plivo's SDK in a bare loop, same threads, same simulated Plivo.

Plivo answers in 50 ms. The workers take their messages from PostgreSQL, write each attempt ahead and its outcome
down; the loop does nothing but call. Also: the transactions of an idle worker, and the latency of a code of one client
while another has a hundred thousand marketing messages waiting.
"""

import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, text

from benchmarks.processes import BenchmarkError, Process, Server, running, until
from benchmarks.report import Benchmark
from benchmarks.servers import Servers
from benchmarks.service import THREADS, api_alone, sending, worker
from benchmarks.simulator import ANSWER_SECONDS, Plivo, simulated_plivo
from benchmarks.store import check_statuses, count_statuses, create_client, empty, fill, opened
from smsapi.db import Database
from smsapi.ids import read_id
from smsapi.messages import statuses
from smsapi.messages.lanes import lane_of
from smsapi.messages.models import messages

_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Size:
    """Parameters: the numbers of worker processes, the seconds of each measurement, and those of warm-up before it.

    The queue lasts ``spare_seconds`` longer than the measurement. An idle worker is observed for ``idle_seconds``,
    ``settle_seconds`` after its first text. ``codes`` are sent one by one beside ``backlog`` marketing messages.
    """

    processes: tuple[int, ...]
    seconds: float
    warm_seconds: float
    spare_seconds: float
    settle_seconds: float
    idle_seconds: float
    backlog: int
    codes: int


@dataclass(frozen=True)
class Sent:
    """Texts sent by the workers: the rate, its ratio to that of the bare loop, and processor time for each."""

    per_second: float
    ratio: float
    cpu_ms: float


@dataclass(frozen=True)
class Figures:
    """Results: the bare loop before each run of workers, and ``workers`` by their number of processes.

    ``codes_ms`` are sorted, and include the 50 ms of Plivo's answer.
    """

    sdk_per_second: list[float]
    workers: dict[int, Sent]
    idle_transactions_per_second: float
    codes_ms: list[float]


def _rate(size: Size, plivo: Plivo, process: Process) -> float:
    """Return the texts a second that Plivo takes, in the middle of a run."""
    time.sleep(size.warm_seconds)
    before, started = plivo.taken(), time.monotonic()
    time.sleep(size.seconds)
    _until_more(plivo, before, process)
    return (plivo.taken() - before) / (time.monotonic() - started)


def _bare_sdk(size: Size, plivo: Plivo) -> float:
    command = [sys.executable, "-m", "benchmarks.bare_sdk", plivo.url, str(THREADS)]
    before = plivo.taken()
    with running("the bare loop", command, {}) as process:
        _until_more(plivo, before, process)
        return _rate(size, plivo, process)


def _until_more(plivo: Plivo, before: int, process: Process) -> None:
    """Wait until Plivo has taken more texts than before."""
    until("more texts are with Plivo", lambda: plivo.taken() > before, process, seconds=_PATIENCE_SECONDS)


def _workers(size: Size, database: Database, plivo: Plivo, process: Process, processes: int) -> tuple[float, float]:
    """Return the texts a second of so many worker processes, and their processor time for each in ms."""
    seconds = size.warm_seconds + size.seconds + size.spare_seconds
    before = plivo.taken()
    _queue(database, int(THREADS / ANSWER_SECONDS * processes * seconds), "transactional")
    _until_more(plivo, before, process)
    cpu, before = process.cpu_seconds(), plivo.taken()
    rate = _rate(size, plivo, process)
    spent = (process.cpu_seconds() - cpu) / (plivo.taken() - before)
    if not count_statuses(database)[statuses.QUEUED]:
        raise BenchmarkError("the queue ran dry while the rate was taken")
    return rate, spent * 1000


def _queue(database: Database, count: int, category: str) -> None:
    client, lane = create_client(database, category), lane_of(category, test=False)
    fill(database, client, count, category=category, lane=lane, due_at=datetime.now(UTC))


def _check_and_empty(database: Database) -> None:
    check_statuses(database, statuses.QUEUED, statuses.SENDING, statuses.SENT)
    empty(database)


def _idle(size: Size, database: Database) -> float:
    """Return the transactions per second while there is nothing to do; a poll is one.

    PostgreSQL's statistics lag by up to some seconds, at the beginning and at the end alike.
    """
    time.sleep(size.settle_seconds)
    before, started = _transactions(database), time.monotonic()
    time.sleep(size.idle_seconds)
    # One is the query itself.
    found = _transactions(database) - before - 1
    return max(0, found) / (time.monotonic() - started)


def _transactions(database: Database) -> int:
    with database.read() as connection:
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.execute(text(query)).scalar_one())


def _codes(size: Size, database: Database, environment: dict[str, str], plivo: Plivo) -> list[float]:
    """Return the milliseconds from each code's request until Plivo had it, while the backlog is sent."""
    _queue(database, size.backlog, "marketing")
    key = create_client(database, "codes").key
    with api_alone(environment) as server, worker(environment, database, plivo) as process:
        found = [_one_code(server, key, database, process, number) for number in range(size.codes)]
        if not count_statuses(database)[statuses.QUEUED]:
            raise BenchmarkError("the backlog was sent before the codes were")
    _check_and_empty(database)
    return sorted(found)


def _one_code(server: Server, key: str, database: Database, worker: Process, number: int) -> float:
    body = json.dumps({"to": f"+1415555{2000 + number}", "text": "Your code is 123456", "category": "otp"}).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json", "Prefer": "respond-async"}
    request = urllib.request.Request(f"{server.url}/v1/messages", body, headers)
    started = time.monotonic()
    with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
        made = read_id("msg", json.load(answer)["id"])
    query = select(messages.c.sent_at.is_not(None)).where(messages.c.id == made)

    def sent() -> bool:
        with database.read() as connection:
            return bool(connection.execute(query).scalar_one())

    until("a code is sent", sent, server.process, worker, seconds=_PATIENCE_SECONDS)
    taken = time.monotonic() - started
    # So that no code is in step with the one before.
    time.sleep(0.05)
    return taken * 1000


def _run(size: Size, servers: Servers) -> Figures:
    with simulated_plivo() as plivo, opened(servers.database_url) as database:
        environment = sending(servers, plivo)
        sdk, sent, idle = [], {}, []
        for processes in size.processes:
            sdk.append(_bare_sdk(size, plivo))
            with worker(environment, database, plivo, processes=processes) as process:
                # Of the first one only, which is a single process.
                idle = idle or [_idle(size, database)]
                sent[processes] = _workers(size, database, plivo, process, processes)
            _check_and_empty(database)
        yardstick = statistics.mean(sdk)
        return Figures(
            sdk_per_second=sdk,
            workers={processes: Sent(rate, rate / yardstick, cpu) for processes, (rate, cpu) in sent.items()},
            idle_transactions_per_second=idle[0],
            codes_ms=_codes(size, database, environment, plivo),
        )


def _table(size: Size, figures: Figures) -> Iterator[str]:
    sdk = figures.sdk_per_second
    yield f"Workers against the bare SDK, {THREADS} threads each, Plivo answers in {ANSWER_SECONDS * 1000:.0f} ms"
    yield f"  bare SDK loop      {statistics.mean(sdk):7.1f} /s   ({' and '.join(f'{rate:.1f}' for rate in sdk)})"
    for processes, sent in figures.workers.items():
        name = f"{processes} worker process{'es' if processes > 1 else ''}"
        yield f"  {name:18} {sent.per_second:7.1f} /s   ratio {sent.ratio:.2f}   {sent.cpu_ms:.2f} ms of CPU each"
    yield f"  idle worker        {figures.idle_transactions_per_second:7.2f} transactions/s"
    yield (
        f"  a code beside {size.backlog} marketing messages: median {statistics.median(figures.codes_ms):.0f} ms, "
        f"largest {figures.codes_ms[-1]:.0f} ms of {size.codes} (with the 50 ms of Plivo's answer)"
    )


BENCHMARK = Benchmark(
    full=Size(
        processes=(1, 2),
        seconds=10,
        warm_seconds=2,
        spare_seconds=8,
        settle_seconds=5,
        idle_seconds=20,
        backlog=100_000,
        codes=40,
    ),
    tiny=Size(
        processes=(1,),
        seconds=0.5,
        warm_seconds=0,
        spare_seconds=8,
        settle_seconds=0.5,
        idle_seconds=0.5,
        backlog=2_000,
        codes=2,
    ),
    run=_run,
    table=_table,
)

"""Receipt benchmark: delivery reports at a fixed rate, signed, reordered and repeated, from many connections."""

import http.client
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from sqlalchemy import select

from benchmarks.processes import BenchmarkError, Server, until
from benchmarks.report import Benchmark
from benchmarks.servers import Servers
from benchmarks.service import api, settings
from benchmarks.simulator import AUTH_TOKEN
from benchmarks.store import create_client, fill, opened
from smsapi.db import Database
from smsapi.ids import show_id
from smsapi.messages import statuses
from smsapi.messages.models import messages
from smsapi.plivo.simulator.callbacks import signature_headers
from smsapi.receipts.store import receipts

SENDERS = 32
_ENDS = ((statuses.DELIVERED, ""), (statuses.UNDELIVERED, "30"), (statuses.FAILED, "300"))
_ANSWER_SECONDS = 30
_APPLIED_SECONDS = 120

# Its path, body and headers.
Report = tuple[str, str, dict[str, str]]


@dataclass(frozen=True)
class Size:
    """Parameters: the stores, the messages, and the reports per second, of which there are six for each message."""

    stores: tuple[str, ...]
    messages: int
    per_second: int


@dataclass(frozen=True)
class Times:
    """Latency in milliseconds."""

    p50: float
    p99: float
    largest: float


@dataclass(frozen=True)
class Told:
    """Results on one store.

    ``after_due_ms`` counts from when a report was due, so that a stall is not hidden; ``after_sent_ms`` from when it
    was sent. ``applied_seconds`` is the time from the last answer until no report waited. All ``states`` are as they
    were reported.
    """

    reports: int
    per_second: float
    after_sent_ms: Times
    after_due_ms: Times
    applied_seconds: float
    states: dict[str, int]


@dataclass(frozen=True)
class Figures:
    """Results by store."""

    stores: dict[str, Told]


def _run(size: Size, servers: Servers) -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        urls = {"postgresql": servers.database_url, "sqlite": f"sqlite:///{directory}/receipts.db"}
        return Figures({name: _tell_all(size, urls[name]) for name in size.stores})


def _tell_all(size: Size, database_url: str) -> Told:
    """Send three reports of each message, each twice, in random order."""
    environment = settings(database_url, SMSAPI_LOG_LEVEL="error")
    with opened(database_url) as database:
        ends = _store_messages(database, size.messages)
        with api(environment) as server:
            reports = _reports(ends, server)
            since_due, since_sent, seconds = _tell(reports, server, size.per_second)
            begun = time.perf_counter()
            until("all reports are applied", lambda: not _waits(database), server.process, seconds=_APPLIED_SECONDS)
            applied = time.perf_counter() - begun
        return Told(
            reports=len(reports),
            per_second=len(reports) / seconds,
            after_sent_ms=_times(since_sent),
            after_due_ms=_times(since_due),
            applied_seconds=applied,
            states=_states(database, ends),
        )


def _store_messages(database: Database, count: int) -> dict[UUID, tuple[str, str]]:
    """Return the messages, each with the status that will be reported last, and its code."""
    client = create_client(database, "receipts")
    sent = {"status": statuses.SENT, "attempts": 1, "sent_at": datetime.now(UTC)}
    return {message_id: random.choice(_ENDS) for message_id in fill(database, client, count, **sent)}


def _reports(ends: Mapping[UUID, tuple[str, str]], server: Server) -> list[Report]:
    """Return the requests, shuffled."""
    made = []
    for message_id, (end, code) in ends.items():
        path = f"/plivo/status/{show_id('msg', message_id)}"
        for sequence, status in enumerate(("queued", "sent", end), start=1):
            fields = {"Status": status, "MessageUUID": str(message_id), "Sequence": str(sequence), "Units": "1"}
            fields |= {"TotalAmount": "0.00550", "ErrorCode": code if status == end else ""}
            params = {name: [value] for name, value in fields.items()}
            signed = signature_headers(method="POST", url=f"{server.url}{path}", token=AUTH_TOKEN, params=params)
            headers = signed | {"Content-Type": "application/x-www-form-urlencoded"}
            made += [(path, urlencode(fields), headers)] * 2
    random.shuffle(made)
    return made


def _tell(reports: Sequence[Report], server: Server, rate: int) -> tuple[list[float], list[float], float]:
    """Send at the rate; return the sorted latencies since due and since sent, and the duration, in seconds.

    Raises BenchmarkError where a report is not answered with 200.
    """
    address, local, begun = urlsplit(server.url).netloc, threading.local(), time.perf_counter()

    def call(numbered: tuple[int, Report]) -> tuple[float, float]:
        number, (path, body, headers) = numbered
        due = begun + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(address, timeout=_ANSWER_SECONDS)
            connections.callback(local.connection.close)
        sent = time.perf_counter()
        local.connection.request("POST", path, body, headers)
        answer = local.connection.getresponse()
        answer.read()
        answered = time.perf_counter()
        if answer.status != http.HTTPStatus.OK:
            raise BenchmarkError(f"a report was answered with {answer.status}")
        return answered - due, answered - sent

    with ExitStack() as connections, ThreadPoolExecutor(SENDERS) as threads:
        try:
            done = list(threads.map(call, enumerate(reports)))
        except (OSError, http.client.HTTPException) as error:
            server.process.check_end()
            raise BenchmarkError(f"a report was not answered: {error!r}") from error
    seconds = time.perf_counter() - begun
    since_due, since_sent = zip(*done, strict=True)
    return sorted(since_due), sorted(since_sent), seconds


def _waits(database: Database) -> bool:
    with database.read() as connection:
        query = select(receipts.c.id).where(receipts.c.look_at.is_not(None)).limit(1)
        return connection.execute(query).first() is not None


def _states(database: Database, ends: Mapping[UUID, tuple[str, str]]) -> dict[str, int]:
    with database.read() as connection:
        found = {row.id: row.status for row in connection.execute(select(messages.c.id, messages.c.status))}
    if wrong := sum(found[message_id] != end for message_id, (end, _) in ends.items()):
        raise BenchmarkError(f"{wrong} of {len(ends)} messages do not stand as was reported")
    return dict(Counter(found.values()))


def _times(seconds: Sequence[float]) -> Times:
    """Return percentiles of sorted latencies."""
    at = (len(seconds) // 2, len(seconds) * 99 // 100, -1)
    return Times(*(seconds[place] * 1000 for place in at))


def _table(size: Size, figures: Figures) -> Iterator[str]:
    for name, told in figures.stores.items():
        states = ", ".join(f"{count} {status}" for status, count in sorted(told.states.items()))
        yield f"receipts on {name}: {told.reports}, all answered with 200; all states right: {states}"
        yield f"  asked for {size.per_second}/s, reached {told.per_second:.0f}/s"
        yield f"  each answered after it was sent: {_shown(told.after_sent_ms)}"
        yield f"  each answered after it was due, with {SENDERS} connections: {_shown(told.after_due_ms)}"
        yield f"  all applied {told.applied_seconds:.1f} s after the last was told"


def _shown(times: Times) -> str:
    return f"p50 {times.p50:.0f}, p99 {times.p99:.0f}, max {times.largest:.0f} ms"


BENCHMARK = Benchmark(
    full=Size(("postgresql", "sqlite"), messages=1000, per_second=1000),
    tiny=Size(("sqlite",), messages=30, per_second=300),
    run=_run,
    table=_table,
)

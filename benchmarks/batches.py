"""Batch benchmark: a CSV is uploaded to ``smsapi serve`` on PostgreSQL and sent by a worker to a simulated Plivo.

The yardstick is a bare COPY of the same rows, in one statement, into a table like the one that they are staged in.
Plivo answers in 50 ms and reports nothing; the same text to all goes out in joined calls, texts of their own do not.
"""

import json
import math
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from benchmarks.processes import BenchmarkError, Server
from benchmarks.report import Benchmark
from benchmarks.servers import Servers
from benchmarks.service import THREADS, api_alone, sending, worker
from benchmarks.simulator import Plivo, simulated_plivo
from benchmarks.store import check_statuses, create_client, empty, opened
from smsapi.batches.models import batch_rows
from smsapi.db import Database
from smsapi.ids import new_id
from smsapi.messages import statuses

# Whether all rows have the same text: what it is, and what it is called in the table.
_TEXTS = {
    "same_text": ("Your appointment is at nine", "the same text to all"),
    "own_texts": ("Hi {{name}}", "a text of their own to each"),
}
# Numbers that end lower have the simulator misbehave.
_TAME, _OF_FOUR = 12, 10_000
_COPIED_AT_ONCE = 5000
_UPLOAD_SECONDS = 600


@dataclass(frozen=True)
class Size:
    """Parameters: the batches, the rows of each, and the seconds of rest before it.

    Rows that have not left after ``patience_seconds`` are not waited for: the rate is known by then.
    """

    texts: tuple[str, ...]
    rows: int
    settle_seconds: float
    patience_seconds: float


@dataclass(frozen=True)
class Answer:
    """When an upload was answered, by the monotonic clock, and the most memory that the API had needed by then."""

    at: float
    api_megabytes: float


@dataclass(frozen=True)
class Times:
    """Measurements of one batch; ``first_text_seconds`` counts from the answer, 0 where a text left before it."""

    upload_seconds: float
    api_megabytes_before: float
    api_megabytes_peak: float
    first_text_seconds: float
    sent: int
    through_seconds: float


@dataclass(frozen=True)
class Run(Times):
    """The same with rates, and their ratios to the rate of the bare COPY."""

    upload_rows_per_second: float
    upload_ratio: float
    through_rows_per_second: float
    through_ratio: float


@dataclass(frozen=True)
class Figures:
    """Results: the yardstick, before and after, and each batch."""

    copy_rows_per_second: list[float]
    megabytes: float
    batches: dict[str, Run]


def _numbers(rows: int) -> Iterator[str]:
    found, place = 0, 0
    while found < rows:
        if place % _OF_FOUR >= _TAME:
            found += 1
            yield f"+1415{2_000_000 + place}"
        place += 1


def _write_contacts(path: Path, rows: int) -> None:
    with path.open("w") as file:
        file.write("to,name\n")
        file.writelines(f"{number},Name {place}\n" for place, number in enumerate(_numbers(rows)))


def _copy(database_url: str, rows: int) -> float:
    """Return the rows per second of a COPY from memory."""
    pieces, columns = _pieces(rows), ", ".join(batch_rows.c.keys())
    plain = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bare")
        cursor.execute(f"CREATE TABLE bare (LIKE {batch_rows.name} INCLUDING ALL)")
        connection.commit()
        started = time.monotonic()
        with cursor.copy(f"COPY bare ({columns}) FROM STDIN") as copy:
            for piece in pieces:
                copy.write(piece)
        connection.commit()
        seconds = time.monotonic() - started
        cursor.execute("DROP TABLE bare")
    return rows / seconds


def _pieces(rows: int) -> list[str]:
    batch, columns = new_id(), batch_rows.c.keys()
    fixed = {"batch_id": batch, "country": "US", "encoding": "gsm7", "segments": 1}
    lines = []
    for place, number in enumerate(_numbers(rows)):
        row = {**fixed, "row": place, "message_id": new_id(), "to_number": number, "text": f"Hi Name {place}"}
        lines.append("\t".join([str(row.get(name, r"\N")) for name in columns]) + "\n")
    return ["".join(lines[start : start + _COPIED_AT_ONCE]) for start in range(0, rows, _COPIED_AT_ONCE)]


def _post(server: Server, *, key: str, path: Path, template: str) -> Answer:
    """Upload the file."""
    headers = {"X-API-Key": key, "Content-Type": "text/csv", "Content-Length": str(path.stat().st_size)}
    with path.open("rb") as file:
        address = f"{server.url}/v1/batches?{urllib.parse.urlencode({'text': template})}"
        request = urllib.request.Request(address, file, headers)
        with urllib.request.urlopen(request, timeout=_UPLOAD_SECONDS) as answer:
            made = json.load(answer)
    if made["rejected"]:
        raise BenchmarkError(f"{made['rejected']} rows were refused")
    return Answer(time.monotonic(), server.process.peak_megabytes())


def _batch(
    size: Size, environment: dict[str, str], database: Database, plivo: Plivo, send: Callable[[Server], Answer]
) -> Times:
    """Upload a batch with ``send`` and wait until all of it is with Plivo, or long enough to tell how fast it goes."""
    with (
        # It ends last: an upload under way fails as soon as its server is gone.
        ThreadPoolExecutor(1) as uploading,
        api_alone(environment) as server,
        worker(environment, database, plivo) as working,
    ):
        time.sleep(size.settle_seconds)
        plivo.forget()
        at_first = server.process.peak_megabytes()
        started = time.monotonic()
        upload = uploading.submit(send, server)
        sent, first_text, seconds = 0, math.nan, 0.0
        while not upload.done() or (sent < size.rows and seconds < size.patience_seconds):
            time.sleep(0.1 if sent else 0.02)
            working.check()
            if upload.done():
                upload.result()
            sent, seconds = plivo.taken(), time.monotonic() - started
            if sent and math.isnan(first_text):
                first_text = seconds
        answer = upload.result()
    if not sent:
        raise BenchmarkError(f"nothing was sent in {seconds:.0f} seconds")
    uploaded = answer.at - started
    return Times(uploaded, at_first, answer.api_megabytes, max(0.0, first_text - uploaded), sent, seconds)


def _against(yardstick: float, rows: int, times: Times) -> Run:
    taken, through = rows / times.upload_seconds, times.sent / times.through_seconds
    return Run(
        **vars(times),
        upload_rows_per_second=taken,
        upload_ratio=taken / yardstick,
        through_rows_per_second=through,
        through_ratio=through / yardstick,
    )


def _run(size: Size, servers: Servers) -> Figures:
    with (
        tempfile.TemporaryDirectory() as directory,
        simulated_plivo() as plivo,
        opened(servers.database_url) as database,
    ):
        environment = sending(servers, plivo)
        path = Path(directory) / "contacts.csv"
        _write_contacts(path, size.rows)
        before = _copy(servers.database_url, size.rows)
        found = {}
        for name in size.texts:
            post = partial(_post, key=create_client(database, "batches").key, path=path, template=_TEXTS[name][0])
            found[name] = _batch(size, environment, database, plivo, post)
            check_statuses(database, statuses.QUEUED, statuses.SENDING, statuses.SENT)
            empty(database)
        after = _copy(servers.database_url, size.rows)
        runs = {name: _against((before + after) / 2, size.rows, times) for name, times in found.items()}
        return Figures([before, after], path.stat().st_size / 1e6, runs)


def _table(size: Size, figures: Figures) -> Iterator[str]:
    yield (
        f"A batch of {size.rows:,} rows ({figures.megabytes:.1f} MB of CSV), one API process, {THREADS} threads send"
    )
    before, after = figures.copy_rows_per_second
    yield f"  bare COPY       {(before + after) / 2:9,.0f} rows/s   ({before:,.0f} and {after:,.0f})"
    for name, run in figures.batches.items():
        taken, through = run.upload_rows_per_second, run.through_rows_per_second
        of_all = f"{run.sent:,} in {run.through_seconds:.0f} s"
        yield f"  {_TEXTS[name][1]}"
        yield f"    upload        {taken:9,.0f} rows/s   ratio {run.upload_ratio:.4f}   ({run.upload_seconds:.1f} s)"
        memory = f"{run.api_megabytes_peak:9.0f} MB at its peak, {run.api_megabytes_before:.0f} MB before"
        yield f"    API process   {memory}"
        yield f"    first text    {run.first_text_seconds:9.2f} s after the answer"
        yield f"    end to end    {through:9,.0f} rows/s   ratio {run.through_ratio:.4f}   ({of_all})"


BENCHMARK = Benchmark(
    full=Size(tuple(_TEXTS), rows=100_000, settle_seconds=5, patience_seconds=150),
    tiny=Size(("own_texts",), rows=200, settle_seconds=0, patience_seconds=120),
    run=_run,
    table=_table,
)

"""How fast a batch is taken and sent: a CSV over HTTP to ``smsapi serve`` on PostgreSQL, a worker, a simulated Plivo.

The yardstick is a bare COPY of the same rows, in one statement, into a table like the one that they are staged in.
Plivo answers in 50 ms and reports nothing; the same text to all goes out in joined calls, texts of their own do not.
"""

import json
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import dispatch
from benchmarks.load import free_port
from smsapi import migrations
from smsapi.db import Database
from smsapi.ids import new_id
from tests.services import start_postgres, start_redis

ROWS = (100_000,)
THREADS = 8
# What has not left by then is not waited for: a rate can be told by then.
PATIENCE_SECONDS = 150
# Numbers that end lower have the simulator misbehave.
_TAME, _OF_FOUR = 12, 10_000
_COLUMNS = "batch_id, row, message_id, to_number, country, text, encoding, segments, price_micros, reference, joined"


@dataclass(frozen=True)
class Run:
    """What came of one batch; times in seconds, memory in MB. ``first_text`` is from the answer on."""

    upload: float
    memory: tuple[float, float]
    first_text: float
    sent: int
    through: float


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
    """Return how many rows a second a COPY takes, what it copies being at hand."""
    batch = new_id()
    lines = [
        f"{batch}\t{place}\t{new_id()}\t{number}\tUS\tHi Name {place}\tgsm7\t1\t\\N\t\\N\t\\N\n"
        for place, number in enumerate(_numbers(rows))
    ]
    pieces = ["".join(lines[start : start + 5000]) for start in range(0, rows, 5000)]
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (LIKE batch_rows INCLUDING ALL)")
        connection.commit()
        started = time.monotonic()
        with cursor.copy(f"COPY bare ({_COLUMNS}) FROM STDIN") as copy:
            for piece in pieces:
                copy.write(piece)
        connection.commit()
        seconds = time.monotonic() - started
        cursor.execute("DROP TABLE bare")
    return rows / seconds


def _peak_megabytes(pid: int) -> float:
    """Return the most memory that any one process of a service has had so far (``proc(5)``: VmHWM)."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    status = [Path(f"/proc/{each}/status").read_text() for each in pids]
    return max(int(text.partition("VmHWM:")[2].split()[0]) for text in status) / 1024


@contextmanager
def _serving(environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    port = free_port()
    serve = {**environment, "SMSAPI_DISPATCH_THREADS": "0", "SMSAPI_WORKERS": "1", "SMSAPI_BIND": f"127.0.0.1:{port}"}
    with dispatch._process(["serve"], serve) as pid:
        dispatch._until(lambda: dispatch._answers(port))
        yield f"http://127.0.0.1:{port}", pid


def _post(url: str, key: str, path: Path, text: str) -> None:
    headers = {"X-API-Key": key, "Content-Type": "text/csv", "Content-Length": str(path.stat().st_size)}
    with path.open("rb") as file:
        address = f"{url}/v1/batches?{urllib.parse.urlencode({'text': text})}"
        request = urllib.request.Request(address, file, headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            assert json.load(answer)["rejected"] == 0


class _FirstText(threading.Thread):
    """Notes when Plivo has more texts than before."""

    def __init__(self, plivo_url: str) -> None:
        super().__init__(daemon=True)
        self._url = plivo_url
        self._before = dispatch._taken(plivo_url) or 0
        self.at = float("nan")

    def run(self) -> None:
        while (dispatch._taken(self._url) or 0) <= self._before:
            time.sleep(0.02)
        self.at = time.monotonic()


def _batch(key: str, environment: dict[str, str], path: Path, text: str, rows: int) -> Run:
    """Upload a file and wait until all of it is with Plivo, or long enough to tell how fast it goes."""
    plivo_url = environment["SMSAPI_PLIVO_URL"]
    before = dispatch._taken(plivo_url) or 0
    with _serving(environment) as (url, pid), dispatch._process(["worker", "--threads", str(THREADS)], environment):
        time.sleep(5)
        at_first = _peak_megabytes(pid)
        watching = _FirstText(plivo_url)
        watching.start()
        started = time.monotonic()
        _post(url, key, path, text)
        answered = time.monotonic()
        memory = (at_first, _peak_megabytes(pid))
        sent, seconds = 0, 0.0
        while sent < rows and seconds < PATIENCE_SECONDS:
            time.sleep(0.1)
            sent, seconds = (dispatch._taken(plivo_url) or 0) - before, time.monotonic() - started
        watching.join(30)
        return Run(answered - started, memory, watching.at - answered, sent, seconds)


def _print(name: str, run: Run, rows: int, yardstick: float) -> None:
    taken, through = rows / run.upload, run.sent / run.through
    print(f"  {name}")
    print(f"    upload        {taken:9,.0f} rows/s   ratio {taken / yardstick:.4f}   ({run.upload:.1f} s)")
    print(f"    API process   {run.memory[1]:9.0f} MB at its peak, {run.memory[0]:.0f} MB before")
    print(f"    first text    {run.first_text:9.2f} s after the answer")
    of_all = f"{run.sent:,} in {run.through:.0f} s"
    print(f"    end to end    {through:9,.0f} rows/s   ratio {through / yardstick:.4f}   ({of_all})")


def _measure(rows: int, directory: Path) -> None:
    with start_postgres() as postgres, start_redis() as redis:
        database = Database(postgres.url)
        migrations.upgrade(database)
        path = directory / f"{rows}.csv"
        _write_contacts(path, rows)
        before = _copy(postgres.url, rows)
        runs = []
        for text in ("Your appointment is at nine", "Hi {{name}}"):
            with dispatch._simulator() as plivo_url:
                _, _, key = dispatch._client(database, text[:2])
                environment = dispatch._environment(postgres.url, redis.url, plivo_url)
                runs.append(_batch(key, environment, path, text, rows))
            _empty(database)
        yardstick = (before + _copy(postgres.url, rows)) / 2
        database.close()
    print(
        f"A batch of {rows:,} rows ({path.stat().st_size / 1e6:.1f} MB of CSV), one API process, {THREADS} threads send"
    )
    print(f"  bare COPY       {yardstick:9,.0f} rows/s")
    _print("the same text to all", runs[0], rows, yardstick)
    _print("a text of their own to each", runs[1], rows, yardstick)


def _empty(database: Database) -> None:
    with database.transaction() as connection:
        tables = "batches, batch_rows, batch_rejects, batch_counts, batch_changes, messages, message_attempts, events"
        connection.exec_driver_sql(f"TRUNCATE {tables} CASCADE")


def main(*given: int) -> None:
    """Measure and print, for each number of rows."""
    with tempfile.TemporaryDirectory() as directory:
        for rows in given or ROWS:
            _measure(rows, Path(directory))


if __name__ == "__main__":
    main()

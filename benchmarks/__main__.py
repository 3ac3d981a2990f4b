"""Command ``python -m benchmarks``: runs benchmarks and prints, for each, a table and one line of JSON."""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from benchmarks import accept, batches, dispatch, receipts
from benchmarks.processes import BenchmarkError
from benchmarks.report import Benchmark, json_line
from benchmarks.servers import servers
from smsapi.errors import StoreUnavailable
from tests.services import DATABASE_URL_VARIABLE, REDIS_URL_VARIABLE, ServiceError

BENCHMARKS: Mapping[str, Benchmark] = {
    "accept": accept.BENCHMARK,
    "batches": batches.BENCHMARK,
    "dispatch": dispatch.BENCHMARK,
    "receipts": receipts.BENCHMARK,
}
# Errors that need no traceback; any other is a fault of the benchmark itself.
_WORDS = (
    BenchmarkError,
    ServiceError,
    StoreUnavailable,
    OperationalError,
    OSError,
    HTTPException,
    subprocess.SubprocessError,
)
_DESCRIPTION = """\
Runs the benchmarks, all or those that are named, and prints for each a table and one line of JSON.

Compare figures within a run only: each benchmark also measures its own yardstick. PostgreSQL and Redis are started for
each benchmark, unless they are given; given ones are EMPTIED. The exit code is 1 where a benchmark failed.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks that are named; return 1 where one failed."""
    given = _parse(arguments)
    size_name = "tiny" if given.tiny else "full"
    failed = [name for name in given.names if not _run(name, size_name, given)]
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{names}; all of them by default")
    parser.add_argument("--tiny", action="store_true", help="a few seconds each: shows that it works, not how fast")
    parser.add_argument("--rows", type=int, metavar="N", help="rows of a batch, in place of the default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also append the lines of JSON to this file")
    parser.add_argument(
        "--database-url",
        default=os.environ.get(DATABASE_URL_VARIABLE),
        metavar="URL",
        help=f"a PostgreSQL that may be emptied; by default ${DATABASE_URL_VARIABLE}, or one of its own",
    )
    parser.add_argument(
        "--redis-url",
        default=os.environ.get(REDIS_URL_VARIABLE),
        metavar="URL",
        help=f"a Redis that may be emptied; by default ${REDIS_URL_VARIABLE}, or one of its own",
    )
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {names}")
    given.names = given.names or list(BENCHMARKS)
    if given.rows is not None and given.rows < 1:
        parser.error("--rows has to be 1 or more")
    if given.rows is not None and not any(hasattr(BENCHMARKS[name].full, "rows") for name in given.names):
        parser.error(f"--rows does not apply to {', '.join(given.names)}")
    if given.json is not None:
        try:
            # Checked now, and not after minutes of measuring.
            given.json.touch()
        except OSError as error:
            parser.error(f"{given.json} cannot be written: {error.strerror}")
    return given


def _run(name: str, size_name: str, given: argparse.Namespace) -> bool:
    benchmark = BENCHMARKS[name]
    size: Any = getattr(benchmark, size_name)
    if given.rows is not None and hasattr(size, "rows"):
        size = replace(size, rows=given.rows)
    sys.stderr.write(f"{name} ({size_name}) …\n")
    try:
        with servers(database_url=given.database_url, redis_url=given.redis_url, durable=benchmark.durable) as running:
            figures = benchmark.run(size, running)
    except _WORDS as error:
        sys.stderr.write(f"{name}: {error}\n")
        return False
    line = json_line(name, size_name, size, figures)
    print(*benchmark.table(size, figures), line, sep="\n", flush=True)
    if given.json is not None:
        with given.json.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

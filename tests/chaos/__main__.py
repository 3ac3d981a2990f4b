"""``python -m tests.chaos``: break everything under load and print what was lost, doubled or left in doubt."""

import argparse
import sys
from collections.abc import Sequence

from tests.chaos import rows
from tests.chaos.cluster import Cluster
from tests.chaos.rows import Disturb
from tests.chaos.run import Result, run

# What is done, to how many messages, and how many are begun a second: the load lasts as long as its quotient.
ROWS: Sequence[tuple[Disturb, int, float]] = (
    (rows.everything, 10_000, 1e9),
    (rows.killed, 2_400, 40),
    (rows.batch, 50_000, 1e9),
    (rows.frozen, 1_600, 40),
    (rows.redis_stopped, 1_200, 40),
    (rows.redis_flushed, 1_200, 40),
    (rows.redis_slow, 1_200, 40),
    (rows.postgres_restarted, 1_200, 40),
    (rows.postgres_cut, 1_200, 40),
    (rows.postgres_frozen, 1_200, 40),
    (rows.log_gone, 1_200, 40),
    (rows.plivo_failing, 1_200, 40),
    (rows.plivo_gone, 1_200, 40),
)
HEAD = ("what", "accepted", "taken by Plivo", "lost", "duplicated", "unknown", "recovered in", "lasted", "killed")


def main(arguments: Sequence[str]) -> int:
    """Run the rows and print the table; 1 where anything was lost, doubled or left in doubt."""
    names = [disturb.__name__ for disturb, _, _ in ROWS]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--messages", type=int, metavar="N", help="so many in each row, in place of its own number")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    given = parser.parse_args(arguments)
    results = []
    for disturb, messages, per_second in ROWS:
        if given.only and disturb.__name__ not in given.only:
            continue
        _say(f"{disturb.__name__}: {disturb.__doc__}")
        with Cluster() as cluster:
            results.append(run(cluster, disturb, messages=given.messages or messages, per_second=per_second))
        _say("  ".join(_cells(results[-1])))
    _print_table(results)
    for result in results:
        for line in result.stories:
            _say(f"{result.name}: {line}")
    return 0 if all(result.tally.is_clean for result in results) else 1


def _cells(result: Result) -> list[str]:
    tally = result.tally
    counts = (tally.accepted, tally.taken, len(tally.lost), len(tally.duplicated), len(tally.unknown))
    seconds = (f"{result.recovered_seconds:.1f} s", f"{result.lasted_seconds:.0f} s")
    return [result.name, *(str(count) for count in counts), *seconds, str(result.deaths)]


def _print_table(results: Sequence[Result]) -> None:
    lines = [list(HEAD), *(_cells(result) for result in results)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEAD))]
    for line in lines:
        first, *others = line
        _say("  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Tiny form of ``make bench``: every benchmark runs, and nothing in it fails. No test asserts a speed."""

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main

ROOT = Path(__file__).parents[2]
# Each starts several processes of the service one after another, which is slow on a busy machine.
pytestmark = pytest.mark.timeout(300)


def numbers(figures: object) -> Iterator[float]:
    if isinstance(figures, dict | list):
        for each in figures.values() if isinstance(figures, dict) else figures:
            yield from numbers(each)
    else:
        assert isinstance(figures, int | float), figures
        yield figures


def started_by_this_test() -> list[str]:
    """Return the commands that have pytest's name of this test in their environment."""
    mark, found = f"PYTEST_CURRENT_TEST={os.environ['PYTEST_CURRENT_TEST']}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text())
    return found


def is_complete(name: str, size: dict, figures: dict) -> bool:
    """Return whether the figures cover all that was to be done; of a new benchmark nothing is known."""
    match name:
        case "accept":
            servers = {"bare", *size["stores"]}
            rounds = figures["rounds"]
            return len(rounds) == size["rounds"] and all(
                set(found) == servers and all(each["requests"] > 0 for each in found.values()) for found in rounds
            )
        case "batches":
            sent = {name: each["sent"] for name, each in figures["batches"].items()}
            return sent == dict.fromkeys(size["texts"], size["rows"])
        case "dispatch":
            processes = [str(each) for each in size["processes"]]
            rates = [*figures["sdk_per_second"], *(each["per_second"] for each in figures["workers"].values())]
            is_all = list(figures["workers"]) == processes and len(figures["codes_ms"]) == size["codes"]
            return is_all and all(rate > 0 for rate in rates)
        case "receipts":
            done = {name: (sum(t["states"].values()), t["reports"]) for name, t in figures["stores"].items()}
            return done == dict.fromkeys(size["stores"], (size["messages"], 6 * size["messages"]))
    return True


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_tiny_benchmark_does_all_its_work_and_prints_a_table_and_a_line_of_json(
    name, postgres_url, redis_url, tmp_path, capsys
):
    lines = tmp_path / "lines"
    lines.write_text("of a run before\n")

    ended = main([name, "--tiny", "--json", str(lines), "--database-url", postgres_url, "--redis-url", redis_url])

    out, err = capsys.readouterr()
    assert ended == 0, err
    *table, line = out.splitlines()
    assert len(table) > 1
    assert not any(each.startswith("{") for each in table)
    assert lines.read_text() == f"of a run before\n{line}\n"
    shown = json.loads(line)
    size = json.loads(json.dumps(asdict(BENCHMARKS[name].tiny)))
    assert {**shown, "figures": None} == {"benchmark": name, "size": "tiny", "parameters": size, "figures": None}
    figures = list(numbers(shown["figures"]))
    assert figures
    assert all(math.isfinite(each) and each >= 0 for each in figures)
    assert is_complete(name, size, shown["figures"])
    assert started_by_this_test() == []


def test_every_benchmark_that_fails_says_why_and_the_exit_code_is_1(redis_url, capsys):
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:9/none"

    ended = main(["accept", "receipts", "--tiny", "--database-url", nowhere, "--redis-url", redis_url])

    out, err = capsys.readouterr()
    assert ended == 1
    assert out == ""
    for name in ("accept", "receipts"):
        assert re.search(f"^{name}: .*port 9 failed: Connection refused", err, re.MULTILINE)
    assert err.endswith("failed: accept, receipts\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["accept", "acept"], "there is no benchmark acept; there are accept, batches"),
        (["accept", "--rows", "10"], "--rows does not apply to accept"),
        (["batches", "--rows", "0"], "--rows has to be 1 or more"),
        (["--json", "/nowhere/lines"], "/nowhere/lines cannot be written"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_measured(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_help_names_every_benchmark_and_so_does_the_documentation(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert [name for name in BENCHMARKS if name not in told or f"| `{name}` |" not in page] == []

"""The Makefile's virtual environments: one for each Python, and none that outlives the Python that it was made with."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Not the one of a virtual environment, which the Makefile is not called with.
PYTHON = os.path.realpath(sys.executable)
OWN = f".venv-{sys.version.split()[0]}{sys.abiflags}"
CALLER = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "PYTHON", "ARGS")


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a space in its path, in which nothing was made."""
    made = tmp_path / "a checkout"
    made.mkdir()
    for name in ("Makefile", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.lock"))):
        shutil.copy(ROOT / name, made)
    return made


def planned(checkout, *arguments):
    """Return what make would do."""
    kept = {name: value for name, value in os.environ.items() if name not in CALLER}
    ended = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=checkout, env=kept, capture_output=True, text=True, check=True
    )
    return ended.stdout


def pretend_made(checkout, directory, marker):
    """Leave what the making of an environment leaves last, each newer than the one before."""
    newest = max(path.stat().st_mtime for path in checkout.iterdir())
    (checkout / directory).mkdir()
    for age, name in enumerate((marker, ".run", ".dev"), start=1):
        (checkout / directory / name).touch()
        os.utime(checkout / directory / name, (newest + age, newest + age))


def marker_of(plan, directory):
    (marker,) = re.findall(rf"^touch {re.escape(directory)}/(\.made-by-\S+)$", plan, re.MULTILINE)
    return marker


def test_without_a_choice_it_is_the_environment_of_python3(checkout):
    plan = planned(checkout, "test")
    assert "\npython3 -m venv --clear .venv\n" in plan
    assert plan.rstrip().endswith("\n.venv/bin/python -m pytest")
    assert planned(checkout, "test", "PYTHON=python3") == plan


def test_a_python_that_is_named_has_an_environment_of_its_own(checkout):
    plan = planned(checkout, "test", f"PYTHON={PYTHON}", "ARGS=-k receipts")
    assert f"{PYTHON} -m tests.services missing" in plan
    assert f"\n{PYTHON} -m venv --clear {OWN}\n" in plan
    assert plan.rstrip().endswith(f"\n{OWN}/bin/python -m pytest -k receipts")
    assert ".venv/" not in plan
    for target in ("run", "coverage", "lint", "format", "bench", "chaos", "openapi", "lock"):
        assert ".venv/" not in planned(checkout, target, f"PYTHON={PYTHON}"), target


@pytest.mark.parametrize("choice", [(), (f"PYTHON={PYTHON}",)], ids=["python3", "named"])
def test_an_environment_is_made_again_where_its_python_has_become_another_and_only_then(checkout, choice):
    directory = OWN if choice else ".venv"
    marker = marker_of(planned(checkout, "lint", *choice), directory)
    pretend_made(checkout, directory, marker)
    assert planned(checkout, "lint", *choice).startswith(f"{directory}/bin/ruff")
    (checkout / directory / marker).rename(checkout / directory / ".made-by-3.11.0-1")
    plan = planned(checkout, "lint", *choice)
    assert f"-m venv --clear {directory}\n" in plan
    assert f"{directory}/bin/python -m pip" in plan


def test_all_environments_are_ignored_and_none_is_left_by_clean(checkout):
    for directory in (".venv", OWN):
        (checkout / directory).mkdir()
    ignored = subprocess.run(
        ["git", "check-ignore", ".venv", OWN], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ignored.stdout.splitlines() == [".venv", OWN]
    kept = {name: value for name, value in os.environ.items() if name not in CALLER}
    subprocess.run(["make", "clean"], cwd=checkout, env=kept, capture_output=True, check=False)
    assert not [path.name for path in checkout.iterdir() if path.name.startswith(".venv")]

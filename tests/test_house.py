"""The rules of the house that a machine can hold: sizes, imports, patches, names, and one schema on both stores."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from smsapi import migrations
from smsapi.db import Database, metadata
from tests.support.command import environment, run

ROOT = Path(__file__).parents[1]
OURS = ("smsapi", "tests", "benchmarks")
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def trees(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for name, source in sources(*folders):
        yield name, ast.parse(source)


def functions(tree: ast.AST) -> Iterator[FUNCTION]:
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTION))


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    return listed.stdout.decode().splitlines()


def test_no_file_has_more_than_400_lines():
    sizes = {name: len(source.splitlines()) for name, source in sources(*OURS)}
    assert len(sizes) > 100
    assert {name: lines for name, lines in sizes.items() if lines > 400} == {}


def test_nine_functions_of_ten_have_at_most_30_lines():
    lengths = sorted(each.end_lineno - each.lineno + 1 for _, tree in trees("smsapi") for each in functions(tree))
    assert lengths[len(lengths) * 9 // 10] <= 30
    assert lengths[len(lengths) // 2] <= 15


def test_nothing_of_ours_is_imported_within_a_function():
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees("smsapi")
        for function in functions(tree)
        for node in ast.walk(function)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("smsapi"))
        or (isinstance(node, ast.Import) and any(each.name.startswith("smsapi") for each in node.names))
    ]
    assert found == []


def test_hardly_a_test_patches_anything():
    tests = sum(each.name.startswith("test_") for _, tree in trees("tests") for each in functions(tree))
    patches = sum(
        len(re.findall(r"monkeypatch\.\w+\(|\bpatch\(|\bMock\(|MagicMock\(|create_autospec\(", source))
        for name, source in sources("tests")
        if name != "tests/test_house.py"
    )
    assert tests > 300
    assert patches <= tests * 0.05


def test_no_test_is_skipped_or_expected_to_fail_but_for_a_missing_server():
    marks = [
        name
        for name, source in sources("tests")
        if name not in {"tests/test_house.py", "tests/test_services.py", "tests/support/rules.py"}
        and re.search(r"mark\.(skip|xfail)|pytest\.(skip|xfail)\(", source)
    ]
    assert marks == []


def test_every_public_function_and_class_of_the_service_says_what_it_is_for():
    silent = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in trees("smsapi")
        if "/versions/" not in name
        for node in tree.body
        if isinstance(node, FUNCTION | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


IMPORT_ALL = """
import importlib, pkgutil, socket, sqlite3, sys, threading
def refused(event, arguments):
    if event == "socket.bind" and arguments[1] == ("::1", 0):
        return  # urllib3 asks whether there is IPv6
    if event in {"socket.connect", "socket.bind", "sqlite3.connect", "socket.getaddrinfo"}:
        sys.exit(f"{event} {arguments}")
sys.addaudithook(refused)
import smsapi
for found in pkgutil.walk_packages(smsapi.__path__, "smsapi."):
    if found.name not in {"smsapi.__main__", "smsapi.migrations.env"} and ".versions." not in found.name:
        importlib.import_module(found.name)
from sqlalchemy.engine import Engine
from flask import Flask
from redis import Redis
held = [
    f"{name}.{each}"
    for name, module in list(sys.modules.items()) if name.startswith("smsapi")
    for each, value in vars(module).items() if isinstance(value, (Engine, Flask, Redis))
]
assert not held, held
assert threading.active_count() == 1, threading.enumerate()
print(sum(name.startswith("smsapi.") for name in sys.modules))
"""


def test_importing_all_of_it_opens_nothing_and_makes_nothing_global():
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 60


def test_no_path_of_a_machine_and_no_registry_is_in_any_file():
    # Spelled in two parts, so that this file holds none of them.
    forbidden = re.compile(
        r"(?<![\w.])/(?:ro" r"ot|ho" r"me/\w|work|Users)/|(?<!emit-)index-u" r"rl|files\.pythonhosted|/sim" r"ple/"
    )
    found = []
    for name in tracked():
        path = ROOT / name
        if "swagger-ui" in name or not path.is_file():
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{name}: {match[0]}" for match in forbidden.finditer(source)]
    assert found == []


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", "smsapi:migrations")
    made.set_main_option("path_separator", "os")
    return made


def test_migrations_have_one_head_and_one_line():
    scripts = ScriptDirectory.from_config(config())
    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1
    assert all(not isinstance(each.down_revision, tuple) for each in scripts.walk_revisions())


@pytest.fixture
def empty(request, postgres, tmp_path):
    """A store of this test's own, without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/house.db"
        return
    admin = Database(postgres)
    engine = admin.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS smsapi_house WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE smsapi_house"))
    yield admin.url.set(database="smsapi_house").render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE smsapi_house WITH (FORCE)"))
    admin.close()


both_stores = pytest.mark.parametrize("empty", ["sqlite", "postgresql"], indirect=True)


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": metadata}
        )
        return compare_metadata(context, metadata)


@both_stores
def test_the_migrated_schema_is_the_one_that_the_code_declares(empty):
    database = Database(empty)
    migrations.upgrade(database)
    assert differences(database) == []
    assert migrations.is_current(database)
    database.close()


@both_stores
def test_the_schema_goes_down_to_nothing_and_up_again(empty):
    database = Database(empty)
    migrations.upgrade(database)
    migrations.downgrade(database, "base")
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    assert not migrations.is_current(database)
    migrations.upgrade(database)
    assert differences(database) == []
    database.close()


@both_stores
def test_several_processes_may_upgrade_at_once(empty):
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(run, "db", "upgrade", SMSAPI_DATABASE_URL=empty) for _ in range(3)]
        ended = [each.result(60) for each in running]
    assert [each.returncode for each in ended] == [0, 0, 0], ended
    database = Database(empty)
    assert migrations.is_current(database)
    assert differences(database) == []
    database.close()

"""Rolling deploys: this version runs, and restarts, on the schema of a later one, where that says so."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

import smsapi
from smsapi.cli.admin import LATER_SCHEMA
from smsapi.cli.dev import _opened
from smsapi.db import Database
from smsapi.errors import SmsapiError
from smsapi.migrations import upgrade
from smsapi.migrations.compatibility import schema_compatibility
from tests.conftest import eventually
from tests.support.dispatching import ASYNC
from tests.support.served import Served, Worker, caller_of, environment, run_smsapi

# A step of the next version: it only adds something, or it says that nobody before may use what it leaves.
STEP = '''"""A step that this version does not know."""

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{head}"


def upgrade():
    op.add_column("messages", sa.Column("invented", sa.Text(), nullable=True))
    op.create_table("inventions", sa.Column("id", sa.Text(), primary_key=True))
    if {breaks}:
        op.execute("UPDATE schema_compatibility SET usable_from = 'next'")


def downgrade():
    raise NotImplementedError
'''


@pytest.fixture
def later(tmp_path):
    """Return a function that upgrades a database by the next version, which is this one and one step more."""

    def upgrade(url: str, *, breaks: bool = False) -> None:
        package = tmp_path / "later" / "smsapi"
        shutil.copytree(Path(smsapi.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        steps = package / "migrations" / "versions"
        head = max(path.name[:4] for path in steps.glob("[0-9]*.py"))
        (steps / "next.py").write_text(STEP.format(head=head, breaks=breaks))
        environ = {**os.environ, "PYTHONPATH": str(package.parent), "SMSAPI_DATABASE_URL": url}
        command = [sys.executable, "-P", "-m", "smsapi", "db", "upgrade"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "The database is up to date.\n"), done.stderr

    return upgrade


@pytest.fixture
def own_url(request, database_url):
    """A database of this test's own, whose schema may become another's."""
    if database_url.startswith("sqlite"):
        yield database_url
        return
    admin = Database(database_url)
    engine = admin.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE smsapi_deploy")
    url = admin.url.set(database="smsapi_deploy").render_as_string(hide_password=False)
    try:
        assert run_smsapi({"PATH": "", "SMSAPI_DATABASE_URL": url}, "db", "upgrade").returncode == 0
        yield url
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE smsapi_deploy WITH (FORCE)")
        admin.close()


ADDS = {"add_column", "create_table", "create_index", "bulk_insert", "f"}


def test_a_step_that_does_more_than_add_says_what_that_is_to_the_version_before():
    steps = sorted((Path(smsapi.__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))
    assert steps
    for step in (step for step in steps if step.name[:4] > "0013"):
        source = step.read_text()
        (upgrade,) = [each for each in ast.parse(source).body if getattr(each, "name", "") == "upgrade"]
        done = {
            node.attr
            for node in ast.walk(upgrade)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "op"
        }
        assert done <= ADDS or "usable_from" in source, (step.name, done - ADDS)


def test_what_runs_goes_on_and_starts_again_on_the_schema_of_the_next_version(own_url, later, simulator, tmp_path):
    environ = environment(own_url, simulator.url, SMSAPI_WORKERS=1)
    served = Served({**environ, "SMSAPI_DISPATCH_THREADS": "0"}, tmp_path / "api")
    worker = Worker({**environ, "SMSAPI_PUBLIC_URL": served.url}, tmp_path / "worker", threads=2)
    for unit in (served, worker):
        unit.log.parent.mkdir()
    try:
        served.start()
        worker.start()
        later(own_url)
        caller = caller_of(served)

        def is_delivered(message):
            return caller.message(message["id"])["status"] == "delivered"

        sent = caller.send(headers=ASYNC).json()
        eventually(lambda: is_delivered(sent))
        for unit in (served, worker):
            assert unit.stop() == 0
            unit.start()
        again = caller.send(headers=ASYNC).json()
        eventually(lambda: is_delivered(again))
        for words in (["queue", "status"], ["queue", "pause"], ["queue", "resume"]):
            done = run_smsapi(environ, *words)
            assert done.returncode == 0, done.stderr
        done = run_smsapi(environ, "db", "upgrade")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "The database has the schema of a later version, which this version may use.\n"
    finally:
        served.close()
        worker.close()


def test_a_schema_that_only_later_versions_may_use_is_told_of(own_url, later, simulator):
    later(own_url, breaks=True)
    environ = environment(own_url, simulator.url)
    for words in (
        ["serve"],
        ["worker"],
        ["queue", "status"],
        ["queue", "pause"],
        ["db", "upgrade"],
        ["clients", "list"],
    ):
        done = run_smsapi(environ, *words)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"smsapi: {LATER_SCHEMA}\n"), words
    with (store := Database(own_url)).read() as connection:
        assert connection.execute(schema_compatibility.select()).scalar_one() == "next"
    store.close()


def test_a_database_that_cannot_hold_every_text_is_refused_in_a_sentence(postgres_url):
    admin = Database(postgres_url)
    engine = admin.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE smsapi_latin ENCODING 'LATIN1' TEMPLATE template0")
    url = admin.url.set(database="smsapi_latin").render_as_string(hide_password=False)
    try:
        for words in (["db", "upgrade"], ["serve"], ["clients", "list"]):
            done = run_smsapi(environment(url, "http://127.0.0.1:9"), *words)
            assert done.returncode == 1
            assert done.stdout == ""
            (said,) = done.stderr.splitlines()
            assert "LATIN1" in said
            assert "ENCODING 'UTF8'" in said
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE smsapi_latin WITH (FORCE)")
        admin.close()


def test_a_demo_of_a_later_version_is_used_where_that_may_be_and_is_not_to_be_deleted_where_not(tmp_path):
    state = tmp_path / "var"
    state.mkdir()
    store = Database(f"sqlite:///{state / 'dev.db'}")
    upgrade(store)
    with store.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'next'"))
    memory = _opened(state)[1]
    assert memory.key.startswith("smsk_live_")
    with store.transaction() as connection:
        connection.execute(text("UPDATE schema_compatibility SET usable_from = 'next'"))
    with pytest.raises(SmsapiError, match="the schema of a later version") as refused:
        _opened(state)
    assert "delete" not in refused.value.detail
    store.close()

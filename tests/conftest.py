"""Real PostgreSQL and Redis, a fresh store for each test, Plivo played by the simulator on a real socket."""

import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from smsapi import migrations
from smsapi.app import create_app
from smsapi.auth import service
from smsapi.auth.models import SCOPES
from smsapi.db import Database
from smsapi.deps import Deps
from smsapi.dispatch.engine import Dispatcher
from smsapi.log import configure_logging
from smsapi.plivo.simulator import Simulator
from smsapi.settings import read_settings
from tests.services import DATABASE_URL_VARIABLE, REDIS_URL_VARIABLE, Service, start_postgres, start_redis
from tests.support.api import LANDLINE, Caller, CheckedClient, Remote
from tests.support.examples import is_on_its_store, load_profile
from tests.support.shared import CompiledOnceRule, share_statements
from tests.support.stores import PostgresCleaner, fast_directory

AUTH_ID = "MATESTTESTTESTTEST00"
AUTH_TOKEN = "the-auth-token-of-the-tests"
STORES = ("sqlite", "postgresql")
JWT_SECRET = "a-secret-for-the-tests-of-32-chars-or-more"

configure_logging("info")
Flask.url_rule_class = CompiledOnceRule
load_profile()
# Where the tests run in the background of a script, a shell has them ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what runs on the other store: see ``is_on_its_store``."""
    asked = [(item, getattr(getattr(item, "callspec", None), "params", {}).get("database_url")) for item in items]
    twins = Counter(item.nodeid.replace(str(store), "") for item, store in asked)
    items[:] = [
        item
        for item, store in asked
        if store not in STORES
        or twins[item.nodeid.replace(store, "")] == 1
        or is_on_its_store(item.nodeid, store, is_marked=item.get_closest_marker("both_stores") is not None)
    ]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL that the tests may empty."""
    if given := os.environ.get(DATABASE_URL_VARIABLE):
        yield given
        return
    with start_postgres(autovacuum=False) as running:
        yield running.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis that the tests may empty."""
    if given := os.environ.get(REDIS_URL_VARIABLE):
        yield given
        return
    with start_redis() as running:
        yield running.url


@pytest.fixture
def redis_server() -> Iterator[Service]:
    """A Redis of this test's own, to be killed and started again."""
    with start_redis() as running:
        yield running


@pytest.fixture(scope="session")
def migrated_postgres(postgres: str) -> str:
    database = Database(postgres)
    migrations.upgrade(database)
    database.close()
    return postgres


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = Database(f"sqlite:///{path}")
    migrations.upgrade(database)
    with database.read() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite: Path) -> Iterator[str]:
    """A fresh SQLite store with the schema."""
    with tempfile.TemporaryDirectory(prefix="smsapi-sqlite-", dir=fast_directory(), ignore_cleanup_errors=True) as made:
        yield f"sqlite:///{shutil.copy(migrated_sqlite, Path(made) / 'smsapi.db')}"


@pytest.fixture(scope="session")
def postgres_cleaner(migrated_postgres: str) -> Iterator[PostgresCleaner]:
    cleaner = PostgresCleaner(migrated_postgres)
    yield cleaner
    cleaner.close()


@pytest.fixture
def postgres_url(migrated_postgres: str, postgres_cleaner: PostgresCleaner) -> str:
    """The PostgreSQL store with the schema, emptied."""
    postgres_cleaner.empty()
    return migrated_postgres


@pytest.fixture(params=STORES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Each store in turn."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Plivo, played on a real socket; delivery reports come twenty times sooner than Plivo's."""
    with Simulator(
        auth_id=AUTH_ID, auth_token=AUTH_TOKEN, requests_per_5s=None, lists_per_minute=None, receipt_scale=0.05
    ) as playing:
        yield playing


@pytest.fixture
def make_app(database_url: str, simulator: Simulator) -> Iterator[Callable[..., Flask]]:
    """Make apps on this test's store; keywords are settings, and ``replacements`` fields of Deps."""
    with ExitStack() as stack:

        def make(replacements: dict[str, Any] | None = None, **settings: Any) -> Flask:
            return stack.enter_context(_app(database_url, simulator.url, replacements or {}, settings))

        yield make


@contextmanager
def _app(url: str, plivo_url: str, replacements: dict[str, Any], settings: dict[str, Any]) -> Iterator[Flask]:
    values = {
        "database_url": url,
        "plivo_auth_id": AUTH_ID,
        "plivo_auth_token": AUTH_TOKEN,
        "plivo_sender_id": LANDLINE,
        "plivo_url": plivo_url,
        "jwt_secret": JWT_SECRET,
        # One process asks, and not two.
        "workers": 1,
        "retry_base_seconds": 0.05,
        "dispatch_sweep_seconds": 0.1,
        "plivo_requests_per_5s": 0.0,
        **settings,
    }
    app = create_app(read_settings({}, **values), **replacements)
    app.test_client_class = CheckedClient
    world: Deps = app.extensions["smsapi"]
    share_statements(world.database)
    try:
        yield app
    finally:
        world.executor.shutdown(wait=True)
        world.database.close()
        for closable in (world.provider, world.strict_limits):
            getattr(closable, "close", lambda: None)()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The app on this test's store, with the simulator as Plivo; nothing dispatches."""
    return make_app()


@pytest.fixture
def make_caller() -> Callable[..., Caller]:
    """Make a client with a key: ``make_caller(app, mode="test", scopes=[…], default_sender=…)``."""
    return new_caller


def new_caller(
    app: Flask, *, mode: str = "live", scopes: tuple[str, ...] = SCOPES, name: str = "caller", **client: Any
) -> Caller:
    world: Deps = app.extensions["smsapi"]
    now = datetime.now(UTC)
    with world.database.transaction() as connection:
        made = service.create_client(connection, now, name=name, **client)
        key, secret = service.issue_key(
            connection, now, client_id=made.id, name="key", live=mode == "live", scopes=scopes
        )
    return Caller(app, secret, f"cli_{made.id.hex}", f"key_{key.id.hex}")


@pytest.fixture
def caller(app: Flask) -> Caller:
    """A client with a live key that may do everything."""
    return new_caller(app)


@pytest.fixture
def dispatching() -> Iterator[Callable[[Flask], Dispatcher]]:
    """Start the dispatcher of an app for the rest of the test."""
    started: list[Dispatcher] = []

    def start(app: Flask) -> Dispatcher:
        dispatcher = Dispatcher(app.extensions["smsapi"])
        dispatcher.start()
        started.append(dispatcher)
        return dispatcher

    yield start
    for dispatcher in started:
        dispatcher.stop(10)


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_args: Any) -> None:
        """Say nothing."""


@contextmanager
def listening(app: Flask, port: int) -> Iterator[None]:
    """Serve the app on 127.0.0.1 from threads of this process."""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_QuietHandler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# Below the ports that the kernel gives to clients, and apart for each process of the run. Two runs on one machine begin
# in different places: of both the first ports are free until a server that was given one has come up.
_ports = iter(
    range(
        10_000 + 5_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) + 100 * (os.getppid() % 40),
        32_000,
    )
)


def free_port() -> int:
    """Return a port that nobody listens on, and that no other test of this run is given."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


@pytest.fixture
def live(make_app: Callable[..., Flask], dispatching: Callable[[Flask], Dispatcher]) -> Iterator[Callable[..., Remote]]:
    """Run the whole service in this process on a real socket, dispatcher and receipts included; return a caller."""
    with ExitStack() as stack:

        def start(mode: str = "live", **settings: Any) -> Remote:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            app = make_app(public_url=url, **settings)
            stack.enter_context(listening(app, port))
            dispatching(app)
            return Remote(url, new_caller(app, mode=mode).key)

        yield start


def eventually(look: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Return what ``look`` gives as soon as it is true; fail after so many seconds.

    The default is long, since on a busy machine everything takes long: what is to be prompt is tested beside something
    that would take longer still, such as a sweep.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not so after {seconds} s: {found!r}"
        threading.Event().wait(0.02)
    return found

"""``smsapi dev``: the service, a SQLite file and the simulator in one process, ready to be called."""

import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from alembic.util import CommandError
from flask import Flask
from sqlalchemy.exc import DatabaseError
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from smsapi import migrations
from smsapi.app import create_app
from smsapi.auth import service
from smsapi.auth.secrets import read_key
from smsapi.cli.addresses import split_bind
from smsapi.cli.admin import LATER_SCHEMA
from smsapi.cli.run import SIMULATOR_AUTH_ID, SIMULATOR_AUTH_TOKEN
from smsapi.db import Database
from smsapi.deps import Deps
from smsapi.dispatch.engine import Dispatcher
from smsapi.errors import SmsapiError
from smsapi.log import configure_logging
from smsapi.plivo.simulator import Simulator
from smsapi.settings import Settings, read_settings
from smsapi.sms.prices import PriceList
from smsapi.stopping import stop_signals

_SENDER = "+14155550100"
_RECIPIENT = "+14155550123"
_SECRET_LENGTH = 32
# What the simulator charges a segment.
_PRICES = PriceList.from_mapping({"currency": "USD", "default": "0.0055"})


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the app logs each request itself."""


@click.command()
@click.option("--bind", default="127.0.0.1:8000", show_default=True, help="HOST:PORT to listen on.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var"),
    show_default=True,
    help="Directory of the SQLite file and the demo key.",
)
@click.option("--simulator-port", type=click.IntRange(0, 65535), default=0, help="Port of the simulator. 0: any.")
@click.option("--json", "as_json", is_flag=True, help="Print what is needed to call it as JSON.")
def dev(*, bind: str, state: Path, simulator_port: int, as_json: bool) -> None:
    """Run everything in one process: SQLite, the service, Plivo simulated. Prints a key and calls that work."""
    host, port = split_bind(bind)
    with _listening(host, port) as door, _simulated(simulator_port) as plivo:
        database, memory = _opened(state)
        # The port that was given, or the one that was found for 0: Plivo's reports come there.
        url = _url(host, door.getsockname()[1])
        configure_logging("warning")
        app = create_app(_settings(plivo.url, memory["jwt_secret"], url), database=database, prices=_PRICES)
        server = make_server(host, port, app, threaded=True, request_handler=_Handler, fd=door.fileno())
        # The server has a copy. Left open, this one would keep Plivo's reports waiting while all of it stops.
        door.close()
        with stop_signals() as wait:
            _run(server, app, wait, lambda: _greet(url, plivo.url, memory["key"], as_json=as_json))
        database.close()


def _settings(plivo_url: str, jwt_secret: str, public_url: str) -> Settings:
    # Not from the environment: nothing that is set there may make this text a real person.
    return read_settings(
        {},
        plivo_auth_id=SIMULATOR_AUTH_ID,
        plivo_auth_token=SIMULATOR_AUTH_TOKEN,
        plivo_sender_id=_SENDER,
        plivo_url=plivo_url,
        public_url=public_url,
        jwt_secret=jwt_secret,
        workers=1,
    )


def _url(host: str, port: int) -> str:
    reached = "127.0.0.1" if host in {"0.0.0.0", "::"} else host
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.socket(family, kind, protocol)
    except OSError:
        raise _taken(host, port) from None
    with door:
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(where)
            door.listen(128)
        except OSError:
            raise _taken(host, port) from None
        yield door


def _taken(host: str, port: int) -> SmsapiError:
    return SmsapiError(f"{host}:{port} cannot be listened on; is it taken? Use --bind HOST:PORT.")


@contextmanager
def _simulated(port: int) -> Iterator[Simulator]:
    plivo = Simulator(auth_id=SIMULATOR_AUTH_ID, auth_token=SIMULATOR_AUTH_TOKEN, port=port)
    try:
        plivo.start()
    except OSError:
        raise SmsapiError(f"127.0.0.1:{port} cannot be listened on; is it taken? Use --simulator-port.") from None
    try:
        yield plivo
    finally:
        plivo.stop()


def _opened(state: Path) -> tuple[Database, dict[str, str]]:
    """Return the store with its schema, and the demo's secrets with a key that works there."""
    try:
        # Of what was there already only the files are closed: the directory may be one that others work in too.
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (state / "dev.db").touch(mode=0o600)
        (state / "dev.db").chmod(0o600)
        memory = _remembered(state / "dev.json")
        database = Database(f"sqlite:///{(state / 'dev.db').resolve()}")
        _prepare(database, state)
        memory["key"] = _demo_key(database, memory["key"])
        _remember(state / "dev.json", memory)
    except (OSError, DatabaseError, CommandError) as error:
        reason = f"{type(error).__name__}. Use another --state, or delete it to begin anew."
        raise SmsapiError(f"The state in {state} cannot be used: {reason}") from None
    return database, memory


def _prepare(database: Database, state: Path) -> None:
    found = migrations.schema_state(database)
    if found is migrations.SchemaState.NEWER:
        database.close()
        raise SmsapiError(f"The state in {state}: {LATER_SCHEMA} Or use another --state.")
    if found is not migrations.SchemaState.NEWER_AND_USABLE:
        migrations.upgrade(database)


def _run(server: BaseWSGIServer, app: Flask, wait: Callable[[], None], greet: Callable[[], None]) -> None:
    world: Deps = app.extensions["smsapi"]
    dispatcher = Dispatcher(world, role="dev")
    dispatcher.start()
    serving = threading.Thread(target=server.serve_forever, name="smsapi-http")
    serving.start()
    try:
        greet()
        wait()
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
        dispatcher.stop()
        world.executor.shutdown(wait=True)


def _remembered(path: Path) -> dict[str, str]:
    """Return the demo's secrets, kept so that a key that was pasted works after a restart too."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        secret, key = str(found["jwt_secret"]), str(found["key"])
    except (OSError, ValueError, KeyError, TypeError):
        secret, key = "", ""
    return {
        "jwt_secret": secret if len(secret) >= _SECRET_LENGTH else secrets.token_urlsafe(_SECRET_LENGTH),
        "key": key,
    }


def _remember(path: Path, memory: dict[str, str]) -> None:
    # Made anew, so that nobody else may read it, whatever the old one allowed; and whole, whenever this is stopped.
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(memory), encoding="utf-8")
    fresh.replace(path)


def _demo_key(database: Database, remembered: str) -> str:
    presented = read_key(remembered)
    now = datetime.now(UTC)
    with database.transaction() as connection:
        if presented is not None and service.find_by_key(connection, now, presented) is not None:
            return remembered
        client = service.any_client_named(connection, "demo") or service.create_client(connection, now, name="demo")
        scopes = ("messages:send", "messages:read", "keys", "admin")
        _, key = service.issue_key(connection, now, client_id=client.id, name="demo", live=True, scopes=scopes)
    return key


def _greet(url: str, plivo_url: str, key: str, *, as_json: bool) -> None:
    send = (
        f"curl -sS {url}/v1/messages -H 'X-API-Key: {key}' -H 'Content-Type: application/json' "
        f"""-d '{{"to": "{_RECIPIENT}", "text": "Hello from smsapi"}}'"""
    )
    look = f"curl -sS '{url}/v1/messages?limit=1' -H 'X-API-Key: {key}'"
    if as_json:
        shown = {"url": url, "key": key, "simulator": plivo_url, "send": send, "look": look}
        click.echo(json.dumps(shown))
        return
    click.echo(
        f"""\
smsapi is at {url}; its documentation at {url}/docs.
Plivo is simulated at {plivo_url}: nobody is texted. What it took: {plivo_url}/_taken

API key: {key}

Send a message:
  {send}

See what became of it (delivered after a second):
  {look}

Ctrl-C stops it."""
    )

"""``smsapi dev``: the service, a SQLite file and the simulator in one process, ready to be called."""

import json
import shlex
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from alembic.util import CommandError
from flask import Flask
from sqlalchemy.exc import DatabaseError
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from smsapi import migrations
from smsapi.app import create_app
from smsapi.auth import service
from smsapi.auth.models import SCOPES
from smsapi.auth.secrets import read_key
from smsapi.cli import demo
from smsapi.cli.addresses import split_bind
from smsapi.cli.admin import LATER_SCHEMA
from smsapi.db import Database
from smsapi.deps import Deps
from smsapi.dispatch.engine import Dispatcher
from smsapi.errors import SmsapiError
from smsapi.log import configure_logging
from smsapi.plivo.simulator import Simulator
from smsapi.sms.prices import PriceList
from smsapi.stopping import stop_signals

_RECIPIENT = "+14155550123"
_OPTS_OUT = "+14155550124"
_SIMULATOR_PORT = 8099
# What the printed key may do: all but to change clients and limits, so that it is like the key of a caller.
_CALLER_SCOPES = tuple(scope for scope in SCOPES if scope != "admin")
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
    default=demo.STATE,
    show_default=True,
    help="Directory of the SQLite file and the demo keys.",
)
@click.option(
    "--simulator-port",
    type=click.IntRange(0, 65535),
    help=f"Port of the simulator; 0: any. [default: {_SIMULATOR_PORT}, or any where that is taken]",
)
@click.option("--admin-key", "with_admin_key", is_flag=True, help="Print a second key, which has the scope admin, too.")
@click.option("--json", "as_json", is_flag=True, help="Print what is needed to call it as JSON.")
def dev(*, bind: str, state: Path, simulator_port: int | None, with_admin_key: bool, as_json: bool) -> None:
    """Run everything in one process: SQLite, the service, Plivo simulated. Prints a key and calls that work.

    Webhooks may go to this machine, over http and to any port. In the directory that holds the state, the commands
    for operators (doctor, queue, clients, keys, messages, privacy) use this database where no setting is set.
    """
    host, port = split_bind(bind)
    with _listening(host, port) as door, _simulated(simulator_port) as plivo:
        # The port that was given, or the one that was found for 0: Plivo's reports come there.
        url = _url(host, door.getsockname()[1])
        database, memory = _opened(state)
        memory = replace(memory, url=url, simulator=plivo.url)
        configure_logging("warning")
        app = create_app(demo.settings_of(state, memory), database=database, prices=_PRICES)
        server = make_server(host, port, app, threaded=True, request_handler=_Handler, fd=door.fileno())
        # The server has a copy. Left open, this one would keep Plivo's reports waiting while all of it stops.
        door.close()
        with stop_signals() as wait, demo.remembered(state, memory):
            _run(server, app, wait, lambda: _greet(memory, as_json=as_json, with_admin_key=with_admin_key))
        database.close()


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
def _simulated(port: int | None) -> Iterator[Simulator]:
    plivo = _simulator(_SIMULATOR_PORT if port is None else port)
    try:
        plivo.start()
    except OSError:
        if port is not None:
            raise SmsapiError(f"127.0.0.1:{port} cannot be listened on; is it taken? Use --simulator-port.") from None
        plivo = _simulator(0)
        plivo.start()
    try:
        yield plivo
    finally:
        plivo.stop()


def _simulator(port: int) -> Simulator:
    return Simulator(auth_id=demo.SIMULATOR_AUTH_ID, auth_token=demo.SIMULATOR_AUTH_TOKEN, port=port)


def _opened(state: Path) -> tuple[Database, demo.Memory]:
    """Return the store with its schema, and the demo's secrets with keys that work there."""
    try:
        # Of what was there already only the files are closed: the directory may be one that others work in too.
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (state / "dev.db").touch(mode=0o600)
        (state / "dev.db").chmod(0o600)
        memory = demo.recall(state)
        database = Database(demo.database_url(state))
        _prepare(database, state)
        key = _demo_key(database, memory.key, "demo", _CALLER_SCOPES)
        memory = replace(memory, key=key, admin_key=_demo_key(database, memory.admin_key, "demo admin", SCOPES))
        # So that the keys are kept whatever fails from here on.
        with demo.remembered(state, memory):
            return database, memory
    except (OSError, DatabaseError, CommandError) as error:
        reason = f"{type(error).__name__}. Use another --state, or delete it to begin anew."
        raise SmsapiError(f"The state in {state} cannot be used: {reason}") from None


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


def _demo_key(database: Database, remembered: str, name: str, scopes: Sequence[str]) -> str:
    """Return the remembered key where it works, with these scopes from now on, else a new one."""
    presented = read_key(remembered)
    now = datetime.now(UTC)
    with database.transaction() as connection:
        found = None if presented is None else service.find_by_key(connection, now, presented)
        if found is not None:
            if set(found.key.scopes) != set(scopes):
                service.set_scopes(connection, found.key.id, scopes)
            return remembered
        client = service.any_client_named(connection, "demo") or service.create_client(connection, now, name="demo")
        _, key = service.issue_key(connection, now, client_id=client.id, name=name, live=True, scopes=scopes)
    return key


def _curl(url: str, key: str | None, body: Mapping[str, Any] | None = None) -> str:
    """Return a curl command that a shell reads as it is meant."""
    words = ["curl", "-sS", url]
    words += [] if key is None else ["-H", f"X-API-Key: {key}"]
    words += [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return shlex.join(words)


def _calls(memory: demo.Memory) -> dict[str, str]:
    """Return what to paste into a shell, by name: each works as it is."""
    url, key = memory.url, memory.key
    rows = [{"to": _RECIPIENT, "vars": {"name": "Ada"}}, {"to": _OPTS_OUT, "vars": {"name": "Bob"}}]
    stop = {"from": _OPTS_OUT, "to": demo.SENDER, "text": "STOP", "url": f"{url}/plivo/inbound"}
    return {
        "shell": _exports(memory),
        "send": _curl(f"{url}/v1/messages", key, {"to": _RECIPIENT, "text": "Hello from smsapi"}),
        "look": _curl(f"{url}/v1/messages?limit=1", key),
        "batch": _curl(f"{url}/v1/batches", key, {"text": "Hi {{name}}, we open at nine.", "recipients": rows}),
        "webhooks": "smsapi webhooks listen",
        "stop": _curl(f"{memory.simulator}/_inbound", None, stop),
    }


def _exports(memory: demo.Memory) -> str:
    """Return the line by which a shell finds the command, the service and the key."""
    own = Path(sys.executable).parent
    path = f'PATH={shlex.quote(str(own))}:"$PATH" ' if _is_elsewhere(own) else ""
    return f"export {path}SMSAPI_URL={shlex.quote(memory.url)} SMSAPI_TOKEN={memory.key}"


def _is_elsewhere(own: Path) -> bool:
    """Say whether ``smsapi`` in the shell is not the command of this environment."""
    found = shutil.which("smsapi")
    return found is None or not (own / "smsapi").exists() or not (own / "smsapi").samefile(found)


def _greet(memory: demo.Memory, *, as_json: bool, with_admin_key: bool) -> None:
    calls = _calls(memory)
    if as_json:
        keys = {"key": memory.key, "admin_key": memory.admin_key}
        click.echo(json.dumps({"url": memory.url, "simulator": memory.simulator, **keys, **calls}))
        return
    admin = f"\nIts key with the scope admin: {memory.admin_key}" if with_admin_key else ""
    click.echo(
        f"""\
smsapi is at {memory.url}; its documentation at {memory.url}/docs.
Plivo is simulated at {memory.simulator}: nobody is texted. What it took: {memory.simulator}/_taken

API key: {memory.key}{admin}

In another terminal, so that the `smsapi` command works without options:
  {calls["shell"]}

Send a message:
  {calls["send"]}

See what became of it (delivered after a second):
  {calls["look"]}

Send a batch:
  {calls["batch"]}

Print each webhook as it comes, with its signature checked:
  {calls["webhooks"]}

Let Bob of the batch answer STOP, after which a message to his number is refused (START undoes it):
  {calls["stop"]}

Ctrl-C stops it."""
    )

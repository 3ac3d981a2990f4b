"""``smsapi dev``: the service, a SQLite file and the simulator in one process, ready to be called."""

import json
import secrets
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from smsapi import migrations
from smsapi.app import create_app
from smsapi.auth import service
from smsapi.auth.secrets import read_key
from smsapi.cli.run import SIMULATOR_AUTH_ID, SIMULATOR_AUTH_TOKEN, split_bind
from smsapi.db import Database
from smsapi.deps import Deps
from smsapi.dispatch.engine import Dispatcher
from smsapi.errors import SmsapiError
from smsapi.log import configure_logging
from smsapi.plivo.simulator import Simulator
from smsapi.settings import Settings, read_settings
from smsapi.sms.prices import PriceList

_SENDER = "+14155550100"
_RECIPIENT = "+14155550123"
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
    state.mkdir(parents=True, exist_ok=True)
    memory = _remembered(state / "dev.json")
    database = Database(f"sqlite:///{(state / 'dev.db').resolve()}")
    migrations.upgrade(database)
    key = _demo_key(database, memory, state / "dev.json")
    configure_logging("warning")
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda _number, _frame: stop.set())
    with Simulator(auth_id=SIMULATOR_AUTH_ID, auth_token=SIMULATOR_AUTH_TOKEN, port=simulator_port) as plivo:
        app = create_app(
            _settings(plivo.url, memory["jwt_secret"], _public(host, port)), database=database, prices=_PRICES
        )
        server = _listen(host, port, app)
        _run(server, app, stop, lambda: _greet(_public(host, server.port), plivo.url, key, as_json=as_json))
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
    )


def _public(host: str, port: int) -> str:
    reached = "127.0.0.1" if host in {"0.0.0.0", "::"} else host
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def _listen(host: str, port: int, app: Flask) -> BaseWSGIServer:
    try:
        return make_server(host, port, app, threaded=True, request_handler=_Handler)
    except (OSError, SystemExit):
        raise SmsapiError(f"{host}:{port} cannot be listened on; is it taken? Use --bind HOST:PORT.") from None


def _run(server: BaseWSGIServer, app: Flask, stop: threading.Event, greet: Callable[[], None]) -> None:
    world: Deps = app.extensions["smsapi"]
    dispatcher = Dispatcher(world)
    dispatcher.start()
    serving = threading.Thread(target=server.serve_forever, name="smsapi-http")
    serving.start()
    try:
        greet()
        stop.wait()
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
        return {"jwt_secret": str(found["jwt_secret"]), "key": str(found["key"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"jwt_secret": secrets.token_urlsafe(32), "key": ""}


def _demo_key(database: Database, memory: dict[str, str], path: Path) -> str:
    presented = read_key(memory["key"])
    now = datetime.now(UTC)
    with database.transaction() as connection:
        if presented is not None and service.find_by_key(connection, now, presented) is not None:
            return memory["key"]
        client = service.any_client_named(connection, "demo") or service.create_client(connection, now, name="demo")
        scopes = ("messages:send", "messages:read", "keys", "admin")
        _, key = service.issue_key(connection, now, client_id=client.id, name="demo", live=True, scopes=scopes)
    path.touch(mode=0o600)
    path.write_text(json.dumps({**memory, "key": key}), encoding="utf-8")
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

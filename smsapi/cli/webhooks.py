"""``smsapi webhooks listen``: a receiver to try webhooks with, which verifies and prints what comes."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import click
import orjson

from smsapi.cli.addresses import split_bind
from smsapi.cli.calling import Answer, Service, address, exit_code, problem_lines
from smsapi.errors import SmsapiError
from smsapi.stopping import stop_signals
from smsapi.webhooks.signing import verify

_BIND: Final = "127.0.0.1:9000"
_ROUTE: Final = "/v1/webhook-endpoints"
_DESCRIPTION: Final = "smsapi webhooks listen"
# An event has at most 20,000 bytes.
_MOST_BYTES: Final = 1_000_000
_READ_SECONDS: Final = 10


@click.group()
def webhooks() -> None:
    """Try webhooks."""


@webhooks.command("listen")
@click.option("--bind", help=f"HOST:PORT to listen on. [default: {_BIND}, or any port where that is taken]")
@click.option(
    "--event", "events", multiple=True, default=("*",), show_default=True, help="As message.*; several times."
)
@click.option("--reached-at", help="The URL at which the service reaches this command; default: the address of --bind.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events; default: on Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON, and nothing else.")
@address
def listen(
    *,
    bind: str | None,
    events: tuple[str, ...],
    reached_at: str | None,
    count: int | None,
    as_json: bool,
    **service: str,
) -> None:
    """Make a webhook endpoint, print each event whose signature is right, and delete the endpoint at the end.

    With `smsapi dev` it works as it is. Another service must be able to reach this command: by https at a public
    address (--reached-at), or in a network of SMSAPI_WEBHOOK_ALLOW_NETWORKS. The exit codes are those of smsapi send.
    """
    server = _receiver(bind, count=count, as_json=as_json)
    # The signals are held before the endpoint is made, so that it is deleted whenever they come.
    with server, stop_signals() as wait:
        url = reached_at or server.url
        with _endpoint(Service(service["url"], service["token"]), url, events) as secret, server.receiving(secret):
            if not as_json:
                click.echo(f"Listening at {url}; Ctrl-C stops it.", err=True)
            wait()


def _receiver(bind: str | None, *, count: int | None, as_json: bool) -> "_Receiver":
    host, port = split_bind(bind or _BIND)
    try:
        return _Receiver(host, port, count=count, as_json=as_json)
    except SmsapiError:
        if bind is not None:
            raise
    return _Receiver(host, 0, count=count, as_json=as_json)


@contextmanager
def _endpoint(service: Service, url: str, events: tuple[str, ...]) -> Iterator[str]:
    """Make the endpoint and give its secret; delete it at the end. Exits where the service refuses."""
    listed = service.ask("GET", f"{_ROUTE}?limit=100", member="data")
    # What a killed one left behind.
    for each in listed.body.get("data", ()) if exit_code(listed, member="data") == 0 else ():
        if (each["url"], each["description"]) == (url, _DESCRIPTION):
            service.ask("DELETE", f"{_ROUTE}/{each['id']}")
    body = orjson.dumps({"url": url, "events": events, "description": _DESCRIPTION})
    made = service.ask("POST", _ROUTE, data=body, headers={"Content-Type": "application/json"}, member="secret")
    if (code := exit_code(made, member="secret")) != 0:
        _tell(made)
        sys.exit(code)
    try:
        yield made.body["secret"]
    finally:
        gone = service.ask("DELETE", f"{_ROUTE}/{made.body['id']}")
        if gone.status != 204:  # noqa: PLR2004
            _tell(gone)
            click.echo(f"smsapi webhooks listen: the endpoint {made.body['id']} was not deleted.", err=True)


def _tell(answer: Answer) -> None:
    for place, line in enumerate(problem_lines(answer)):
        click.echo(line if place else f"smsapi webhooks listen: {line}", err=True)


class _Receiver(ThreadingHTTPServer):
    """Listens as soon as it is made, and prints events between the start and the end of ``receiving``."""

    def __init__(self, host: str, port: int, *, count: int | None, as_json: bool) -> None:
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise SmsapiError(f"{host}:{port} cannot be listened on: {error.strerror}. Use --bind HOST:PORT.") from None
        self.url = f"http://{host}:{self.server_address[1]}/"
        self._left = count
        self._as_json = as_json
        self._lock = threading.Lock()
        self._secret = ""

    @contextmanager
    def receiving(self, secret: str) -> Iterator[None]:
        """Answer webhooks that this secret signs, on a thread, for the block."""
        self._secret = secret
        thread = threading.Thread(target=self.serve_forever, name="smsapi-webhooks")
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Print the event, and return the status to answer: 204, or 401 where the signature is wrong."""
        reason = verify(self._secret, headers, body, datetime.now(UTC))
        with self._lock:
            if reason is not None:
                click.echo(f"smsapi webhooks listen: refused a request: {reason}.", err=True)
                return 401
            if self._left == 0:
                # Not printed, so it must be told again.
                return 503
            click.echo(body if self._as_json else _line(orjson.loads(body)))
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGTERM)
        return 204


def _line(event: dict[str, Any]) -> str:
    test = " (test)" if event.get("test") else ""
    return f"{event['at']}  {event['type']}{test}  {event['id']}  signature ok  {orjson.dumps(event['data']).decode()}"


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver
    timeout = _READ_SECONDS

    def do_POST(self) -> None:
        """Answer one webhook."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            self._answer(411)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._answer(self.server.take(headers, self.rfile.read(int(length))))

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the library
        """Say nothing: what comes is printed by the receiver."""

"""A receiver of webhooks on a real socket, which answers as it is told and verifies with the official library."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import orjson
from standardwebhooks import Webhook


@dataclass(frozen=True)
class Delivery:
    """One POST as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return orjson.loads(self.body)

    def verified_by(self, secret: str) -> dict[str, Any]:
        """Return the payload where the official library takes it; it raises where it does not."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Listens on 127.0.0.1; ``answer`` gives the status, with headers where there are any, for each delivery."""

    answer: Callable[[Delivery], int | tuple[int, dict[str, str]]] = lambda _: 204
    asked: list[Delivery] = field(default_factory=list)
    taken: list[Delivery] = field(default_factory=list)

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    # Whoever sent it died on the way: nothing was told.
                    self.close_connection = True
                    return
                given = {name.lower(): value for name, value in self.headers.items()}
                receiver._reply(self, Delivery(self.path, given, body))

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, handler: BaseHTTPRequestHandler, delivery: Delivery) -> None:
        self.asked.append(delivery)
        said = self.answer(delivery)
        status, headers = said if isinstance(said, tuple) else (said, {})
        if 200 <= status < 300:
            self.taken.append(delivery)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?of=sms"

    def events(self) -> list[dict[str, Any]]:
        """Return the events that were taken, in the order in which they were."""
        return [each.event for each in self.taken]

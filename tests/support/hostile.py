"""A small server that misbehaves as it is told, and remembers what it was asked."""

import json
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TAKEN = {"id": "msg_" + "0" * 32, "status": "sent"}


@dataclass(frozen=True)
class Reply:
    """What is answered; ``status`` None is a connection that is reset once the request was read."""

    status: int | None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Hostile:
    """The server's address and the requests that came, each with its path, headers and body (as read, if JSON)."""

    url: str
    asked: list[tuple[str, dict[str, str], Any]]


@contextmanager
def hostile(replies: Sequence[Reply]) -> Iterator[Hostile]:
    """Answer with these replies, one a request; the last of them for ever.

    Its URL has a path that nobody else knows: what another test has left running may call whoever listened on this
    port before, and is no request of this test's.
    """
    asked: list[tuple[str, dict[str, str], Any]] = []
    base = f"/{secrets.token_hex(8)}"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            in_json = self.headers["Content-Type"] == "application/json"
            self.answer(json.loads(body) if in_json else body)

        def do_GET(self) -> None:
            self.answer(None)

        def answer(self, body: Any) -> None:
            if not self.path.startswith(base):
                self.send_error(404)
                return
            reply = replies[min(len(asked), len(replies) - 1)]
            asked.append((self.path.removeprefix(base), dict(self.headers), body))
            if reply.status is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Hostile(f"http://127.0.0.1:{server.server_port}{base}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""HTTP/1.1 over sockets: requests in, replies out, and the rude ways of not replying.

Only the standard library, one thread a connection. Replies are buffered and Nagle's algorithm is off: with either left
as it comes, header and body leave in two packets and the second waits some 40 ms for the peer's delayed ACK.
"""

import logging
import socket
import socketserver
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

MAXIMUM_BODY_BYTES = 4 * 1024 * 1024
_JOIN_SECONDS = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was read off the wire; of a repeated query key the last value counts."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str | None
    body: bytes
    peer: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to write."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


# None is no answer: the connection is reset.
Application = Callable[[Request], Reply | None]


def json_reply(status: int, content: object, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a reply with that content as JSON."""
    return Reply(status, orjson.dumps(content), headers={} if headers is None else headers)


class WireServer(socketserver.TCPServer):
    """A listening socket with a thread for each connection, all of which ``close`` ends.

    Not ThreadingHTTPServer: it looks its own host name up in DNS, and forgets daemon threads instead of joining them.
    Raises OSError where the address cannot be bound.
    """

    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], application: Application) -> None:
        super().__init__(address, _Conversation)
        self.application = application
        self.is_closing = False
        self._lock = Lock()
        self._open: dict[socket.socket, Thread] = {}
        # The poll only bounds how soon a stop is seen; connections wake the selector at once.
        self._acceptor = Thread(target=self.serve_forever, args=(0.02,), name="plivo-simulator-acceptor", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self._acceptor.start()

    def close(self) -> None:
        """Accept no more, let replies that are being written finish, and wait for every thread to end."""
        self.is_closing = True
        self.shutdown()
        self._acceptor.join(_JOIN_SECONDS)
        self.server_close()
        with self._lock:
            conversations = list(self._open.items())
        for connection, _ in conversations:
            # Reading only: an idle keep-alive connection wakes with an end of file, a busy one still writes its reply.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        for _, thread in conversations:
            thread.join(_JOIN_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the new connection a thread."""
        thread = Thread(
            target=self._converse, args=(request, client_address), name="plivo-simulator-connection", daemon=True
        )
        with self._lock:
            self._open[request] = thread
        thread.start()

    def _converse(self, connection: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(connection, client_address)
        except ConnectionError:
            logger.debug("simulator_client_left")
        except Exception:
            logger.exception("simulator_connection_failed")
        finally:
            self.shutdown_request(connection)
            with self._lock:
                del self._open[connection]


class _Conversation(BaseHTTPRequestHandler):
    """All requests of one keep-alive connection."""

    server: WireServer
    protocol_version = "HTTP/1.1"
    server_version = "plivo-simulator"
    sys_version = ""
    wbufsize = -1
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            return
        target = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=target.path,
            query=dict(parse_qsl(target.query, keep_blank_values=True)),
            authorization=self.headers.get("Authorization"),
            body=body,
            peer=str(self.client_address[0]),
        )
        reply = self.server.application(request)
        if reply is None:
            self._reset()
        else:
            self._write(reply)
        if self.server.is_closing:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that the standard library looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the overridden method's own name
        """Stay silent: a line for each request would be most of the work."""

    def _read_body(self) -> bytes | None:
        """Return the whole body, so that the next request starts where it should; None where it was refused."""
        if "Transfer-Encoding" in self.headers:
            self._refuse(411, "Content-Length is required")
            return None
        declared = self.headers.get("Content-Length", "0")
        if not (declared.isascii() and declared.isdigit()):
            self._refuse(400, "Content-Length is not a number")
            return None
        if int(declared) > MAXIMUM_BODY_BYTES:
            self._refuse(413, "request body is too large")
            return None
        body = self.rfile.read(int(declared))
        if len(body) < int(declared):
            raise ConnectionResetError("The client left in the middle of its request.")
        return body

    def _refuse(self, status: int, sentence: str) -> None:
        self.close_connection = True
        self._write(json_reply(status, {"error": sentence}, {"Connection": "close"}))

    def _write(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()

    def _reset(self) -> None:
        self.close_connection = True
        # Lingering for zero seconds makes the kernel send RST in place of an orderly FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

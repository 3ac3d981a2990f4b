"""gunicorn's thread worker, with two things mended that the threads of a small pool cannot do without.

A request has to arrive whole within a time: whoever sends it slowly would otherwise hold a thread for as long as he
likes. A long body that its view reads as it comes has to come at a pace instead. And what cannot be read as HTTP is
answered with a problem too.
"""

import io
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

import structlog
from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from smsapi.errors import MalformedRequest, SmsapiError
from smsapi.ids import new_id
from smsapi.log import get_logger
from smsapi.web.handlers import HeadersTooLarge, UriTooLong
from smsapi.web.problems import render

log = get_logger()

_LOOK_EVERY_SECONDS = 0.5
_READ_BYTES = 65_536
_SLOWEST_BYTES_PER_SECOND = 1024

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Arrivals:
    """The sockets whose request is still arriving; those that take too long are cut off, by a thread of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadlines: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def expect(self, sock: socket.socket, *, seconds: float = 0.0) -> None:
        """Give what comes on this socket its time, from now, and so many seconds more."""
        with self._lock:
            self._deadlines[sock] = time.monotonic() + self.seconds + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._cut_off_for_ever, name="smsapi-arrivals", daemon=True)
                self._thread.start()

    def arrived(self, sock: socket.socket) -> None:
        """Leave the socket alone: its request is here, or it is done with."""
        with self._lock:
            self._deadlines.pop(sock, None)

    def _cut_off_for_ever(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY_SECONDS)
            # The thread must live on, whatever is raised.
            with suppress(Exception):
                self._cut_off()

    def _cut_off(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [sock for sock, deadline in self._deadlines.items() if deadline <= now]
            for sock in late:
                del self._deadlines[sock]
                # The thread that reads from it sees the end of the stream, and is free.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        if late:
            log.warning("slow_requests_cut_off", count=len(late))


class Flowing:
    """A body that is read as it comes: each read has its time, and a read of much has longer.

    Whoever sends nothing for the arrivals' seconds is cut off, and so is who sends less than a kibibyte a second.
    """

    def __init__(self, stream: Any, sock: socket.socket, arrivals: Arrivals) -> None:
        self._stream = stream
        self._sock = sock
        self._arrivals = arrivals

    def read(self, size: int) -> bytes:
        """Return that many bytes, or fewer at the end.

        Raises:
            OSError: the sender was cut off or went away, or what it sent is no HTTP.

        """
        self._arrivals.expect(self._sock, seconds=size / _SLOWEST_BYTES_PER_SECOND)
        self._sock.settimeout(self._arrivals.seconds)
        try:
            piece: bytes = self._stream.read(size)
        except errors.ParseException as error:
            raise OSError("the body is no HTTP") from error
        finally:
            self._sock.settimeout(None)
            self._arrivals.arrived(self._sock)
        return piece


class Whole:
    """WSGI middleware that has the body here, up to the limit, before the app begins; the time for it is watched.

    Of the routes in ``flowing`` (method and path) the app reads the body itself.
    """

    def __init__(
        self,
        app: Wsgi,
        arrivals: Arrivals,
        *,
        limit: int,
        flowing: Collection[tuple[str, str]] = frozenset(),
    ) -> None:
        self._app = app
        self._arrivals = arrivals
        self._limit = limit
        self._flowing = flowing

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Call the app with the body at hand."""
        sock = environ.get("gunicorn.socket")
        if sock is not None and (environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")) in self._flowing:
            self._arrivals.arrived(sock)
            environ["wsgi.input"] = Flowing(environ["wsgi.input"], sock, self._arrivals)
            return self._app(environ, start_response)
        length = environ.get("CONTENT_LENGTH", "")
        # What says that it is too large is refused by the app without being read.
        if not length or int(length) <= self._limit:
            environ["wsgi.input"] = io.BytesIO(self._read(environ["wsgi.input"]))
            environ["wsgi.input_terminated"] = True
        if sock is not None:
            self._arrivals.arrived(sock)
        return self._app(environ, start_response)

    def _read(self, stream: Any) -> bytes:
        # One byte more than allowed is enough for the app to see that it is too much.
        found = bytearray()
        while len(found) <= self._limit and (more := stream.read(min(_READ_BYTES, self._limit + 1 - len(found)))):
            found += more
        return bytes(found)


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A thread worker that waits for slow senders, and only so long. ``arrivals`` is set by ``smsapi.serving``."""

    arrivals: Arrivals

    def handle(self, conn: Any) -> Any:
        """Handle a connection, from its first byte on against the clock."""
        # What this thread last logged for was another caller; and what cannot be read never gets as far as the app.
        structlog.contextvars.clear_contextvars()
        self.arrivals.expect(conn.sock)
        try:
            return super().handle(conn)
        finally:
            self.arrivals.arrived(conn.sock)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that cannot be read with a problem, and log that there was one, without its words."""
        structlog.contextvars.clear_contextvars()
        error = _problem_of(exc)
        if error is None:
            super().handle_error(req, client, addr, exc)
            return
        request_id = new_id().hex
        log.warning("invalid_request", request_id=request_id, kind=type(exc).__name__)
        answer = render(error, request_id)
        body = answer.body.encode()
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\nConnection: close\r\n"
            f"Content-Type: {answer.content_type}\r\nX-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with suppress(OSError):
            util.write_nonblock(client, head.encode("ascii") + body)


_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large"}


def _problem_of(exc: BaseException) -> SmsapiError | None:
    if isinstance(exc, errors.LimitRequestLine):
        return UriTooLong("Shorten the query.")
    if isinstance(exc, errors.LimitRequestHeaders):
        return HeadersTooLarge("Send fewer or shorter headers.")
    if isinstance(exc, errors.ParseException):
        return MalformedRequest("The request cannot be read as HTTP.")
    return None

"""gunicorn's thread worker, with some things mended that the threads of a small pool cannot do without.

A request has to arrive whole within a time, and its answer has to be read in time: whoever sends or reads slowly would
otherwise hold a thread for as long as he likes; who has sent nothing yet holds none. A long body that its view reads as
it comes has to come at a pace instead. And what cannot be read as HTTP is answered with a problem too.
"""

import io
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from smsapi.connections import AnsweringSocket, Lingering, Readers
from smsapi.errors import BodyIncomplete, BodyTooLarge, MalformedRequest, SmsapiError
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


class Held(io.RawIOBase):
    """A body of which so much is here. ``fault`` is raised where it is read on behind that; None: that is all of it."""

    def __init__(self, content: bytes, fault: SmsapiError | None) -> None:
        super().__init__()
        self._content = memoryview(content)
        self._at = 0
        self._fault = fault

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, into: Any) -> int:
        """Copy what comes next into the buffer, and return how many bytes that was; 0 at the end of a whole body.

        Raises:
            BodyIncomplete: the body was cut off on its way: what came may look whole, and must not be taken for it.
            BodyTooLarge: there is more of it than is held.

        """
        piece = self._content[self._at : self._at + len(into)]
        if not piece and self._fault is not None and len(into):
            raise self._fault
        into[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class Whole:
    """WSGI middleware that has the body here, up to the limit, before the app begins; the time for it is watched.

    A body that was cut off, or is longer than the limit, is an error for whoever reads it to its end, on any route.
    Where ``flows`` says so of a request (its WSGI environment), the app reads the body itself, as it comes.
    """

    def __init__(
        self,
        app: Wsgi,
        arrivals: Arrivals,
        *,
        limit: int,
        flows: Callable[[dict[str, Any]], bool] = lambda _environ: False,
    ) -> None:
        self._app = app
        self._arrivals = arrivals
        self._limit = limit
        self._flows = flows

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Call the app with the body at hand."""
        sock = environ.get("gunicorn.socket")
        if sock is not None and self._flows(environ):
            self._arrivals.arrived(sock)
            environ["wsgi.input"] = Flowing(environ["wsgi.input"], sock, self._arrivals)
            return self._app(environ, start_response)
        length = environ.get("CONTENT_LENGTH", "")
        # What says that it is too large is refused by the app without being read.
        if not length or int(length) <= self._limit:
            self._hold(environ, int(length) if length else None)
        if sock is not None:
            self._arrivals.arrived(sock)
        return self._app(environ, start_response)

    def _hold(self, environ: dict[str, Any], length: int | None) -> None:
        found, is_cut = self._read(environ["wsgi.input"])
        fault: SmsapiError | None = None
        if is_cut or (length is not None and len(found) < length):
            fault = BodyIncomplete("The body ended before its announced end.")
        elif len(found) > self._limit:
            fault = BodyTooLarge(f"The body is longer than {self._limit} bytes.")
        environ["wsgi.input"] = Held(found, fault)
        environ["wsgi.input_terminated"] = True
        if length is None and not is_cut and environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:
            # From here on it is a body like any other, which a route with a smaller limit refuses as it does those.
            environ["CONTENT_LENGTH"] = str(len(found))

    def _read(self, stream: Any) -> tuple[bytes, bool]:
        # One byte more than allowed is enough for the app to see that it is too much.
        found = bytearray()
        try:
            while len(found) <= self._limit and (more := stream.read(min(_READ_BYTES, self._limit + 1 - len(found)))):
                found += more
        except (errors.NoMoreData, errors.ChunkMissingTerminator):
            return bytes(found), True
        return bytes(found), False


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A thread worker that waits for slow callers, and only so long.

    ``arrivals`` and ``readers`` are set by ``smsapi.serving``.
    """

    arrivals: Arrivals
    readers: Readers

    def init_process(self) -> None:
        """Begin, after the fork."""
        self._lingering = Lingering()
        super().init_process()

    def enqueue_req(self, conn: Any) -> None:
        """Have a thread handle what came on a connection; one on which nothing has come yet waits without a thread."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.timeout = time.monotonic() + self.arrivals.seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))
        if self.nr_conns >= self.worker_connections and self.pending_conns[0] is not conn:
            # No more are taken from here on: whoever has been silent for the longest goes, but for the last to come.
            self.pending_conns[0].timeout = 0.0
            self.murder_pending()

    def _cap_keepalive(self, deadline: float) -> None:
        # A worker that ends waits no longer for those who never said anything than for those who have been answered.
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Go on with a connection, or close it; gunicorn's main thread would wait two seconds for each to be closed."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
            return
        self.nr_conns -= 1
        self._lingering.close(conn.sock)

    def handle(self, conn: Any) -> Any:
        """Handle a connection, from its first byte on against the clock, to the last of its answer."""
        # What this thread last logged for was another caller; and what cannot be read never gets as far as the app.
        structlog.contextvars.clear_contextvars()
        if not isinstance(conn.sock, AnsweringSocket):
            conn.sock = AnsweringSocket(conn.sock, self.readers)
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

"""Sockets that keep a deadline: what lies under ``transport``.

A read time-out alone only bounds the gap between two bytes, so a far side that sends one byte at a time can hold a
thread for as long as it likes. Here each wait on the socket is cut to what is left of the whole call.
"""

import http.client
import io
import socket
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from smsapi.clock import elapsed

# Longer than this without use and a connection is not trusted: routers forget idle flows without telling either end,
# and a request that is written into such a hole comes back as "unknown".
IDLE_SECONDS = 20.0


class AnswerTooLargeError(OSError):
    """The far side sent more than the call is ready to read."""


@dataclass(slots=True)
class Call:
    """One call on its way: how long it may still take, how much may still come, and whether it has left.

    ``deadline`` is of ``counter``, by default :func:`smsapi.clock.elapsed`: neither a clock that is set nor a host that
    is suspended must lengthen a call. ``left`` turns true before the first
    byte of the request's body is written; until then no far side can have acted on it. ``target`` is the request
    target as it goes on the wire.
    """

    deadline: float
    connect_seconds: float
    read_seconds: float
    bytes_left: int
    left: bool = False
    target: str | None = None
    counter: Callable[[], float] = elapsed

    def patience(self, seconds: float) -> float:
        """Return how long the next wait may be, at most ``seconds``; raises ``TimeoutError`` when time is up."""
        remaining = self.deadline - self.counter()
        if remaining <= 0:
            raise TimeoutError("the call's total time is up")
        return min(seconds, remaining)


# urllib3 passes nothing from a request down to its connection; a call stays on one thread from end to end.
current_call: ContextVar[Call] = ContextVar("plivo_call")
# When the next call of this thread must be over at the latest, of the transport's counter; infinite where nothing says.
over_by: ContextVar[float] = ContextVar("plivo_over_by", default=float("inf"))


class _DeadlineReader(io.RawIOBase):
    """Reads a socket, each time for no longer than the call has left."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._call = call
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._call.patience(self._call.read_seconds))
        count = self._raw.readinto(buffer)
        self._call.bytes_left -= count or 0
        if self._call.bytes_left < 0:
            raise AnswerTooLargeError("the answer is too large")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Readable:
    """As much of a socket as an ``http.client.HTTPResponse`` asks for."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._call = call

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock, self._call))


class _DeadlineResponse(http.client.HTTPResponse):
    """Reads status line, headers and body (and a proxy's answer to CONNECT) within the call's deadline."""

    def __init__(self, sock: socket.socket, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(_Readable(sock, current_call.get()), debuglevel, method)  # type: ignore[arg-type]


class DeadlineConnection(HTTPConnection):
    """A connection of which no step outlasts the current call."""

    response_class = _DeadlineResponse
    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        """Return whether the pool may use the connection again: the far side has not closed it, nor is it stale."""
        return super().is_connected and elapsed() - self._used_at < IDLE_SECONDS

    def addresses(self) -> Sequence[tuple[Any, ...]]:
        """Return the addresses to try in turn, as ``socket.getaddrinfo`` gives them, whose errors it raises."""
        return socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)

    def _new_conn(self) -> socket.socket:
        # urllib3's own gives every address of a name the full connect time-out, one after the other.
        call = current_call.get()
        give_up = elapsed() + call.connect_seconds
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in self.addresses():
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(call.patience(max(give_up - elapsed(), 0.001)))
                sock.connect(address)
                sock.settimeout(call.patience(call.connect_seconds))  # a TLS handshake as a whole keeps to this
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:  # noqa: FBT001, FBT002  # http.client's signature
        """Start the request for the call's own target; ``url`` is the masked one that urllib3 may log."""
        super().putrequest(method, current_call.get().target or url, skip_host, skip_accept_encoding)

    def endheaders(self, *arguments: Any, **keywords: Any) -> None:
        """Send the headers; from here on the request may have an effect."""
        super().endheaders(*arguments, **keywords)
        current_call.get().left = True

    def send(self, data: Any) -> None:
        """Write within the call's deadline."""
        if self.sock is not None:
            call = current_call.get()
            self.sock.settimeout(call.patience(call.read_seconds))
        super().send(data)
        self._used_at = elapsed()


class DeadlineTlsConnection(DeadlineConnection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = DeadlineConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = DeadlineTlsConnection


POOL_CLASSES = {"http": _Pool, "https": _TlsPool}

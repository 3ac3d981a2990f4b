"""Connections of callers who do not read or do not end: no thread of the server waits for them for long."""

import errno
import select
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final, NoReturn

from smsapi.log import get_logger

log = get_logger()

# An answer that is on its way stands still for no longer than the slowest round trip.
_STALLED_SECONDS: Final = 0.25
_QUICK_SECONDS: Final = 2.0
_SLOWEST_BYTES_PER_SECOND: Final = 16_384
_LINGER_SECONDS: Final = 2.0
_MOST_LINGERING: Final = 256
_MOST_DRAINED: Final = 65_536
_SAY_EVERY_SECONDS: Final = 1.0


class Readers:
    """How long callers may take to read what they asked for: ``seconds``, and more for a long answer.

    Only ``at_once`` of them may be slow at the same time: while they are, a further one who has not read on for a
    quarter of a second is cut off. So however many never read, most threads are free for others. Thread-safe.
    """

    def __init__(self, seconds: float, *, at_once: int) -> None:
        self.seconds = seconds
        self._slow = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._cut_off = 0
        self._said_at = float("-inf")

    def send(self, sock: "AnsweringSocket", content: memoryview) -> None:
        """Have the caller take all of it.

        Raises:
            BrokenPipeError: the caller was too slow, and the connection is shut.
            OSError: it is gone.

        """
        begun = time.monotonic()
        rest = content[sock.send_now(content) :]
        while rest:
            if time.monotonic() - begun > _QUICK_SECONDS or not sock.is_writable(_STALLED_SECONDS):
                break
            rest = rest[sock.send_now(rest) :]
        if rest:
            self._send_slowly(sock, rest, begun + self.seconds + len(content) / _SLOWEST_BYTES_PER_SECOND)

    def _send_slowly(self, sock: "AnsweringSocket", rest: memoryview, deadline: float) -> None:
        if not self._slow.acquire(blocking=False):
            self._cut(sock)
        try:
            while rest:
                if not sock.is_writable(deadline - time.monotonic()):
                    self._cut(sock)
                rest = rest[sock.send_now(rest) :]
        finally:
            self._slow.release()

    def _cut(self, sock: socket.socket) -> NoReturn:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._cut_off += 1
            count, now = self._cut_off, time.monotonic()
            if is_time := now - self._said_at >= _SAY_EVERY_SECONDS:
                self._said_at, self._cut_off = now, 0
        if is_time:
            log.warning("slow_readers_cut_off", count=count)
        raise BrokenPipeError(errno.EPIPE, "the caller does not read its answer")


class AnsweringSocket(socket.socket):
    """A connection whose answers have to be read in time. It takes the place of the socket that it is made of."""

    def __init__(self, sock: socket.socket, readers: Readers) -> None:
        timeout = sock.gettimeout()
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.settimeout(timeout)
        self._readers = readers

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of it, as :meth:`Readers.send` does; a socket that does not block sends as ever."""
        if self.gettimeout() == 0:
            super().sendall(data, flags)
        else:
            self._readers.send(self, memoryview(data).cast("B"))

    def send_now(self, content: memoryview) -> int:
        """Send what goes out without waiting; return how many bytes that was."""
        try:
            return self.send(content, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def is_writable(self, seconds: float) -> bool:
        """Wait until more goes out, or the connection has failed; return False where neither is so in the time."""
        poll = select.poll()
        poll.register(self, select.POLLOUT)
        return bool(poll.poll(max(0.0, seconds) * 1000))


class Lingering:
    """Closes connections whose answer is out, each once its caller has seen it or two seconds later.

    A caller who is still sending would lose the end of its answer if the connection were closed at once (RFC 9112
    section 9.6). All of them wait in one thread of their own; where there are too many, the first is closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: deque[socket.socket] = deque()
        self._woken, self._wake = socket.socketpair()
        self._woken.settimeout(0)
        self._wake.settimeout(0)
        self._thread: threading.Thread | None = None

    def close(self, sock: socket.socket) -> None:
        """Close the connection in a while; it is nobody else's any more."""
        try:
            sock.settimeout(0)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        with self._lock:
            self._new.append(sock)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="smsapi-lingering", daemon=True)
                self._thread.start()
        with suppress(OSError):
            self._wake.send(b"\0")

    def _run(self) -> None:
        # By connection: until when it stays, and how much has been read of it.
        waiting: dict[socket.socket, tuple[float, int]] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                first = next(iter(waiting.values()), None)
                timeout = None if first is None else max(0.0, first[0] - time.monotonic())
                ready = [key.fileobj for key, _ in selector.select(timeout)]
                over = [sock for sock in waiting if sock in ready and _drained(sock, waiting)]
                now = time.monotonic()
                over += [sock for sock, (until, _) in waiting.items() if until <= now and sock not in over]
                self._take_in(selector, waiting)
                over += [sock for sock in list(waiting)[: max(0, len(waiting) - _MOST_LINGERING)] if sock not in over]
                for sock in over:
                    del waiting[sock]
                    selector.unregister(sock)
                    sock.close()

    def _take_in(self, selector: selectors.BaseSelector, waiting: dict[socket.socket, tuple[float, int]]) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        with self._lock:
            new, self._new = self._new, deque()
        for sock in new:
            waiting[sock] = (time.monotonic() + _LINGER_SECONDS, 0)
            selector.register(sock, selectors.EVENT_READ)


def _drained(sock: socket.socket, waiting: dict[socket.socket, tuple[float, int]]) -> bool:
    """Read what the caller still sent, and forget it; return whether that was all, or enough."""
    until, count = waiting[sock]
    try:
        found = len(sock.recv(4096))
    except BlockingIOError:
        return False
    except OSError:
        return True
    waiting[sock] = (until, count + found)
    return found == 0 or count + found >= _MOST_DRAINED

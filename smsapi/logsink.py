"""Log sink: writes whole lines to stderr, never raises, never blocks for long, and counts the lines that it dropped.

A log that cannot be written (its reader is gone, the disk is full, nobody reads) must not decide about a message, a
request or a thread. The counts are those of this process.
"""

import errno
import fcntl
import os
import select
import stat
import struct
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TextIO

# Waited for a reader that does not read; once in vain, no further line waits until one could be written again.
_PATIENCE_SECONDS: Final = 1.0
# What poll(2) calls writable takes this much without blocking: of a pipe a page, of a socket well under its buffer.
_PIPE_PIECE: Final = 4096
_SOCKET_PIECE: Final = 32_768


@dataclass(frozen=True, slots=True)
class LogTrouble:
    """Lines that this process dropped, and why the last one was; ``reason`` is None once a line is written again."""

    dropped: int
    reason: str | None


class _Tally:
    """Thread-safe count of the dropped lines of this process."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may log while the thread that it interrupts is at it.
        self._lock = threading.RLock()
        self._dropped = 0
        self._reason: str | None = None
        self._counter: Callable[[int], None] | None = None

    def add(self, reason: str) -> None:
        with self._lock:
            self._dropped += 1
            self._reason = reason
            counter = self._counter
        if counter is not None:
            counter(1)

    def written(self) -> None:
        if self._reason is not None:
            self._reason = None

    def tell(self, counter: Callable[[int], None]) -> None:
        with self._lock:
            dropped, self._counter = self._dropped, counter
        if dropped:
            counter(dropped)

    def read(self) -> LogTrouble:
        with self._lock:
            return LogTrouble(self._dropped, self._reason)


_tally = _Tally()


def count_dropped(error: BaseException) -> None:
    """Count a line that could not be made or written."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else ""
    _tally.add(f"{type(error).__name__}: {said}" if said else type(error).__name__)


def count_dropped_with(counter: Callable[[int], None]) -> None:
    """Have each dropped line counted by this too, with those that were dropped before; it must not raise."""
    _tally.tell(counter)


def read_log_trouble() -> LogTrouble:
    """Return how many lines this process dropped, and why the last of its lines was."""
    return _tally.read()


class LogSink:
    """Thread-safe. ``stream`` is None where the process was started without a stderr: every line is then dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        # Reentrant, for the same reason as above.
        self._lock = threading.RLock()
        self._fd = _descriptor_of(stream)
        self._is_pipe = self._fd is not None and stat.S_ISFIFO(_mode_of(self._fd))
        self._piece = 0 if self._fd is None else _piece_of(self._fd)
        self._poll = select.poll()
        if self._fd is not None:
            self._poll.register(self._fd, select.POLLOUT)
        self._is_stuck = False
        self._is_torn = False

    def write(self, line: str) -> None:
        """Write the line, or drop and count it; it waits a second at most for a reader that does not read."""
        try:
            with self._lock:
                self._put(line)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody who logs can do anything about it
            count_dropped(error)
        else:
            _tally.written()

    # The names by which structlog calls it.
    debug = info = warning = error = critical = write

    def _put(self, line: str) -> None:
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._fd is None:
            self._stream.write(f"{line}\n")
            self._stream.flush()
            return
        # What was cut off in the middle spoils one line and not the next one too.
        data = f"{line}\n".encode(errors="backslashreplace")
        self._send(self._fd, b"\n" + data if self._is_torn else data)

    def _send(self, fd: int, data: bytes) -> None:
        until = time.monotonic() + (0.0 if self._is_stuck else _PATIENCE_SECONDS)
        size, left = self._piece or len(data), memoryview(data)
        if self._is_pipe and len(data) > size and _fits_into_pipe(fd, len(data)):
            # In one go, or the lines of other processes that share the pipe come between.
            size = len(data)
        while left:
            # In milliseconds. A pipe without a reader is ready as well: writing to it says what is wrong.
            if not self._poll.poll(max(0.0, until - time.monotonic()) * 1000):
                self._is_stuck = True
                raise TimeoutError(errno.ETIMEDOUT, "nobody reads the log")
            written = os.write(fd, left[:size])
            left = left[written:]
            self._is_torn = bool(left)
        self._is_stuck = False


def _descriptor_of(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None  # it is kept in memory, or closed


def _mode_of(fd: int) -> int:
    try:
        return os.fstat(fd).st_mode
    except OSError:
        return 0


def _piece_of(fd: int) -> int:
    """Return how many bytes are written at a time, so that writing cannot block; 0: all, where it never does."""
    mode = _mode_of(fd)
    if stat.S_ISSOCK(mode):
        return _SOCKET_PIECE
    return _PIPE_PIECE if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) else 0


def _fits_into_pipe(fd: int, size: int) -> bool:
    try:
        pages = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) // _PIPE_PIECE
        unread: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    except OSError:
        return False
    # Two pages that follow each other hold more than one page's worth: what is smaller is put together (pipe(7)).
    used = 2 * (unread // _PIPE_PIECE + 1)
    return bool(size <= (pages - used) * _PIPE_PIECE)

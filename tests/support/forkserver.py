"""Commands of ours as processes that are forked from one which has loaded the libraries: two thirds of their start.

Each is a process of its own, in a session of its own, with the environment, the directory and the three streams that it
is given. It loads all of ``smsapi`` anew, and every library that reads the environment while it is loaded. What a test
says of the start itself, of imports or of the interpreter's options needs a real start: :data:`SMSAPI`.

``python -m tests.support.forkserver`` reads orders from the socket that is its standard input, and ends with it.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, NoReturn

SMSAPI: Final = (sys.executable, "-P", "-m", "smsapi")
_ROOT: Final = Path(__file__).parents[2]
# Not those that read the environment while they are loaded: prometheus_client, dramatiq.
_LIBRARIES: Final = (
    "alembic.context",
    "alembic.ddl",
    "apispec.ext.marshmallow",
    "click",
    "flask",
    "flask_jwt_extended",
    "flask_limiter",
    "gunicorn.app.wsgiapp",
    "gunicorn.workers.gthread",
    "limits.storage",
    "marshmallow",
    "orjson",
    "phonenumbers",
    "plivo",
    "psycopg",
    "redis",
    "requests",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "structlog",
    "uuid_utils",
    "yaml",
)
_HEADER: Final = struct.Struct("<I")
_ENDED: Final = struct.Struct("<i")


class Forked:
    """A command that runs; as much of ``subprocess.Popen`` as tests need."""

    def __init__(self, arguments: Sequence[str], pid: int, ended: int) -> None:
        self.args = arguments
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Return how it ended, as ``subprocess`` says it, or None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raise ``subprocess.TimeoutExpired`` where it takes longer."""
        found = self._look(timeout)
        if found is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return found

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], seconds)[0]:
            told = os.read(self._ended, _ENDED.size)
            os.close(self._ended)
            assert told, f"what forks commands ended before {self.args}"
            (self.returncode,) = _ENDED.unpack(told)
        return self.returncode


class ForkServer:
    """Starts commands. One for each process that runs tests: :func:`launch`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.support.forkserver"],
                stdin=theirs.fileno(),
                env={name: value for name, value in os.environ.items() if name == "PATH"} | {"PYTHONPATH": str(_ROOT)},
                start_new_session=True,
            )

    def launch(
        self, arguments: Sequence[str], environ: dict[str, str], *, stdin: int, stdout: int, stderr: int
    ) -> Forked:
        """Start ``smsapi`` with these arguments; the descriptors stay the caller's."""
        ended, tell = os.pipe()
        order = json.dumps({"arguments": [*arguments], "environ": environ, "cwd": str(Path.cwd())}).encode()
        try:
            with self._lock:
                socket.send_fds(self._socket, [_HEADER.pack(len(order))], [stdin, stdout, stderr, tell])
                self._socket.sendall(order)
                told = self._socket.recv(_ENDED.size, socket.MSG_WAITALL)
        finally:
            os.close(tell)
        assert told, "what forks commands is gone"
        return Forked(arguments, _ENDED.unpack(told)[0], ended)

    def close(self) -> None:
        """End it, and with it whatever it started that still runs."""
        self._socket.close()
        self._process.wait(10)


_server: list[ForkServer] = []


def launch(
    arguments: Sequence[str],
    environ: dict[str, str],
    *,
    stdin: int | IO[Any],
    stdout: int | IO[Any],
    stderr: int | IO[Any],
) -> Forked:
    """Start ``smsapi`` with these arguments and streams, as a process of its own in a session of its own."""
    if not _server:
        _server.append(ForkServer())
        atexit.register(_server[0].close)
    fds = [stream if isinstance(stream, int) else stream.fileno() for stream in (stdin, stdout, stderr)]
    return _server[0].launch(arguments, environ, stdin=fds[0], stdout=fds[1], stderr=fds[2])


def run_to_end(
    arguments: Sequence[str], environ: dict[str, str], *, stdin: bytes = b"", timeout: float = 60
) -> subprocess.CompletedProcess[bytes]:
    """Run ``smsapi`` with these arguments to its end, its input a pipe; what it writes goes to files."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        reading, writing = os.pipe()
        try:
            running = launch(arguments, environ, stdin=reading, stdout=out, stderr=err)
        finally:
            os.close(reading)
        feeder = threading.Thread(target=_feed, args=(writing, stdin))
        feeder.start()
        try:
            code = running.wait(timeout)
        finally:
            running.kill()
            feeder.join()
        return subprocess.CompletedProcess([*arguments], code, _whole(out), _whole(err))


def _feed(fd: int, content: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(fd, "wb") as pipe:
        pipe.write(content)


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _serve(control: socket.socket) -> Callable[[], None]:
    """Fork for each order, and tell of each end; return what a child is to do. The server itself never returns."""
    ends: dict[int, int] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 1024)
            _reap(ends)
        if control not in ready:
            continue
        header, fds, _, _ = socket.recv_fds(control, _HEADER.size, 4)
        if not header:
            _end(ends)
        order = json.loads(control.recv(_HEADER.unpack(header)[0], socket.MSG_WAITALL))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for fd in (woken, wake, *ends.values()):
                os.close(fd)
            control.close()
            return lambda: _become(order, fds)
        for fd in fds[:3]:
            os.close(fd)
        ends[pid] = fds[3]
        control.sendall(_ENDED.pack(pid))


def _reap(ends: dict[int, int]) -> None:
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with suppress(BrokenPipeError):
            os.write(ends[pid], _ENDED.pack(os.waitstatus_to_exitcode(status)))
        os.close(ends.pop(pid))


def _end(ends: dict[int, int]) -> NoReturn:
    for pid in ends:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _become(order: dict[str, Any], fds: Sequence[int]) -> None:
    os.setsid()
    for place, fd in enumerate(fds[:3]):
        os.dup2(fd, place)
    for fd in fds:
        os.close(fd)
    for number in (signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environ"])
    if os.environ.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    # `smsapi serve` becomes another program of the same interpreter: it would load all libraries again.
    os.execv = lambda _path, argv: _run(argv[3], argv[4:])  # type: ignore[assignment]
    _run("smsapi", order["arguments"])


def _run(module: str, arguments: Sequence[str]) -> NoReturn:
    sys.argv = ["smsapi", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def main() -> None:
    """Load the libraries, and serve."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    reads_environment = {"smsapi", "prometheus_client", "dramatiq"} & sys.modules.keys()
    assert not reads_environment, reads_environment
    gc.freeze()
    become = _serve(socket.socket(fileno=os.dup(0)))
    become()


if __name__ == "__main__":
    main()

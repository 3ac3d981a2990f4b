"""A service that dies by SIGKILL at a named point: API and dispatcher in one process, on a port.

``python -m tests.support.dying PORT`` reads lines from its standard input: a point and at which passing of it to die
(``call.before 1``), or ``- 0`` to live. For each line it forks a process that serves, with the settings of the
environment, and writes ``-9`` or whatever else that process ended with. Forked and not started, since loading all the
code takes longer than all else: nothing is opened before the fork. With the end of its input all of it ends.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from select import select
from typing import Self

from werkzeug.serving import make_server

from smsapi.app import create_app
from smsapi.dispatch.engine import Dispatcher
from smsapi.log import configure_logging
from smsapi.settings import read_settings

LIVE = "-"
_SECONDS_TO_DIE = 60.0


def hold_port(port: int) -> socket.socket:
    """Keep a port from being given to others while what listens on it is dead; close what comes back to let it go."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", port))
    return held


class Mortal:
    """The service as the test sees it; a context manager that leaves nothing behind."""

    def __init__(self, environ: dict[str, str], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._told = LIVE
        self._port = hold_port(port)
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.dying", str(port)],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_SECONDS_TO_DIE)
        self._process.stdout.close()
        self._port.close()

    def live(self, point: str = LIVE, passing: int = 0) -> None:
        """Serve until that point is passed so many times."""
        assert self._process.stdin is not None
        self._told = f"{point} {passing}"
        self._process.stdin.write(f"{self._told}\n".encode())
        self._process.stdin.flush()

    def death(self) -> int:
        """Wait for the end of what was told to live; return minus the signal that ended it, or its exit code."""
        assert self._process.stdout is not None
        ready, _, _ = select([self._process.stdout], [], [], _SECONDS_TO_DIE)
        assert ready, f"no death at {self._told} in {_SECONDS_TO_DIE:.0f} s: {self.said()}"
        line = self._process.stdout.readline()
        assert line, self.said()
        return int(line)

    def is_dead(self) -> bool:
        """Say whether what was told to live has ended; :meth:`death` tells how."""
        return bool(select([self._process.stdout], [], [], 0)[0])

    def said(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-4000:]


def _die_at(point: str, passing: int) -> Callable[[str], None]:
    passed = itertools.count(1)

    def checkpoint(name: str) -> None:
        # Only the iterator counts: it is one step, whichever thread asks.
        if name == point and next(passed) == passing:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


def _serve(port: int, point: str, passing: int) -> None:
    # An end of the input is the end of whoever wanted this to run.
    threading.Thread(target=lambda: os._exit(len(os.read(0, 1))), daemon=True).start()
    app = create_app(read_settings(), checkpoint=_die_at(point, passing))
    Dispatcher(app.extensions["smsapi"]).start()
    server = make_server("127.0.0.1", port, app, threaded=True)
    server.daemon_threads = True
    server.serve_forever()


def main(port: int) -> None:
    """Serve once for each line of the input."""
    configure_logging("warning")
    for line in sys.stdin:
        point, passing = line.split()
        child = os.fork()
        if child == 0:
            _serve(port, point, int(passing))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))

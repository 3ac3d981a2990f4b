"""Processes of a test: whether one runs, how to freeze it with its children, and a guard that outlives the test.

A server that a test process starts must not outlive it, however that process ends. An exit handler does not run under
SIGKILL, so each server has a guard: this file as a program of its own, which reads a pipe from the test process, and
which ends the server and removes its directory when the pipe closes.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.02
GUARD_PATIENCE_SECONDS = 10.0


def is_running(pid: int) -> bool:
    """Tell whether there is such a process; one that is dead and not yet reaped does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):
        return _stat(pid)[0] != "Z"
    return True


def freeze(pid: int) -> list[int]:
    """Stop a process and its descendants with SIGSTOP and return their ids, the process itself first."""
    # The parent goes first, so that it cannot start another child between the look and the signal.
    send_signal(pid, signal.SIGSTOP)
    family = [pid]
    for member in family:
        for child in _children(member):
            send_signal(child, signal.SIGSTOP)
            family.append(child)
    return family


def thaw(pid: int) -> None:
    """Let a process and its descendants go on with SIGCONT, the children first."""
    for child in _children(pid):
        thaw(child)
    send_signal(pid, signal.SIGCONT)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send the signal; a process that is gone already is no error."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again until the condition holds; ``False`` when it does not within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


class Guard:
    """Ends a server and removes its directory once this process is gone, or once ``release`` is called.

    ``end`` is the signal that the server gets first; SIGKILL follows after 10 seconds.
    """

    def __init__(self, directory: Path, end: signal.Signals) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(directory), str(int(end))],
            stdin=subprocess.PIPE,
            # Ctrl-C in a terminal goes to the whole group; the guard must be there after it.
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """Name the process to end; 0 is none."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.write(b"%d\n" % pid)
            self._process.stdin.flush()

    def release(self) -> None:
        """Let the guard do its work now, and wait for it."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(GUARD_PATIENCE_SECONDS * 3)


def _stat(pid: int) -> tuple[str, int]:
    # The name in parentheses may itself hold spaces and parentheses: what follows the last one is regular (proc(5)).
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)


def _children(pid: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = _stat(int(entry.name))
            if parent == pid and state != "Z":
                yield int(entry.name)


def _stand_guard(directory: Path, end: signal.Signals) -> None:
    pid = 0
    for line in sys.stdin:
        pid = int(line)
    if pid:
        thaw(pid)
        send_signal(pid, end)
        if not wait_until(lambda: not is_running(pid), GUARD_PATIENCE_SECONDS):
            for member in freeze(pid):
                send_signal(member, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _stand_guard(Path(sys.argv[1]), signal.Signals(int(sys.argv[2])))

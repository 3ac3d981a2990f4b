"""PostgreSQL and Redis for a test session: real servers on 127.0.0.1, in temporary directories.

Only the standard library is used, so that the Makefile can ask ``python3 -m tests.services missing`` before there is a
virtual environment. A server never outlives the process that started it: see ``Guard``.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.processes import Guard, freeze, is_running, send_signal, thaw, wait_until

START_SECONDS = 30.0
STOP_SECONDS = 10.0
PORT_TRIES = 5

DATABASE_URL_VARIABLE = "SMSAPI_TEST_DATABASE_URL"
REDIS_URL_VARIABLE = "SMSAPI_TEST_REDIS_URL"
DURABLE_VARIABLE = "SMSAPI_TEST_DURABLE"


class ServiceError(Exception):
    """A server is not installed, did not start, or did not end; the message carries the tail of its log."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account that a server runs as; ``None`` is the one of this process."""

    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes one kind of server: its command, how to tell that it answers, and how it is told to end.

    ``answers`` gets directory, port and process id, and must not be fooled by somebody else's server on that port, for
    tests empty what they are given. ``halt`` is the signal that keeps the data, ``end`` the quickest one.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    url: Callable[[int], str]
    answers: Callable[[Path, int, int], bool]
    halt: signal.Signals
    end: signal.Signals
    account: Account


class Service:
    """One running server with a directory of its own; a context manager that stops it.

    After ``stop`` it is gone for good, with its directory. ``kill``, ``start``, ``restart``, ``pause`` and ``resume``
    keep the port and the data directory. Not for use from several threads at once.
    """

    def __init__(self, recipe: Recipe, directory: Path, port: int) -> None:
        self._recipe = recipe
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = Guard(directory, recipe.end)
        self.port = port

    @property
    def url(self) -> str:
        """Return what a client connects to."""
        return self._recipe.url(self.port)

    @property
    def pid(self) -> int | None:
        """Return the process id of the server, ``None`` while there is none."""
        return self._process.pid if self._process else None

    @property
    def directory(self) -> Path:
        """Return the directory of its data and its log."""
        return self._directory

    def start(self) -> None:
        """Start the server on its port and wait until it answers; does nothing while it runs.

        Raises ServiceError when it ends early or does not answer within 30 seconds.
        """
        if self._process:
            return
        account = self._recipe.account
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._recipe.command(self._directory, self.port),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C in a terminal must reach pytest, which then stops the server in order.
                start_new_session=True,
                user=account.uid,
                group=account.gid,
                extra_groups=None if account.uid is None else [],
            )
        self._guard.watch(self._process.pid)
        process = self._process
        if not wait_until(
            lambda: process.poll() is not None or self._recipe.answers(self._directory, self.port, process.pid),
            START_SECONDS,
        ):
            self.kill()
            raise ServiceError(f"{self._recipe.name} did not answer in {START_SECONDS:.0f} s: {self._log_tail()}")
        if process.poll() is not None:
            self._forget()
            raise ServiceError(f"{self._recipe.name} ended at once: {self._log_tail()}")

    def kill(self) -> None:
        """End the server and all its children with SIGKILL, as a crash of the machine would, and keep its data."""
        if not self._process:
            return
        family = freeze(self._process.pid)
        for pid in family:
            send_signal(pid, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        # PostgreSQL refuses to start again while a child of the dead postmaster still holds the shared memory.
        if not wait_until(lambda: not any(is_running(pid) for pid in family), STOP_SECONDS):
            raise ServiceError(f"{self._recipe.name} left processes behind: {family}")
        self._forget()

    def restart(self) -> None:
        """End the server in order, keeping its data, and start it again."""
        self._halt(self._recipe.halt)
        self.start()

    def pause(self) -> None:
        """Freeze the server with SIGSTOP: connections stay open and nothing answers, as in a network partition."""
        if self._process:
            freeze(self._process.pid)

    def resume(self) -> None:
        """Let a paused server go on."""
        if self._process:
            thaw(self._process.pid)

    def stop(self) -> None:
        """End the server and its guard and remove the directory; a second call does nothing."""
        self._halt(self._recipe.end)
        self._guard.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _halt(self, how: signal.Signals) -> None:
        if not self._process:
            return
        thaw(self._process.pid)
        send_signal(self._process.pid, how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget()

    def _forget(self) -> None:
        self._process = None
        self._guard.watch(0)

    def _log_tail(self) -> str:
        log = self._directory / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "no log"


def start_postgres(port: int | None = None, *, durable: bool | None = None, autovacuum: bool = True) -> Service:
    """Make a fresh PostgreSQL cluster and start it; its URL is for SQLAlchemy with psycopg.

    Without ``autovacuum`` what it knows of the tables, and with it its plans, does not hang on what ran before.
    ``durable`` leaves fsync on; the default is the variable SMSAPI_TEST_DURABLE (``1`` is on). Without it a killed
    *server* still keeps every commit, for the kernel has them; only a crash of the machine would lose some.
    Raises ServiceError when PostgreSQL is not installed or does not start.
    """
    fsync = os.environ.get(DURABLE_VARIABLE) == "1" if durable is None else durable
    initdb = _require("initdb", "postgresql")
    account = _postgres_account()
    return _started(
        _postgres_recipe(initdb.resolve().parent, account, fsync=fsync, autovacuum=autovacuum),
        port,
        lambda at: _initdb(initdb, at, account),
    )


def start_redis(port: int | None = None) -> Service:
    """Start an empty Redis that writes nothing to disk: ``kill`` and ``restart`` lose what it held.

    Raises ServiceError when Redis is not installed or does not start.
    """
    server = _require("redis-server", "redis-server")

    def command(directory: Path, port: int) -> list[str]:
        where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
        return [str(server), *where, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    recipe = Recipe(
        name="redis-server",
        command=command,
        url=lambda port: f"redis://127.0.0.1:{port}/0",
        answers=_redis_answers,
        halt=signal.SIGTERM,
        end=signal.SIGTERM,
        account=Account(),
    )
    return _started(recipe, port, lambda _: None)


def missing_packages() -> list[str]:
    """Return the Debian packages to install before the tests can run, given the tools and URLs at hand."""
    wanted = (
        ("initdb", "postgresql", DATABASE_URL_VARIABLE),
        ("redis-server", "redis-server", REDIS_URL_VARIABLE),
        # The benchmarks load a server with it; no server elsewhere stands in for it.
        ("wrk", "wrk", None),
    )
    return [package for tool, package, url in wanted if not (url and os.environ.get(url)) and find_tool(tool) is None]


def helpful_packages() -> list[str]:
    """Return the Debian packages without which a few tests are left out: promtool tries the alert rules."""
    return ["prometheus"] if find_tool("promtool") is None else []


def find_tool(name: str) -> Path | None:
    """Return the program: from Debian's newest PostgreSQL, which keeps its servers off the PATH, or from the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which(name)
    if installed:
        return installed[-1]
    return Path(on_path) if on_path else None


def _started(recipe: Recipe, port: int | None, prepare: Callable[[Path], None]) -> Service:
    directory = Path(tempfile.mkdtemp(prefix=f"smsapi-{recipe.name}-"))
    service = Service(recipe, directory, port or _free_port())
    try:
        prepare(directory)
        for tries_left in reversed(range(PORT_TRIES)):
            try:
                service.start()
                break
            except ServiceError:
                # Somebody may have taken the free port between the look and the start.
                if port or not tries_left:
                    raise
                service.port = _free_port()
    except BaseException:
        service.stop()
        raise
    return service


def _postgres_recipe(binaries: Path, account: Account, *, fsync: bool, autovacuum: bool) -> Recipe:
    settings = {
        "listen_addresses": "127.0.0.1",
        # No Unix socket: its path would have to fit in 107 bytes, and a long TMPDIR breaks that.
        "unix_socket_directories": "",
        "max_connections": "200",
        "timezone": "UTC",
        "fsync": "on" if fsync else "off",
        "autovacuum": "on" if autovacuum else "off",
        # Left on although off is faster: off loses acknowledged commits when the server is killed, and tests kill it.
        "synchronous_commit": "on",
    }

    def command(directory: Path, port: int) -> list[str]:
        chosen = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(binaries / "postgres"), "-D", str(directory / "data"), "-p", str(port), *chosen]

    return Recipe(
        name="postgresql",
        command=command,
        url=lambda port: f"postgresql+psycopg://smsapi@127.0.0.1:{port}/postgres",
        answers=_postgres_answers,
        halt=signal.SIGINT,
        end=signal.SIGQUIT,
        account=account,
    )


def _initdb(initdb: Path, directory: Path, account: Account) -> None:
    if account.uid is not None and account.gid is not None:
        os.chown(directory, account.uid, account.gid)
    options = ["--username=smsapi", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    made = subprocess.run(
        [str(initdb), *options, "-D", str(directory / "data")],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        user=account.uid,
        group=account.gid,
        extra_groups=None if account.uid is None else [],
    )
    if made.returncode:
        raise ServiceError(f"initdb failed: {made.stderr.strip()[-2000:]}")


def _postgres_account() -> Account:
    # initdb and postgres refuse to run as root; Debian's package makes the user `postgres`.
    if os.geteuid() != 0:
        return Account()
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise ServiceError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as")


def _postgres_answers(directory: Path, _port: int, pid: int) -> bool:
    # The lock file says whose it is in its first line and, in its eighth, whether connections are taken (pidfile.h).
    with suppress(OSError):
        lines = (directory / "data" / "postmaster.pid").read_text().splitlines()
        return lines[:1] == [str(pid)] and [line.strip() for line in lines[7:8]] == ["ready"]
    return False


def _redis_answers(_directory: Path, port: int, pid: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"INFO server\r\n")
        return f"process_id:{pid}\r\n".encode() in connection.recv(65536)
    return False


def _require(tool: str, package: str) -> Path:
    found = find_tool(tool)
    if found is None:
        raise ServiceError(f"{tool} is not installed: apt-get install {package}")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: list[str]) -> int:
    """Print the Debian packages that the tests lack: ``missing`` or ``helpful`` ones; 2 on anything else."""
    asked = {("missing",): missing_packages, ("helpful",): helpful_packages}.get(tuple(arguments))
    if asked is None:
        sys.stderr.write("usage: python3 -m tests.services missing|helpful\n")
        return 2
    sys.stdout.write(" ".join(asked()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

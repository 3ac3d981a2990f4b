"""State of the demo (``smsapi dev``), and how the operator's commands find a demo that runs beside them.

A command uses the demo where all of this holds, and else the settings of the environment, as in production:

1. No setting of the service is set, neither as ``NAME`` nor as ``NAME_FILE``.
2. The default database, ``smsapi.db`` in the working directory, is not there or has no table.
3. ``var/dev.json`` in the working directory belongs to the user, and a running ``smsapi dev`` holds its lock.

``smsapi serve``, ``smsapi worker`` and ``smsapi db upgrade`` never use it.
"""

import fcntl
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import click
from sqlalchemy.engine import make_url

from smsapi.settings import Settings, read_settings

STATE: Final = Path("var")
SIMULATOR_AUTH_ID: Final = "MASIMULATOR000000000"
SIMULATOR_AUTH_TOKEN: Final = "simulator-token"  # noqa: S105 - it opens the simulator and nothing else
SENDER: Final = "+14155550100"
_REMEMBERED: Final = "dev.json"
_SECRET_LENGTH: Final = 32
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_ANY_PORT: Final = ((1, 65_535),)
_FOUND: Final = "smsapi.demo"


@dataclass(frozen=True, slots=True)
class Memory:
    """What ``dev.json`` holds: secrets that outlive a restart, so that a pasted key goes on working, and addresses."""

    jwt_secret: str = ""
    key: str = ""
    admin_key: str = ""
    url: str = ""
    simulator: str = ""


def database_url(state: Path) -> str:
    """Return the URL of the demo's database in this directory."""
    return f"sqlite:///{(state / 'dev.db').resolve()}"


def settings_of(state: Path, memory: Memory) -> Settings:
    """Return the settings of the demo; nothing is read from the environment, which may name a real account."""
    return read_settings(
        {},
        database_url=database_url(state),
        plivo_auth_id=SIMULATOR_AUTH_ID,
        plivo_auth_token=SIMULATOR_AUTH_TOKEN,
        plivo_sender_id=SENDER,
        plivo_url=memory.simulator,
        public_url=memory.url,
        jwt_secret=memory.jwt_secret,
        webhook_allow_networks=_LOOPBACK,
        webhook_ports=_ANY_PORT,
        workers=1,
    )


def recall(state: Path) -> Memory:
    """Return what ``dev.json`` holds; what cannot be read is empty, and a bad JWT secret is replaced."""
    try:
        found = json.loads((state / _REMEMBERED).read_text(encoding="utf-8"))
        known = {each.name: str(found[each.name]) for each in fields(Memory) if each.name in found}
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    if len(known.get("jwt_secret", "")) < _SECRET_LENGTH:
        known["jwt_secret"] = secrets.token_urlsafe(_SECRET_LENGTH)
    return Memory(**known)


@contextmanager
def remembered(state: Path, memory: Memory) -> Iterator[None]:
    """Write ``dev.json``, and lock it for the block: the lock says that this demo runs, and ends with the process."""
    # A new file, so that nobody else can read it whatever the old one allowed; renamed when complete and locked.
    fresh = state / f"{_REMEMBERED}.{secrets.token_hex(4)}"
    fresh.touch(mode=0o600)
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(asdict(memory), file)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        fresh.replace(state / _REMEMBERED)
        yield


def operator_settings(*, to_serve: bool = False, **overrides: Any) -> Settings:
    """Return the settings of an operator's command: those of the demo that runs here, else the environment's.

    Where it is the demo's, one line on stderr says so. Raises :class:`~smsapi.errors.SettingsInvalid`.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return read_settings(to_serve=to_serve, **overrides)
    if _FOUND not in context.meta:
        # Looked for once in each command, so that it does not change the database halfway.
        demo = context.meta[_FOUND] = _running_demo()
        if demo is not None:
            click.echo(f"smsapi: using the demo that runs in {STATE}/ ({demo.public_url}).", err=True)
    found: Settings | None = context.meta[_FOUND]
    return read_settings(to_serve=to_serve, **overrides) if found is None else found


def _running_demo() -> Settings | None:
    if not _is_locked(STATE / _REMEMBERED) or _has_default_database():
        return None
    given = _given_setting()
    if given is not None:
        click.echo(f"smsapi: not using the demo that runs in {STATE}/, because {given} is set.", err=True)
        return None
    memory = recall(STATE)
    return settings_of(STATE, memory) if memory.url and memory.simulator else None


def _given_setting() -> str | None:
    """Return a variable of the environment that is a setting of the service, or None."""
    names = [each.metadata["name"] for each in fields(Settings)]
    return next((each for name in names for each in (name, f"{name}_FILE") if os.environ.get(each)), None)


def _has_default_database() -> bool:
    """Say whether the default SQLite file holds a database; an unreadable one counts, an empty file does not."""
    path = sqlite_file(read_settings({}).database_url)
    if path is None or not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        return True


def _is_locked(path: Path) -> bool:
    """Say whether a process holds the lock of this file, which must be the user's own."""
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return False
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite URL, or None for PostgreSQL and for a database in memory."""
    parts = make_url(url)
    path = parts.database
    if parts.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return Path(path)

"""A whole installation on this machine: APIs, workers, PostgreSQL, Redis and a Plivo, all of which may be disturbed."""

import itertools
import random
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from smsapi import migrations
from smsapi.db import Database
from smsapi.plivo.simulator import Simulator
from tests.conftest import AUTH_ID, AUTH_TOKEN
from tests.processes import freeze, send_signal
from tests.services import start_postgres, start_redis
from tests.support.dying import hold_port
from tests.support.logs import KINDS, dead_log
from tests.support.served import Running, Served, children, environment, make_key

LEASE_SECONDS = 6.0
# The longest call, and what passes between the end of a lease and the look at Plivo's list.
CALL_SECONDS = 2.0
DOUBT_SECONDS = 2.0

_SETTINGS: dict[str, Any] = {
    "SMSAPI_LEASE_SECONDS": LEASE_SECONDS,
    "SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS": CALL_SECONDS,
    "SMSAPI_RECONCILE_AFTER_SECONDS": DOUBT_SECONDS,
    "SMSAPI_PLIVO_LIST_PER_MINUTE": 6000,
    "SMSAPI_LOG_LEVEL": "warning",
}
_SUPERVISOR_SECONDS = 0.1


class Cluster:
    """A context manager that starts it and leaves nothing behind. What ends is started again, as by an orchestrator.

    The attributes are for one thread at a time, that which disturbs.
    """

    def __init__(self, *, apis: int = 2, workers: int = 3, **settings: Any) -> None:
        self.disturbed_at = 0.0
        self.deaths = 0
        self._counts = (apis, workers)
        self._settings = {**_SETTINGS, **settings}
        self._apis: list[Served] = []
        self._workers: list[Running] = []
        self._ending = threading.Event()
        self._started: set[int] = set()
        self._held: list[socket.socket] = []
        self._stack = ExitStack()
        self._supervisor = threading.Thread(target=self._supervise)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.postgres = stack.enter_context(start_postgres())
            self.redis = stack.enter_context(start_redis())
            self.simulator = stack.enter_context(_plivo())
            self.store = Database(self.postgres.url)
            stack.callback(self.store.close)
            migrations.upgrade(self.store)
            self.key = make_key(self.postgres.url)
            stack.callback(self.end)
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def urls(self) -> list[str]:
        """Return where the APIs are."""
        return [api.url for api in self._apis]

    def note(self) -> None:
        """Say that something was just disturbed, or put right."""
        self.disturbed_at = time.monotonic()

    @contextmanager
    def logs_gone(self) -> Iterator[None]:
        """Start every process anew, with all that it logs going where no line can be written, in one of each way."""
        units = (*self._apis, *self._workers)
        with ExitStack() as stack:
            for unit, kind in zip(units, itertools.cycle(KINDS)):
                unit.log_to(stack.enter_context(dead_log(kind)))
                # All that there is to log, the lines within transactions too.
                unit.environ["SMSAPI_LOG_LEVEL"] = "debug"
                assert unit.process is not None
                self._kill(freeze(unit.process.pid), [])
            yield
            for unit in units:
                unit.log_to(None)

    def kill_something(self) -> None:
        """End an API or a worker, or a single process of one, by SIGKILL."""
        family = self._freeze_one(self._apis, self._workers)
        victims = [random.choice(family)] if family and random.random() < 0.5 else family or self._replaceable()
        self._kill(victims, family)

    def kill_worker(self) -> None:
        """End a worker, or a single process of one, by SIGKILL."""
        family = self._freeze_one(self._workers)
        self._kill([random.choice(family)] if family and random.random() < 0.5 else family, family)

    def _kill(self, victims: list[int], frozen: list[int]) -> None:
        for pid in victims:
            send_signal(pid, signal.SIGKILL)
        for pid in frozen:
            send_signal(pid, signal.SIGCONT)
        self.deaths += bool(victims)
        self.note()

    def freeze_something(self) -> list[int]:
        """Stop an API or a worker with all its processes, as a host does that is moved; return their ids."""
        self.note()
        return self._freeze_one(self._apis, self._workers)

    def _freeze_one(self, *kinds: Sequence[Running]) -> list[int]:
        """Stop one of those at work, where another of its kind is; return the ids of its processes, its first first.

        On a small machine nothing would ever get done otherwise: to start takes longer than to be killed again.
        """
        at_work = ([unit for unit in units if _children(unit)] for units in kinds)
        found = [unit for units in at_work if len(units) > 1 for unit in units]
        process = random.choice(found).process if found else None
        return [] if process is None else freeze(process.pid)

    def _replaceable(self) -> list[int]:
        """Return a process that its parent has replaced in a moment: gunicorn's workers."""
        found = [pid for api in self._apis for pid in _children(api)]
        return random.sample(found, min(1, len(found)))

    def end(self) -> None:
        """End every API and every worker; the stores stay."""
        self._ending.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for pid in self._orphans():
            send_signal(pid, signal.SIGKILL)
        for unit in (*self._apis, *self._workers):
            unit.close()
        for port in self._held:
            port.close()

    def _begin(self) -> None:
        apis, workers = self._counts
        environ = environment(
            self.postgres.url,
            self.simulator.url,
            SMSAPI_REDIS_URL=self.redis.url,
            SMSAPI_BROKER_URL=self.redis.url.replace("/0", "/1"),
            SMSAPI_WORKERS=1,
            **self._settings,
        )
        for _ in range(apis):
            # Plivo reports to the first, whichever made the call.
            public = {"SMSAPI_PUBLIC_URL": self._apis[0].url} if self._apis else {}
            api = {**environ, "SMSAPI_DISPATCH_THREADS": "0", **public}
            self._apis.append(Served(api, _directory("api")))
            self._held.append(hold_port(self._apis[-1].port))
        for_workers = {**environ, "SMSAPI_PUBLIC_URL": self._apis[0].url}
        self._workers = [Running(for_workers, _directory("worker"), "worker", "--threads=4") for _ in range(workers)]
        for unit in (*self._apis, *self._workers):
            self._start(unit)
        for api in self._apis:
            api.wait()
        self._supervisor.start()

    def _start(self, unit: Running) -> None:
        unit.begin()
        assert unit.process is not None
        self._started.add(unit.process.pid)

    def _supervise(self) -> None:
        while not self._ending.wait(_SUPERVISOR_SECONDS):
            for unit in (*self._apis, *self._workers):
                if unit.process is not None and unit.process.poll() is not None:
                    self._start(unit)

    def _orphans(self) -> list[int]:
        """Return all processes of the sessions that we began, those too whose first process is gone (``proc(5)``)."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            except OSError:
                continue
            if session in self._started:
                found.append(int(entry.name))
        return found


def _plivo() -> Simulator:
    return Simulator(
        auth_id=AUTH_ID,
        auth_token=AUTH_TOKEN,
        requests_per_5s=None,
        lists_per_minute=None,
        receipt_scale=0.05,
        receipt_retries=(1, 2),
    )


def _children(unit: Running) -> list[int]:
    """Return the children of one at work; one that is starting has none."""
    try:
        return children(unit.process.pid) if unit.process is not None else []
    except OSError:
        return []


def _directory(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"smsapi-chaos-{name}-"))

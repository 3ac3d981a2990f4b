"""Heartbeat of one process that sends: its row is written every few seconds, for as long as its threads can send."""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from smsapi import __version__
from smsapi.deps import Deps
from smsapi.errors import Unavailable
from smsapi.ids import new_id
from smsapi.log import get_logger
from smsapi.monitoring.workers import BEAT_SECONDS, WorkerProcess, record_beat, remove_worker

log = get_logger()

_LAST_SECONDS: Final = 2.0


class Heartbeat:
    """Beats from ``start`` to ``stop``, on a thread of its own: no call to Plivo, however long, holds it up.

    ``trouble`` says why nothing would be sent by this process, or None: then there is no beat, and its row, and with it
    the claim to be alive, grows old. ``role`` is the command that the process runs.
    """

    def __init__(
        self,
        world: Deps,
        *,
        role: str,
        threads: int,
        trouble: Callable[[], str | None],
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._world = world
        self._trouble = trouble
        self._beat_seconds = beat_seconds
        self._said: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._role, self._threads = role, threads

    def start(self) -> None:
        """Beat at once, and go on."""
        self._thread = threading.Thread(target=self._run, name="smsapi-heartbeat", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = _LAST_SECONDS) -> None:
        """Remove the row, where the store answers within the time; otherwise it grows old."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        now = self._world.clock.now()
        process = WorkerProcess(
            id=new_id(),
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            role=self._role,
            threads=self._threads,
            started_at=now,
            beat_at=now,
        )
        due = time.monotonic()
        while not self._stopping.is_set():
            # The thread must live on, whatever is raised, also by what is said of it.
            with suppress(Exception):
                self._guarded(process)
            # By the clock, and not by when the last one was done: a slow store makes beats late, and not fewer.
            due = max(due + self._beat_seconds, time.monotonic())
            self._stopping.wait(due - time.monotonic())
        with suppress(Exception), self._world.database.statement() as connection:
            remove_worker(connection, process.id)

    def _guarded(self, process: WorkerProcess) -> None:
        try:
            self._beat(process)
        except Unavailable:
            log.warning("heartbeat_waits", reason="the database does not answer")
        except Exception:  # the next one may succeed
            log.exception("heartbeat_failed")

    def _beat(self, process: WorkerProcess) -> None:
        trouble = self._trouble()
        if trouble != self._said:
            self._said = trouble
            if trouble is not None:
                log.error("nothing_is_sent_here", reason=trouble)
        if trouble is None:
            with self._world.database.statement() as connection:
                record_beat(connection, replace(process, beat_at=self._world.clock.now()))

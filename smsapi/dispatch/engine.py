"""The dispatcher of one process: dramatiq's threads, woken by hints, and a sweep that makes the hints dispensable.

A hint says "there is work" and carries nothing: the messages table is the queue. So the in-memory broker, which loses
everything when the process ends, loses nothing.
"""

import threading
from datetime import datetime, timedelta

import dramatiq
from dramatiq.brokers.stub import StubBroker

from smsapi.deps import Deps
from smsapi.dispatch.claims import Claim, anything_due, claim_due
from smsapi.dispatch.run import run_claim
from smsapi.errors import Unavailable
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.web.idempotency import FORGET_BATCH, forget_expired

log = get_logger()

_QUEUE = "messages"
_HOUSEKEEPING = timedelta(minutes=10)


class Dispatcher:
    """Sends what is due, on its own threads, from ``start`` to ``stop``. One for each process, started after a fork."""

    def __init__(self, world: Deps) -> None:
        self._world = world
        self._threads = world.settings.dispatch_threads
        self._stopping = threading.Event()
        self._hinted = threading.Semaphore(self._threads)
        self._worker: dramatiq.Worker | None = None
        self._sweeper: threading.Thread | None = None
        self._next_housekeeping: datetime | None = None
        # No middleware: a pump that fails is not retried, since its messages come back by their leases.
        self._broker = StubBroker(middleware=[])
        self._pump: dramatiq.Actor[[], None] = dramatiq.Actor(
            self._run_due, broker=self._broker, actor_name="pump", queue_name=_QUEUE, priority=0, options={}
        )

    def start(self) -> None:
        """Start the threads; from now on the bell is answered."""
        self._worker = dramatiq.Worker(self._broker, worker_threads=self._threads, worker_timeout=100)
        self._worker.start()
        self._sweeper = threading.Thread(target=self._sweep_for_ever, name="smsapi-sweep", daemon=True)
        self._sweeper.start()
        self._world.bell.answer_with(self.hint)
        self._world.health.register("queue", self.is_alive)

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Take nothing new, let running calls end within the time, stop the threads."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop(timeout=int(timeout_seconds * 1000))
        if self._sweeper is not None:
            self._sweeper.join(timeout_seconds)
        self._broker.close()

    def is_alive(self) -> bool:
        """Say whether the sweep still runs; without it nothing would be sent but what is hinted."""
        return self._sweeper is not None and self._sweeper.is_alive()

    def hint(self) -> None:
        """Say that there is work; more hints than threads are one too many and are dropped."""
        if not self._stopping.is_set() and self._hinted.acquire(blocking=False):
            self._pump.send()

    def _run_due(self) -> None:
        # Released before looking: a message stored after the look rings again, and is found.
        self._hinted.release()
        try:
            self._drain()
        except Unavailable:
            log.warning("dispatch_waits", reason="the database does not answer")
        except Exception:  # the thread must live on; what was claimed comes back when its lease ends
            log.exception("dispatch_failed")

    def _drain(self) -> None:
        world = self._world
        while not self._stopping.is_set():
            with world.database.transaction() as connection:
                # One at a time: what a thread held beside the one it sends would wait while other threads are idle.
                claims = claim_due(connection, world.clock.now(), lease_seconds=world.settings.lease_seconds, limit=1)
            if not claims:
                return
            # Where one was due there may be more, and another thread may be idle.
            self.hint()
            self._run(claims[0])

    def _run(self, claim: Claim) -> None:
        try:
            run_claim(self._world, claim)
        except Unavailable:
            raise
        except Exception:  # the others are sent all the same; this one comes back when its lease ends
            log.exception("dispatch_failed", message_id=show_id("msg", claim.message_id))

    def _sweep_for_ever(self) -> None:
        while not self._stopping.wait(self._world.settings.dispatch_sweep_seconds):
            try:
                self._sweep()
            except Unavailable:
                log.warning("sweep_waits", reason="the database does not answer")
            except Exception:
                log.exception("sweep_failed")

    def _sweep(self) -> None:
        now = self._world.clock.now()
        with self._world.database.read() as connection:
            due = anything_due(connection, now)
        if due:
            self.hint()
        if self._next_housekeeping is None or now >= self._next_housekeeping:
            self._next_housekeeping = now + _HOUSEKEEPING
            self._forget_expired_keys(now)
        # Otherwise a gauge would show how things stood when this process, of several, was last asked. It comes last:
        # a gauge that cannot be looked up must not keep messages waiting.
        self._world.metrics.refresh()

    def _forget_expired_keys(self, now: datetime) -> None:
        forgotten = FORGET_BATCH
        while forgotten == FORGET_BATCH and not self._stopping.is_set():
            with self._world.database.transaction() as connection:
                forgotten = forget_expired(connection, now)

"""The dispatcher of one process: dramatiq's threads, woken by hints, and a sweep that makes the hints dispensable.

A hint says "there is work" and carries nothing: the messages table is the queue. So the in-memory broker, which loses
everything when the process ends, loses nothing.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import dramatiq
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import Select

from smsapi.batches.maker import NEXT_BATCH, lookout_for_batches
from smsapi.batches.store import canceled_among
from smsapi.deps import Deps
from smsapi.dispatch.chores import ask_for_reports, reconcile_due, run_chores
from smsapi.dispatch.desk import Desk
from smsapi.dispatch.housekeeping import lookout_for_housekeeping
from smsapi.dispatch.liveness import Liveness
from smsapi.errors import Unavailable
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.lookout import Lookout
from smsapi.messages.flows import find_work
from smsapi.monitoring.heartbeat import Heartbeat
from smsapi.receipts.reporter import lookout_for_reports
from smsapi.receipts.store import NEXT_REPORT
from smsapi.send.begin import Begun
from smsapi.send.deliver import run
from smsapi.timekeeping import Timekeeper
from smsapi.webhooks.deliveries import NEXT_WEBHOOK
from smsapi.webhooks.postman import Postman

log = get_logger()

_QUEUE = "messages"
_STOPPING_SECONDS = 0.005
_AFTER_A_FAILURE_SECONDS = 1.0
_LAST_BEAT_SECONDS = 2.0


class Dispatcher:
    """Sends what is due, on its own threads, from ``start`` to ``stop``. One for each process, started after a fork.

    ``threads`` are those that send anything. There are three more: one's worth of room for codes, one for chores and
    one that looks into unknown outcomes, so that none waits until a slow Plivo has answered all the others, and that
    however much there is to look at keeps nobody from sending. ``role`` is the command that the process runs.
    """

    def __init__(self, world: Deps, threads: int | None = None, *, role: str = "worker") -> None:
        self._world = world
        senders = world.settings.dispatch_threads if threads is None else threads
        self._threads = senders + 3
        self._desk = Desk(world, senders + 1)
        self._liveness = Liveness(world.settings, senders)
        self._heartbeat = Heartbeat(world, role=role, threads=senders, trouble=self.trouble)
        self._timekeeper = Timekeeper(world)
        self._postman = Postman(world)
        self._batches = lookout_for_batches(world)
        self._reports = lookout_for_reports(world)
        self._housekeeping = lookout_for_housekeeping(world)
        self._sweep = Lookout("sweep", self._look_for_all, longest_seconds=world.settings.dispatch_sweep_seconds)
        # By when each has something to do next.
        self._pollers: Mapping[Select[Any], Lookout] = {
            NEXT_WEBHOOK: self._postman.lookout,
            NEXT_BATCH: self._batches,
            NEXT_REPORT: self._reports,
        }
        self._stopping = threading.Event()
        self._nudged = threading.Event()
        self._hinted = threading.Semaphore(self._threads)
        self._tidying = threading.Lock()
        self._reconciling = threading.Lock()
        self._worker: dramatiq.Worker | None = None
        self._timer: threading.Thread | None = None
        # No middleware: a pump that fails is not retried, since its messages come back by their leases.
        self._broker = StubBroker(middleware=[])
        self._pump: dramatiq.Actor[[], None] = dramatiq.Actor(
            self._run_due, broker=self._broker, actor_name="pump", queue_name=_QUEUE, priority=0, options={}
        )

    def start(self) -> None:
        """Start the threads; from now on the bell is answered."""
        self._timekeeper.start()
        self._worker = dramatiq.Worker(self._broker, worker_threads=self._threads, worker_timeout=100)
        self._worker.start()
        self._timer = threading.Thread(target=self._look_in_time, name="smsapi-timer", daemon=True)
        self._timer.start()
        for each in (self._sweep, self._postman, self._batches, self._reports, self._housekeeping):
            each.start()
        self._world.reports.answer_with(self._reports.ring)
        self._world.bell.answer_with(self.ring)
        self._world.database.tell_news_to(self._postman.ring)
        self._world.health.register("queue", lambda: self.trouble() is None, of="dispatcher")
        self._heartbeat.start()

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Take nothing new, let running calls end within the time, stop the threads."""
        self._desk.close()
        until = time.monotonic() + timeout_seconds
        # From now on this process sends no more than what it has begun.
        self._heartbeat.stop(min(_LAST_BEAT_SECONDS, timeout_seconds))
        # What was begun for a thread that is still on its way has to be sent by it: nobody else would know how it went.
        while not self._desk.is_empty() and time.monotonic() < until:
            self._hint()
            time.sleep(_STOPPING_SECONDS)
        self._stopping.set()
        self._nudged.set()
        left = max(0.0, until - time.monotonic())
        if self._worker is not None:
            self._worker.stop(timeout=int(left * 1000))
        if self._timer is not None:
            self._timer.join(left)
        for each in (self._housekeeping, self._reports, self._batches, self._postman, self._sweep):
            each.stop(max(0.0, until - time.monotonic()))
        self._broker.close()
        self._timekeeper.stop()

    def trouble(self) -> str | None:
        """Return why nothing would be sent here: its threads have ended, or none comes to its end. None: it would."""
        senders = [] if self._worker is None else self._worker.workers
        return self._liveness.trouble([self._timer, self._sweep.thread], senders)

    def ring(self) -> None:
        """Say that something new waits."""
        self._desk.expect_news()
        self._hint()
        self._batches.ring()

    def wake(self) -> None:
        """Say that another process stored something: a message, a batch, an event, a report."""
        self.ring()
        self._postman.ring()
        self._reports.ring()

    def _hint(self) -> None:
        # More hints than threads are one too many and are dropped.
        if not self._stopping.is_set() and self._hinted.acquire(blocking=False):
            self._pump.send()

    def _run_due(self) -> None:
        # Released before looking: a message stored after the look rings again, and is found.
        self._hinted.release()
        with suppress(Exception):
            self._guarded("dispatch_waits", self._drain)

    def _drain(self) -> None:
        while not self._stopping.is_set():
            if self._desk.take_chores():
                self._guarded("chores_wait", self._do_chores)
            begun = self._desk.next()
            if begun is None:
                self._nudged.set()
                return
            # Where one was due there may be more, and another thread may be idle.
            self._hint()
            self._send(begun)

    def _send(self, begun: Begun) -> None:
        try:
            with self._liveness.sending():
                run(self._world, begun, wait_until=self._world.clock.now(), canceled_among=canceled_among)
        except Unavailable:
            raise
        except Exception:  # the others are sent all the same; this one comes back when its lease ends
            log.exception("dispatch_failed", message_id=show_id("msg", begun.message.id))
        finally:
            self._desk.done(begun)

    def _do_chores(self) -> None:
        # One thread at a time for each: the desk counts on all others to send what it begins for them.
        if self._tidying.acquire(blocking=False):
            try:
                run_chores(self._world, self._stopping.is_set)
            finally:
                self._tidying.release()
        if self._reconciling.acquire(blocking=False):
            try:
                reconcile_due(self._world, self._stopping.is_set)
                # In this order: what is unknown may have to be sent, and has the list's questions first.
                ask_for_reports(self._world, self._stopping.is_set)
            finally:
                self._reconciling.release()

    def _look_in_time(self) -> None:
        """Look for messages when the next one is due or a gate opens, and where no sweep has come."""
        while not self._stopping.is_set():
            rest = _AFTER_A_FAILURE_SECONDS
            # The thread must live on, whatever is raised, also by what is said of it.
            with suppress(Exception):
                rest = self._desk.seconds_to_rest()
                if rest <= 0:
                    self._guarded("sweep_waits", self._look)
            if rest > 0:
                # Nudged, it may have to rest less long than it knew.
                self._nudged.wait(rest)
                self._nudged.clear()

    def _guarded(self, waits: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Unavailable:
            log.warning(waits, reason="the database does not answer")
        except Exception:  # the thread must live on; what was claimed comes back when its lease ends
            log.exception("dispatch_failed")

    def _look(self) -> None:
        if self._desk.look():
            self._hint()

    def _look_for_all(self, _stopping: Callable[[], bool]) -> float:
        """Ask in one question what there is to do for the desk and for the pollers: an idle process asks nothing else.

        It has a thread of its own, and nobody waits for it: were one of the pollers' tables locked, or broken, each of
        them and the desk would look for itself.
        """
        world, asked_at = self._world, time.monotonic()
        with self._liveness.sweeping():
            with world.database.read() as connection:
                ahead, others = self._desk.longest_seconds, tuple(self._pollers)
                work = find_work(connection, world.clock.now(), ahead_seconds=ahead, others=others)
            if self._desk.take_note(work, asked_at):
                self._hint()
        self._nudged.set()
        for place, each in enumerate(self._pollers.values()):
            if place in work.others:
                each.ring()
            else:
                each.reassure(asked_at)
        # Otherwise a gauge would show how things stood when this process, of several, was last asked. It comes last:
        # a gauge that cannot be looked up must not keep messages waiting.
        world.metrics.refresh()
        return math.inf

"""Processes that send: what each runs, and what ``smsapi worker`` is: dramatiq's command with ``smsapi.working:boot``.

dramatiq starts the processes, passes signals on to them, and ends all of them as soon as one dies (its ``cli.py``).
Nothing is opened before the fork; each process has its own pools and its own dispatcher, and stops them in order.
"""

import logging
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

import dramatiq
from dramatiq.brokers.stub import StubBroker

from smsapi.app import build_deps
from smsapi.deps import Deps
from smsapi.dispatch.engine import Dispatcher
from smsapi.dispatch.hints import Hints
from smsapi.log import configure_logging, get_logger, log_all_uncaught
from smsapi.logsink import count_dropped_with
from smsapi.metrics import serve_metrics
from smsapi.sentry import install_sentry
from smsapi.settings import Settings, read_settings
from smsapi.timekeeping import Timekeeper

log = get_logger()

# How long dramatiq waits for its own threads, which only hear hints, once the dispatcher has stopped.
_LISTENERS_STOP_MS: Final = 5000
_LAST_SECONDS: Final = 10.0
_NO_PUBLIC_URL: Final = (
    "SMSAPI_PUBLIC_URL is not set: Plivo cannot report here, so no delivery is ever known and no STOP is heard"
)


class Sending:
    """What sends in this process: its dispatcher, where it has threads, and the hints, where there is a broker.

    ``role`` is the command that the process runs, as its heartbeat names it.
    """

    def __init__(self, world: Deps, role: str = "worker") -> None:
        settings = world.settings
        self._world = world
        self._dispatcher = Dispatcher(world, role=role) if settings.dispatch_threads else None
        # A dispatcher keeps the clock itself.
        self._timekeeper = None if settings.dispatch_threads else Timekeeper(world)
        self.hints = None if settings.broker_url is None else Hints(settings.broker_url, self._look)

    def start(self) -> None:
        """Start to send, and to tell the other processes of what is stored here."""
        count_dropped_with(self._world.metrics.count_dropped_log_lines)
        if self._world.settings.public_url is None:
            log.warning("deliveries_are_never_known", reason=_NO_PUBLIC_URL)
        if self._timekeeper is not None:
            self._timekeeper.start()
        if self._dispatcher is not None:
            self._dispatcher.start()
        if self.hints is not None:
            self._world.bell.answer_with(self.hints.ring)
            if self._dispatcher is None:
                self._world.database.tell_news_to(self.hints.ring)
                self._world.reports.answer_with(self.hints.ring)
            self.hints.start()

    def listen(self) -> None:
        """Start to hear the others, on a thread of this process's own; of no use where nothing is dispatched."""
        if self.hints is not None and self._dispatcher is not None:
            self.hints.listen()

    def stop(self) -> None:
        """Begin nothing new, let what runs end within SMSAPI_GRACEFUL_SECONDS, and leave the rest to the others."""
        if self.hints is not None:
            self.hints.stop_listening()
        if self._dispatcher is not None:
            self._dispatcher.stop(self._world.settings.graceful_seconds)
        if self.hints is not None:
            self.hints.stop()
        if self._timekeeper is not None:
            self._timekeeper.stop()

    def _look(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.wake()


def prepare_process(settings: Settings) -> None:
    """Lead all that this process says, uncaught exceptions and warnings too, to the log, and errors to Sentry."""
    configure_logging(settings.log_level, on_error=install_sentry(settings))
    logging.captureWarnings(capture=True)
    log_all_uncaught()


def boot() -> None:
    """Start to send in this process. dramatiq calls it after the fork, and listens on the broker that it sets."""
    # dramatiq leads them through a pipe to its first process: while that one hangs, or once it is gone, a log line in
    # the middle of a delivery would too.
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    try:
        settings = read_settings()
        prepare_process(settings)
        world = build_deps(settings)
        sending = Sending(world, "worker")
        broker = StubBroker(middleware=[]) if sending.hints is None else sending.hints.broker
        broker.add_middleware(_Ending(world, sending))
        if settings.worker_metrics_bind is not None:
            host, _, port = settings.worker_metrics_bind.rpartition(":")
            serve_metrics(host.strip("[]"), int(port))
        sending.start()
    except Exception:  # dramatiq would let its traceback be printed as it is
        log.exception("worker_failed")
        sys.exit(1)
    dramatiq.set_broker(broker)
    threading.Thread(
        target=_end_with_the_first_process, args=(settings.graceful_seconds,), name="smsapi-parent", daemon=True
    ).start()
    log.info("worker_started", threads=settings.dispatch_threads)


class _Ending(dramatiq.Middleware):
    """Stops in order what this process runs, as soon as dramatiq is told to stop."""

    def __init__(self, world: Deps, sending: Sending) -> None:
        self._world = world
        self._sending = sending

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        del broker, worker
        self._sending.stop()
        self._world.executor.shutdown(wait=True)
        self._world.database.close()
        log.info("worker_stopped")


def _end_with_the_first_process(graceful_seconds: float) -> None:
    """End as if told to once the process that started this one is gone: nobody would ever tell it."""
    first = multiprocessing.parent_process()
    if first is None:
        return
    first.join()
    os.kill(os.getpid(), signal.SIGTERM)
    # It may hang in dramatiq's own telling of that process that it has started, for ever.
    time.sleep(graceful_seconds + _LAST_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def run_workers() -> None:
    """Run dramatiq's command, whose arguments this process has left; what it logs itself are JSON lines among ours."""
    configure_logging(read_settings().log_level)
    # Python 3.14 would have them started by a server of its own, between this process and those that it watches.
    multiprocessing.set_start_method("fork")
    # Without a path of its own dramatiq would import from the directory that it was started in.
    given = [
        "smsapi.working:boot",
        "--path",
        "--threads=1",
        "--skip-logging",
        f"--worker-shutdown-timeout={_LISTENERS_STOP_MS}",
    ]
    sys.argv[1:] = [*given, *sys.argv[1:]]
    runpy.run_module("dramatiq", run_name="__main__", alter_sys=True)

"""What gunicorn runs: its configuration (``-c python:smsapi.serving``) and the app (``smsapi.serving:application()``).

Nothing is opened before the fork; each worker has its own pools and sends on its own threads, and stops them in order.
"""

import os
from functools import partial
from typing import Any

from flask import Flask
from gunicorn import glogging  # type: ignore[import-untyped]
from prometheus_client.multiprocess import mark_process_dead

from smsapi.app import MAX_BODY_BYTES, create_app
from smsapi.connections import Readers
from smsapi.deps import Deps
from smsapi.gthread import Arrivals, PatientWorker, Whole
from smsapi.log import configure_logging, get_logger
from smsapi.settings import read_settings
from smsapi.web.operations import reads_its_body
from smsapi.working import Sending, prepare_process

_settings = read_settings()
PatientWorker.arrivals = Arrivals(_settings.request_read_seconds)
PatientWorker.readers = Readers(_settings.request_read_seconds, at_once=max(1, _settings.threads // 4))


class JsonLogger(glogging.Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's own events, as JSON lines among ours.

    It quotes from requests that it cannot read or answer, so of those events only the constant part is kept.
    """

    def setup(self, cfg: Any) -> None:
        """Send everything through the root logger."""
        super().setup(cfg)
        configure_logging(_settings.log_level)
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log a warning; of a malformed request only that there was one."""
        malformed = msg.startswith("Invalid request")
        super().warning("Invalid request" if malformed else msg, *(() if malformed else args), **kwargs)

    def exception(self, msg: str, *_args: Any, **kwargs: Any) -> None:
        """Log the exception that is being handled, without the arguments: one of them is the request's URL."""
        super().exception(str(msg).partition("%")[0].strip(), **kwargs)


logger_class = JsonLogger
bind = _settings.bind
workers = _settings.workers
threads = _settings.threads
worker_class = "smsapi.gthread.PatientWorker"
# The text of a batch is in its query, where a letter may take nine bytes; this is the most that gunicorn reads.
limit_request_line = 8190
# Without it the kernel may give one worker every connection.
reuse_port = workers > 1
graceful_timeout = _settings.graceful_seconds
# A request may wait 30 seconds for Plivo; a worker that is silent for longer than that is stuck.
timeout = max(60, _settings.graceful_seconds)
keepalive = 75
# By default gunicorn opens a control socket in the home directory, which a read-only container does not have.
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112 - gunicorn's advice for containers
errorlog = "-"
loglevel = "warning"
forwarded_allow_ips = ""

_running: dict[str, Sending] = {}


def when_ready(_server: Any) -> None:
    """Say that it listens, before the first worker has loaded the app."""
    get_logger().info("server_started", address=bind, processes=workers, threads=threads)


def on_exit(_server: Any) -> None:
    """Say that it has stopped."""
    get_logger().info("server_stopped")


def application() -> Flask:
    """Return the app of this worker."""
    prepare_process(_settings)
    app = create_app(_settings)
    flows = partial(reads_its_body, app)
    whole = Whole(app.wsgi_app, PatientWorker.arrivals, limit=MAX_BODY_BYTES, flows=flows)
    app.wsgi_app = whole  # type: ignore[method-assign]
    return app


def post_worker_init(worker: Any) -> None:
    """Start what the worker sends with, after the fork."""
    sending = Sending(_world(worker), "serve")
    sending.start()
    sending.listen()
    _running["sending"] = sending


def worker_exit(_server: Any, worker: Any) -> None:
    """Let running deliveries end, then close what the worker opened."""
    if not hasattr(worker, "wsgi"):
        return  # it ended before it had loaded the app
    world = _world(worker)
    # What has not begun is not begun: it comes back when its lease ends. What runs may end.
    world.executor.shutdown(wait=False, cancel_futures=True)
    if "sending" in _running:
        _running.pop("sending").stop()
    world.executor.shutdown(wait=True)
    world.database.close()


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the live gauges of a dead worker; an exception here would stop the master, and all workers with it."""
    try:
        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
    except OSError as error:
        get_logger().warning("metrics_not_cleared", reason=str(error))


def _world(worker: Any) -> Deps:
    world: Deps = worker.wsgi.extensions["smsapi"]
    return world

"""``smsapi serve`` and ``smsapi worker``. This process becomes one with a path of its own, which checks and then runs.

Nothing else of ours is loaded here: it would be loaded twice, which takes longer than all else that a start does.
"""

import fcntl
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

import click

from smsapi.cli.addresses import split_bind

# The directory of metrics that was made here, which whoever runs last removes.
OWN_METRICS_DIR = "SMSAPI_OWN_METRICS_DIR"
_METRICS_PREFIX: Final = "smsapi-metrics-"
_LOCK: Final = "lock"
# The signals by which an orchestrator, or Ctrl-C, stops a service.
STOPS: Final = (signal.SIGTERM, signal.SIGINT)


@click.command()
@click.option("--bind", help="HOST:PORT to listen on, in place of SMSAPI_BIND.")
def serve(*, bind: str | None) -> None:
    """Serve the API, by gunicorn; each process also sends what was queued. SIGTERM stops it gracefully."""
    if bind is not None:
        split_bind(bind)
        os.environ["SMSAPI_BIND"] = bind
    _hold_stops()
    _share_metrics()
    _become("serve")


@click.command()
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="How many send.")
@click.option("--threads", type=click.IntRange(1, 256), help="Of each process, in place of SMSAPI_DISPATCH_THREADS.")
def worker(*, processes: int, threads: int | None) -> None:
    """Send what was queued, by dramatiq; any number of workers share it. SIGTERM stops it gracefully."""
    if threads is not None:
        os.environ["SMSAPI_DISPATCH_THREADS"] = str(threads)
    _hold_stops()
    if os.environ.get("SMSAPI_WORKER_METRICS_BIND"):
        _share_metrics()
    # How often its idle thread looks whether it has to stop, in milliseconds; read when dramatiq is loaded.
    os.environ.setdefault("dramatiq_worker_timeout", "100")
    _become("worker", f"--processes={processes}")


def _hold_stops() -> None:
    """Keep the signals that stop until what this becomes handles them: one in between would leave the directory."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _share_metrics() -> None:
    """Give the processes to come one directory for their metrics, where none was given."""
    # Read by the metrics library when it is loaded, so it must be set before that.
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        _clear_abandoned()
        own = tempfile.mkdtemp(prefix=_METRICS_PREFIX)
        # Held for as long as any process of this service lives: what they become and what they fork inherits it. It
        # gets its name once it is held, or another that starts just now could take it for abandoned.
        lock = os.open(Path(own, "new"), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(own, "new").rename(Path(own, _LOCK))
        os.set_inheritable(lock, True)  # noqa: FBT003 - the only form that it has
        os.environ |= {"PROMETHEUS_MULTIPROC_DIR": own, OWN_METRICS_DIR: own}


def _clear_abandoned() -> None:
    """Remove the directories of metrics that services left behind whose processes were all killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_METRICS_PREFIX}*"):
        # One of another user, or one that somebody else is removing, is left to them.
        with suppress(OSError), (left / _LOCK).open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def _become(*arguments: str) -> NoReturn:
    # Without -P it would import from the directory that it is started in.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "smsapi.cli.starting", *arguments])  # noqa: S606 - ours alone

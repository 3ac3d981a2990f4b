"""Start of the service, as ``smsapi serve`` and ``smsapi worker`` become it: checked first, and then run.

Nothing that is opened for a check outlives it: the processes that send are forked from this one.
"""

import os
import shutil
import sys
from pathlib import Path

from gunicorn.app.wsgiapp import WSGIApplication  # type: ignore[import-untyped]

from smsapi.app import build_deps
from smsapi.cli import told_in_sentences
from smsapi.cli.addresses import check_free
from smsapi.cli.admin import open_database
from smsapi.cli.serve import OWN_METRICS_DIR
from smsapi.errors import SmsapiError
from smsapi.log import get_logger
from smsapi.settings import Settings, find_unknown, read_settings
from smsapi.working import Sending, run_workers


class _Gunicorn(WSGIApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's command, which imports nothing from the directory that it is started in."""

    def chdir(self) -> None:
        """Go there, and leave ``sys.path`` alone: a file that is called json.py there is nobody's library."""
        os.chdir(self.cfg.chdir)


def _check() -> Settings:
    """Return the settings, or raise :class:`SmsapiError` with a line for each thing that is wrong with them."""
    settings = read_settings(to_serve=True)
    _make_metrics_directory()
    # Before anything else may connect, which would make an empty SQLite file.
    with open_database(settings):
        Sending(build_deps(settings))
    for name, nearest in find_unknown().items():
        get_logger().warning("setting_not_known", setting=name, did_you_mean=nearest)
    return settings


def check_server() -> None:
    """Raise :class:`SmsapiError`, with a line for each reason, where this environment lets nothing be served."""
    check_free(_check().bind)


def check_worker() -> None:
    """Raise :class:`SmsapiError`, with a line for each reason, where a worker in this environment would not work."""
    settings = _check()
    if settings.dispatch_threads == 0:
        raise SmsapiError("A worker without threads sends nothing: SMSAPI_DISPATCH_THREADS is 0. Use --threads.")
    if settings.worker_metrics_bind is not None:
        check_free(settings.worker_metrics_bind)


def _make_metrics_directory() -> None:
    """Make the directory that was given where it is not there, as on a fresh tmpfs: no worker starts without it."""
    if given := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        try:
            Path(given).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SmsapiError(f"PROMETHEUS_MULTIPROC_DIR cannot be made: {error.strerror}") from None


def main() -> None:
    """Check, and run the API or the workers, as the first argument says; those that follow are for dramatiq."""
    serves, first = sys.argv[1] == "serve", os.getpid()
    try:
        with told_in_sentences():
            (check_server if serves else check_worker)()
        if serves:
            sys.argv[1:] = ["-c", "python:smsapi.serving", "smsapi.serving:application()"]
            _Gunicorn("%(prog)s [OPTIONS] [APP_MODULE]").run()
        else:
            del sys.argv[1]
            run_workers()
    finally:
        # A process that gunicorn has forked comes by here too when it ends.
        if os.getpid() == first and (own := os.environ.get(OWN_METRICS_DIR)):
            shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    main()

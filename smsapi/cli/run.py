"""Commands that run the service, or play Plivo, or print what the service says of itself."""

import os
import socket
import sys
import tempfile
from pathlib import Path

import click

from smsapi.app import build_deps, create_app
from smsapi.cli.admin import open_database
from smsapi.errors import SmsapiError
from smsapi.plivo.simulator import Simulator, serve_forever
from smsapi.send.testmode import TestProvider
from smsapi.settings import Settings, describe_settings, read_settings
from smsapi.web.openapi import dump_openapi
from smsapi.working import Sending

SIMULATOR_AUTH_ID = "MASIMULATOR000000000"
SIMULATOR_AUTH_TOKEN = "simulator-token"  # noqa: S105 - it opens the simulator and nothing else


def split_bind(value: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; raise a usage error where it is not that."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


@click.command()
@click.option("--bind", help="HOST:PORT to listen on, in place of SMSAPI_BIND.")
def serve(*, bind: str | None) -> None:
    """Serve the API, by gunicorn; each process also sends what was queued. SIGTERM stops it gracefully."""
    if bind is not None:
        split_bind(bind)
        os.environ["SMSAPI_BIND"] = bind
    settings = _checked_settings()
    _check_free(settings.bind)
    _share_metrics()
    gunicorn = [
        sys.executable,
        "-P",
        "-m",
        "smsapi.serving",
        "-c",
        "python:smsapi.serving",
        "smsapi.serving:application()",
    ]
    os.execv(sys.executable, gunicorn)  # noqa: S606 - our own interpreter and arguments


@click.command()
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="How many send.")
@click.option("--threads", type=click.IntRange(1, 256), help="Of each process, in place of SMSAPI_DISPATCH_THREADS.")
def worker(*, processes: int, threads: int | None) -> None:
    """Send what was queued, by dramatiq; any number of workers share it. SIGTERM stops it gracefully."""
    if threads is not None:
        os.environ["SMSAPI_DISPATCH_THREADS"] = str(threads)
    settings = _checked_settings()
    if settings.dispatch_threads == 0:
        raise SmsapiError("A worker without threads sends nothing: SMSAPI_DISPATCH_THREADS is 0. Use --threads.")
    if settings.worker_metrics_bind is not None:
        _check_free(settings.worker_metrics_bind)
        _share_metrics()
    # How often its idle thread looks whether it has to stop, in milliseconds; read when dramatiq is loaded.
    os.environ.setdefault("dramatiq_worker_timeout", "100")
    dramatiq = [sys.executable, "-P", "-m", "smsapi.working", f"--processes={processes}"]
    os.execv(sys.executable, dramatiq)  # noqa: S606 - our own interpreter and arguments


def _checked_settings() -> Settings:
    """Return the settings; everything that would stop a process of the service stops us here, with one line each."""
    settings = read_settings(to_serve=True)
    _make_metrics_directory()
    Sending(build_deps(settings))
    with open_database():
        pass
    return settings


def _share_metrics() -> None:
    """Give the processes to come one directory for their metrics, where none was given."""
    # Read by the metrics library when it is loaded, so it must be set before anything of ours is.
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        own = tempfile.mkdtemp(prefix="smsapi-metrics-")
        os.environ |= {"PROMETHEUS_MULTIPROC_DIR": own, "SMSAPI_OWN_METRICS_DIR": own}


def _make_metrics_directory() -> None:
    """Make the directory that was given where it is not there, as on a fresh tmpfs: no worker starts without it."""
    if given := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        try:
            Path(given).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SmsapiError(f"PROMETHEUS_MULTIPROC_DIR cannot be made: {error.strerror}") from None


def _check_free(address: str) -> None:
    """Raise :class:`SmsapiError` where the address cannot be listened on.

    gunicorn would try for five seconds, and with ``SO_REUSEPORT`` it would share the port with another service of the
    same user, in silence.
    """
    host, port = split_bind(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            # Two sockets may both be bound with SO_REUSEADDR; only one of them may listen.
            probe.listen()
    except OSError as error:
        raise SmsapiError(f"{address} cannot be listened on: {error.strerror}. Use --bind HOST:PORT.") from None


@click.command()
@click.option("--bind", default="127.0.0.1:8099", show_default=True, help="HOST:PORT to listen on.")
@click.option("--requests-per-5s", type=click.IntRange(min=0), default=300, show_default=True, help="0: no limit.")
@click.option("--answer-delay", type=click.FloatRange(0, 60), default=0.0, show_default=True, help="Seconds.")
def simulator(*, bind: str, requests_per_5s: int, answer_delay: float) -> None:
    """Play Plivo over HTTP: its wire format, its errors, its delivery reports, and magic numbers."""
    host, port = split_bind(bind)
    settings = read_settings()
    playing = Simulator(
        host=host,
        port=port,
        auth_id=settings.plivo_auth_id or SIMULATOR_AUTH_ID,
        auth_token=settings.plivo_auth_token or SIMULATOR_AUTH_TOKEN,
        requests_per_5s=requests_per_5s if requests_per_5s > 0 else None,
        answer_delay_seconds=answer_delay,
    )
    serve_forever(playing, lambda url: click.echo(f"Plivo is simulated at {url}", err=True))


@click.command()
def openapi() -> None:
    """Print the specification (OpenAPI 3.1) in YAML."""
    app = create_app(read_settings({}, jwt_secret="-" * 32), provider=TestProvider())
    click.echo(dump_openapi(app), nl=False)


@click.command("settings")
def settings_page() -> None:
    """Print every setting with its default, in Markdown."""
    click.echo(describe_settings())

"""Service under test: its settings, and its API and workers as processes."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

from benchmarks.processes import SMSAPI, START_SECONDS, Process, Server, running, serving, until
from benchmarks.servers import Servers
from benchmarks.simulator import AUTH_ID, AUTH_TOKEN, SENDER, Plivo
from benchmarks.store import create_client, fill
from smsapi.db import Database

# In each worker process, and in the bare loop that it is compared with.
THREADS = 8


def settings(database_url: str, **more: str) -> dict[str, str]:
    """Return the settings common to all benchmarks, and those of ``more``."""
    return {
        "PLIVO_AUTH_ID": AUTH_ID,
        "PLIVO_AUTH_TOKEN": AUTH_TOKEN,
        "PLIVO_SENDER_ID": SENDER,
        # Nothing listens there: without a simulated Plivo no text leaves.
        "SMSAPI_PLIVO_URL": "http://127.0.0.1:9",
        "SMSAPI_DATABASE_URL": database_url,
        "SMSAPI_JWT_SECRET": "benchmark-benchmark-benchmark-benchmark",
        "SMSAPI_LOG_LEVEL": "warning",
        **more,
    }


def sending(servers: Servers, plivo: Plivo) -> dict[str, str]:
    """Return the settings of a service that sends without rate limits of its own."""
    return settings(
        servers.database_url,
        SMSAPI_REDIS_URL=servers.redis_url,
        SMSAPI_BROKER_URL=servers.redis_url,
        SMSAPI_PLIVO_URL=plivo.url,
        SMSAPI_PLIVO_REQUESTS_PER_5S="0",
    )


def api(environment: Mapping[str, str]) -> AbstractContextManager[Server]:
    """Run the API for the block; it also sends, unless the settings say otherwise."""
    return serving("smsapi serve", lambda address: [*SMSAPI, "serve", "--bind", address], environment)


def api_alone(environment: Mapping[str, str]) -> AbstractContextManager[Server]:
    """Run the API for the block, as a single process that sends nothing."""
    return api({**environment, "SMSAPI_DISPATCH_THREADS": "0", "SMSAPI_WORKERS": "1"})


@contextmanager
def worker(
    environment: Mapping[str, str], database: Database, plivo: Plivo, *, processes: int = 1
) -> Iterator[Process]:
    """Run a worker of so many processes for the block, which begins once it has sent a first text.

    Raises BenchmarkError where that takes more than four minutes.
    """
    fill(database, create_client(database, "first"), 1, due_at=datetime.now(UTC))
    before = plivo.taken()
    command = [*SMSAPI, "worker", "--processes", str(processes), "--threads", str(THREADS)]
    with running("smsapi worker", command, environment) as process:
        until("the worker sends", lambda: plivo.taken() > before, process, seconds=START_SECONDS)
        yield process

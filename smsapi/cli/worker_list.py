"""The processes that send, as ``smsapi doctor`` and ``smsapi queue status`` show them."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from smsapi.clock import rfc3339
from smsapi.monitoring.workers import WorkerProcess

HOW_TO_SEND: Final = (
    "Run `smsapi worker`, or `smsapi serve` with SMSAPI_DISPATCH_THREADS above 0, on this database. If one is running, "
    "its log says why it does not send (`heartbeat_waits`, `nothing_is_sent_here`)."
)
# Of those that ended without a word the last ones tell enough.
_MOST_GONE: Final = 5


def describe_workers(found: Sequence[WorkerProcess], now: datetime) -> Iterator[str]:
    """Yield a phrase for each process that is alive, and for the last of those that are not."""
    alive = [each for each in found if each.is_alive(now)]
    gone = [each for each in found if not each.is_alive(now)]
    yield from (_describe(each, now) for each in [*alive, *gone[:_MOST_GONE]])
    if len(gone) > _MOST_GONE:
        yield f"{len(gone) - _MOST_GONE} more that are gone"


def _describe(process: WorkerProcess, now: datetime) -> str:
    who = f"{process.role} {process.version} on {process.host} (pid {process.pid}, threads {process.threads})"
    if process.is_alive(now):
        return f"{who} sends, last heartbeat {process.age_seconds(now):.0f} s ago"
    return f"{who} is gone, last heartbeat at {rfc3339(process.beat_at)}"


def present_worker(process: WorkerProcess, now: datetime) -> dict[str, Any]:
    """Return the process as JSON shows it."""
    return {
        "host": process.host,
        "pid": process.pid,
        "version": process.version,
        "role": process.role,
        "threads": process.threads,
        "started_at": rfc3339(process.started_at),
        "last_beat_at": rfc3339(process.beat_at),
        "alive": process.is_alive(now),
    }

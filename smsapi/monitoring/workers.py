"""Queries on the processes that send: heartbeats are written, read and, where they have stopped, forgotten.

Each is a statement of its own, and a process writes no row but its own: nobody waits for another.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, delete, func, select

from smsapi.db import insert_into
from smsapi.monitoring.models import workers

BEAT_SECONDS: Final = 4.0
# Two heartbeats may be late or lost. With what is remembered of a look, a death shows within 15 seconds.
ALIVE_SECONDS: Final = 10.0
# How long a process that ended without a word is shown to whoever looks for the reason.
FORGOTTEN_AFTER: Final = timedelta(hours=1)
# A process that dies at each of its starts leaves a row each time.
_MOST_SHOWN: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    """One run of a process that sends. ``role`` is its command (serve, worker, dev), ``threads`` how many send."""

    id: UUID
    host: str
    pid: int
    version: str
    role: str
    threads: int
    started_at: datetime
    beat_at: datetime

    def age_seconds(self, now: datetime) -> float:
        """Return how long ago its last heartbeat was, in seconds."""
        return max(0.0, (now - self.beat_at).total_seconds())

    def is_alive(self, now: datetime) -> bool:
        """Say whether its last heartbeat is young enough; one of a clock that has been set back since is not."""
        return abs((now - self.beat_at).total_seconds()) <= ALIVE_SECONDS


def record_beat(connection: Connection, process: WorkerProcess) -> None:
    """Write the process with its heartbeat; a row that was forgotten meanwhile comes back."""
    row = insert_into(connection, workers).values(asdict(process))
    connection.execute(row.on_conflict_do_update(index_elements=["id"], set_={"beat_at": process.beat_at}))


def remove_worker(connection: Connection, worker_id: UUID) -> None:
    """Remove the process, which has stopped in order."""
    connection.execute(delete(workers).where(workers.c.id == worker_id))


def list_workers(connection: Connection) -> Sequence[WorkerProcess]:
    """Return the processes, last heard of first, of the last 200; those that ended without a word are among them."""
    query = select(workers).order_by(workers.c.beat_at.desc(), workers.c.id).limit(_MOST_SHOWN)
    return [WorkerProcess(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - its documented name


def count_alive(connection: Connection, now: datetime) -> int:
    """Return how many processes that send are alive as of ``now``."""
    late, early = now - timedelta(seconds=ALIVE_SECONDS), now + timedelta(seconds=ALIVE_SECONDS)
    query = select(func.count()).select_from(workers).where(workers.c.beat_at.between(late, early))
    count: int = connection.execute(query).scalar_one()
    return count


def forget_stale(connection: Connection, now: datetime) -> int:
    """Delete the rows of processes that have not been heard of for an hour; return how many those were."""
    return connection.execute(delete(workers).where(workers.c.beat_at < now - FORGOTTEN_AFTER)).rowcount

"""Heartbeats of processes that are not there, written by hand."""

from datetime import timedelta
from typing import Any

from smsapi.deps import Deps
from smsapi.ids import new_id
from smsapi.monitoring.workers import WorkerProcess, record_beat


def beat(world: Deps, *, seconds_ago: float = 0.0, **changes: Any) -> WorkerProcess:
    """Write a heartbeat that is so old by the clock of this world."""
    at = world.clock.now() - timedelta(seconds=seconds_ago)
    given = {"id": new_id(), "host": "there", "pid": 7, "version": "0.1.0", "role": "worker", "threads": 4}
    process = WorkerProcess(**{**given, "started_at": at, "beat_at": at, **changes})
    with world.database.statement() as connection:
        record_beat(connection, process)
    return process

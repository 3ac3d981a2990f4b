"""Figures of the queue at one moment: what waits, what is unknown, what is stopped, who sends. Bounded at any depth."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from smsapi.batches.store import count_unmade
from smsapi.clock import Clock
from smsapi.db import Database
from smsapi.messages.flows import measure_due
from smsapi.messages.lanes import NAMES
from smsapi.messages.unknown import UnknownCounts, count_unknown
from smsapi.monitoring.workers import count_alive
from smsapi.pacing.gates import read_stops
from smsapi.pressure import Load

# Of the due messages of one lane, client and sender no more than this are counted, and of the unknown ones in all.
MOST_COUNTED: Final = 100_000
MOST_UNKNOWN_COUNTED: Final = 10_000
# What is due for less may be in the hands of a process that is just being started again.
_GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How the queue stands as of ``at``.

    ``lanes`` has every lane with what is due in it, ``batch_rows`` counts the rows of batches that are due and not
    messages yet, ``stops`` names the gates at which all sending, or that of a lane, stops.
    """

    at: datetime
    lanes: Mapping[int, Load]
    batch_rows: int
    unknown: UnknownCounts
    stops: frozenset[str]
    workers_alive: int

    @property
    def due(self) -> int:
        """Return how much is due, rows of batches included."""
        return self.batch_rows + sum(load.waiting for load in self.lanes.values())

    def oldest_seconds(self, lane: int) -> float:
        """Return for how long the first due message of the lane has been due, in seconds; 0 where none is."""
        return max(0.0, (self.at - self.lanes[lane].oldest_due_at).total_seconds())

    @property
    def trouble(self) -> str | None:
        """Return why what is due is not sent: nobody is alive who would. None where that is not so."""
        oldest = max(map(self.oldest_seconds, self.lanes), default=0.0)
        if self.workers_alive or not (self.batch_rows or oldest > _GRACE_SECONDS):
            return None
        return f"{self.due} due, the first for {oldest:.0f} s, and no process that sends is alive"


def look_at_queue(database: Database, clock: Clock) -> Figures:
    """Return how the queue stands now, by five queries on one connection. Raises StoreUnavailable."""
    with database.read() as connection:
        return read_figures(connection, clock.now())


def read_figures(connection: Connection, now: datetime) -> Figures:
    """Return the same within the caller's connection, as of ``now``."""
    due = measure_due(connection, now, at_most=MOST_COUNTED)
    return Figures(
        at=now,
        lanes={lane: due.get(lane, Load(0, now)) for lane in sorted({*NAMES, *due})},
        batch_rows=count_unmade(connection, now),
        unknown=count_unknown(connection, at_most=MOST_UNKNOWN_COUNTED),
        stops=frozenset(gate.key.partition(":")[0] for gate in read_stops(connection)),
        workers_alive=count_alive(connection, now),
    )

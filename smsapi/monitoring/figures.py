"""Figures of the queue at one moment: what waits, what is unknown, what is stopped, who sends. Bounded at any depth."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from smsapi.batches.store import count_unmade
from smsapi.clock import Clock
from smsapi.db import Database
from smsapi.messages.backlog import oldest_unfinished_at
from smsapi.messages.flows import measure_due
from smsapi.messages.lanes import NAMES
from smsapi.messages.unknown import UnknownCounts, count_unknown
from smsapi.messages.waiting import GRACE
from smsapi.pacing.gates import read_stops
from smsapi.pressure import Load
from smsapi.workers.store import count_alive

# Of the due messages of one lane, client and sender no more than this are counted, and of the unknown ones in all.
MOST_COUNTED: Final = 100_000
MOST_UNKNOWN_COUNTED: Final = 10_000
_GRACE_SECONDS: Final = GRACE.total_seconds()


@dataclass(frozen=True, slots=True)
class Figures:
    """How the queue stands as of ``at``.

    ``lanes`` has every lane with what is due in it, ``batch_rows`` counts the rows of batches that are due and not
    messages yet, ``unfinished_seconds`` is for how long the first message has been due whose call was interrupted or
    whose outcome has to be looked up, and ``stops`` names the gates at which all sending, or that of a lane, stops.
    """

    at: datetime
    lanes: Mapping[int, Load]
    batch_rows: int
    unknown: UnknownCounts
    stops: frozenset[str]
    workers_alive: int
    unfinished_seconds: float

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
        if self.workers_alive:
            return None
        if self.batch_rows or oldest > _GRACE_SECONDS:
            return f"{self.due} due, the first for {oldest:.0f} s, and no process that sends is alive"
        if self.unfinished_seconds > _GRACE_SECONDS:
            begun = f"messages were begun and not finished, for {self.unfinished_seconds:.0f} s"
            return f"{begun}, and no process that sends is alive"
        return None


def look_at_queue(database: Database, clock: Clock) -> Figures:
    """Return how the queue stands now, by six queries on one connection. Raises StoreUnavailable."""
    with database.read() as connection:
        return read_figures(connection, clock.now())


def read_figures(connection: Connection, now: datetime) -> Figures:
    """Return the same within the caller's connection, as of ``now``."""
    due, unfinished = measure_due(connection, now, at_most=MOST_COUNTED), oldest_unfinished_at(connection, now)
    return Figures(
        at=now,
        lanes={lane: due.get(lane, Load(0, now)) for lane in sorted({*NAMES, *due})},
        batch_rows=count_unmade(connection, now),
        unknown=count_unknown(connection, at_most=MOST_UNKNOWN_COUNTED),
        stops=frozenset(gate.key.partition(":")[0] for gate in read_stops(connection)),
        workers_alive=count_alive(connection, now),
        unfinished_seconds=0.0 if unfinished is None else max(0.0, (now - unfinished).total_seconds()),
    )

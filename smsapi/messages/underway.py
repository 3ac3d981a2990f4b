"""Attempts under way: waiting until those that began before a stop was committed are over."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, TextClause, select, text

from smsapi.clock import Clock
from smsapi.db import Database
from smsapi.messages.models import CHORE, messages
from smsapi.messages.statuses import SENDING

# Longer than ASK_AGAIN_SECONDS: what is not over by then has asked again before its call, or is in it.
_LOOKS: Final = 100
_LOOK_SECONDS: Final = 0.02

# An attempt that waited for its thread for longer than this asks once more whether it may still be made.
ASK_AGAIN_SECONDS: Final = 1.0

# An id of its own, above that of every transaction that has written by now. Not a snapshot's xmax, which is above those
# that are completed: one that is still running may have that very id, or a higher one.
_NEXT: Final = text("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
_XMIN: Final = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")


def let_begun_end(database: Database, clock: Clock, *which: ColumnElement[bool], lease_seconds: float) -> None:
    """Wait until no call to Plivo can begin any more that did not see what was committed before this was called.

    ``which`` are conditions on ``messages``: those that the stop is about; of test keys none is waited for. First the
    transactions end that may be beginning an attempt at this moment, then the attempts that had begun. Two seconds at
    most, with the caller's commit behind and no transaction open: an attempt that still waits for its thread then asks
    again before it calls (:data:`ASK_AGAIN_SECONDS`).
    """
    looks = iter(range(_LOOKS))
    if database.is_postgresql:
        with database.read() as connection:
            behind: int = connection.execute(_NEXT).scalar_one()
        _wait(database, clock, looks, lambda connection: connection.execute(_XMIN).scalar_one() > behind)
    # On SQLite only one writes at a time, so that nobody had begun to write before the stop and was not done.
    now = clock.now()
    # Of those whose lease is over nobody calls any more. It is by its end that they are found.
    held = (CHORE, messages.c.due_at > now, messages.c.due_at <= now + timedelta(seconds=lease_seconds))
    with database.read() as connection:
        begun = _under_way(connection, *held, *which)
    if begun:
        _wait(database, clock, looks, lambda connection: not begun & _under_way(connection, *held, *which))


def _wait(database: Database, clock: Clock, looks: Iterator[int], is_over: Callable[[Connection], bool]) -> None:
    for _ in looks:
        with database.read() as connection:
            if is_over(connection):
                return
        clock.sleep(_LOOK_SECONDS)


def _under_way(connection: Connection, *which: ColumnElement[bool] | TextClause) -> set[tuple[UUID, int]]:
    rows = messages.c
    query = select(rows.id, rows.attempts).where(rows.status == SENDING, ~rows.test, *which)
    return {(row.id, row.attempts) for row in connection.execute(query)}

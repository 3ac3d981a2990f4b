"""Store of a benchmark: emptied, filled with messages, and checked."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text

from benchmarks.processes import BenchmarkError
from benchmarks.simulator import SENDER
from smsapi import migrations
from smsapi.auth import service
from smsapi.auth.models import SCOPES
from smsapi.db import Database, metadata
from smsapi.ids import new_id
from smsapi.messages import statuses
from smsapi.messages.models import messages

_INSERTED_AT_ONCE = 5000


@dataclass(frozen=True)
class Client:
    """A client with a key; ``key`` is its secret form."""

    id: UUID
    key_id: UUID
    key: str


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """Open a store for the block, migrated and empty."""
    database = Database(url)
    try:
        migrations.upgrade(database)
        empty(database)
        yield database
    finally:
        database.close()


def empty(database: Database) -> None:
    """Delete every row of every table. The list of tables is the code's, so that it cannot miss a new one."""
    with database.transaction() as connection:
        if database.is_postgresql:
            connection.execute(text(f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)}"))
        else:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())


def create_client(database: Database, name: str, *, live: bool = True) -> Client:
    """Store a client, with a key that may do everything."""
    now = datetime.now(UTC)
    with database.transaction() as connection:
        made = service.create_client(connection, now, name=name)
        key, secret = service.issue_key(connection, now, client_id=made.id, name="b", live=live, scopes=SCOPES)
    return Client(made.id, key.id, secret)


def fill(database: Database, client: Client, count: int, **values: Any) -> list[UUID]:
    """Store so many messages of the client and return their ids; ``values`` replace the default columns."""
    now = datetime.now(UTC)
    row = {
        "client_id": client.id, "key_id": client.key_id, "test": False, "country": "US", "sender": SENDER,
        "text": "Your code is 123456", "status": statuses.QUEUED, "category": "transactional", "encoding": "gsm7",
        "segments": 1, "price_estimated": True, "metadata": {}, "attempts": 0, "epoch": 0, "created_at": now,
        "updated_at": now, **values,
    }  # fmt: skip
    # Numbers that end in less than 1000 may have the simulator misbehave.
    rows = [{**row, "id": new_id(), "to_number": f"+1415{5551000 + place % 9000}"} for place in range(count)]
    for start in range(0, count, _INSERTED_AT_ONCE):
        with database.transaction() as connection:
            connection.execute(insert(messages), rows[start : start + _INSERTED_AT_ONCE])
    return [each["id"] for each in rows]


def count_statuses(database: Database) -> Counter[str]:
    """Return the number of messages by status."""
    query = select(messages.c.status, func.count()).group_by(messages.c.status)
    with database.read() as connection:
        return Counter(dict(connection.execute(query).all()))


def check_statuses(database: Database, *good: str) -> None:
    """Raise BenchmarkError where a message has another status: a failure is not a measurement."""
    found = count_statuses(database)
    if bad := {status: count for status, count in found.items() if status not in good}:
        raise BenchmarkError(f"messages have the wrong status: {bad}; expected were only {', '.join(good)}")

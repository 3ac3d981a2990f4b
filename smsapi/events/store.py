"""Writing to the log of events and reading it, within the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select

from smsapi.db import call_it_news
from smsapi.events.models import events
from smsapi.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, in the past tense: ``message.delivered``."""

    id: UUID
    type: str
    at: datetime
    data: Mapping[str, Any]


# Built once: building a statement costs more than running it.
_INSERT_EVENT = insert(events)


def record_event(
    connection: Connection,
    *,
    client_id: UUID,
    kind: str,
    at: datetime,
    data: Mapping[str, Any],
    message_id: UUID | None = None,
    test: bool = False,
) -> UUID:
    """Append an event to the log of its client and return its id; it is told once this transaction is committed.

    ``kind`` is its type, such as ``optout.created``; ``data`` is what a caller is told, as JSON. ``message_id`` is
    given for what became of a sent message, and for nothing else: such events are told in the order of their
    message, with its number, reference and metadata beside ``data``. ``test`` marks what a test key caused.
    """
    event_id = new_id()
    row = {"id": event_id, "message_id": message_id, "client_id": client_id, "test": test, "type": kind, "at": at}
    insert_events(connection, [{**row, "data": dict(data)}])
    return event_id


def insert_events(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append the rows of events, all columns but ``seq``, in one statement; they are told once this is committed."""
    if rows:
        call_it_news(connection)
        connection.execute(_INSERT_EVENT, rows)


def list_events(connection: Connection, message_id: UUID) -> Sequence[Event]:
    """Return all events of a message that are kept, oldest first."""
    rows = events.c
    query = select(rows.id, rows.type, rows.at, rows.data).where(rows.message_id == message_id)
    query = query.order_by(rows.at, rows.id)
    return [Event(id=row.id, type=row.type, at=row.at, data=row.data) for row in connection.execute(query)]

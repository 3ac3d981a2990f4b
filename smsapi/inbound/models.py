"""The table of texts that people sent us, and what a row means."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, Integer, Row, String, Table, Text, Uuid, text

from smsapi.db import Json, UtcDateTime, metadata

inbound_messages = Table(
    "inbound_messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("provider_uuid", String(64), nullable=False),
    # NULL: nobody's, for no client could be told from the two numbers.
    Column("client_id", ForeignKey("clients.id")),
    # The last text that we sent between the two numbers.
    Column("message_id", ForeignKey("messages.id")),
    Column("from_number", Text, nullable=False),
    Column("to_number", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("type", String(16), nullable=False),
    Column("intent", String(16)),
    Column("segments", Integer),
    Column("media", Json, nullable=False),
    Column("powerpack_uuid", String(64)),
    # What Plivo sent besides, as it came, in bounds.
    Column("extra", Json, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index("ix_inbound_messages_provider_uuid", "provider_uuid", unique=True),
    Index("ix_inbound_messages_client_id_id", "client_id", "id"),
    Index("ix_inbound_messages_from_number_id", "from_number", "id"),
)
# Word for word the condition of the index: SQLite uses it only for a query that repeats it.
NOT_ERASED = text("inbound_messages.from_number <> ''")
Index(
    "ix_inbound_messages_not_erased",
    inbound_messages.c.client_id,
    inbound_messages.c.received_at,
    postgresql_where=text("from_number <> ''"),
    sqlite_where=text("from_number <> ''"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """One row of ``inbound_messages``; its fields are the columns."""

    id: UUID
    provider_uuid: str
    client_id: UUID | None
    message_id: UUID | None
    from_number: str
    to_number: str
    text: str
    type: str
    intent: str | None
    segments: int | None
    media: list[str]
    powerpack_uuid: str | None
    extra: dict[str, str]
    received_at: datetime


_COLUMNS = tuple(field.name for field in fields(Inbound))


def to_inbound(row: Row[Any]) -> Inbound:
    """Return the inbound message of a row."""
    return Inbound(**{name: row._mapping[name] for name in _COLUMNS})  # noqa: SLF001 - SQLAlchemy's documented name

"""The tables of messages and their attempts, and what a message's row means."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Row,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    text,
)

from smsapi.db import Json, UtcDateTime, metadata

messages = Table(
    "messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("key_id", ForeignKey("api_keys.id"), nullable=False),
    Column("test", Boolean, nullable=False),
    Column("to_number", Text, nullable=False),
    Column("country", String(2)),
    Column("sender", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("category", String(16), nullable=False),
    # Which of the queues it waits in; the lower number goes first (``smsapi.messages.lanes``).
    Column("lane", SmallInteger, nullable=False, server_default="1"),
    Column("on_unknown", String(16), nullable=False, server_default="reconcile"),
    Column("encoding", String(8), nullable=False),
    Column("segments", Integer, nullable=False),
    # Millionths of the currency's unit: exact, and the same on both stores.
    Column("price_micros", BigInteger),
    Column("price_currency", String(3)),
    Column("price_estimated", Boolean, nullable=False),
    Column("provider_name", String(32)),
    Column("provider_uuid", String(64)),
    Column("provider_error_code", String(16)),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("reference", Text),
    Column("metadata", Json, nullable=False),
    Column("dlt", Json),
    # What its sender asked to be held to (max_segments, max_price, smart_encoding), for as long as it may be changed.
    Column("bounds", Json),
    Column("attempts", Integer, nullable=False),
    # A claim counts this up and writes only while it still stands: a worker that lost its lease cannot speak.
    Column("epoch", Integer, nullable=False),
    # When somebody has to look at this row next; a claim moves it to the end of its lease. NULL: never.
    Column("due_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("send_at", UtcDateTime),
    Column("sent_at", UtcDateTime),
    Column("delivered_at", UtcDateTime),
    # No foreign key: a batch's row is written before its messages and never deleted while they are there.
    Column("batch_id", Uuid),
    # With how many recipients of its batch, itself included, it may share one call to Plivo. NULL: it goes alone.
    Column("joined", SmallInteger),
    # Since when text, number, reference and metadata are gone.
    Column("erased_at", UtcDateTime),
    Index("ix_messages_client_id_id", "client_id", "id"),
    Index("ix_messages_client_id_status_id", "client_id", "status", "id"),
    Index("ix_messages_client_id_to_number_id", "client_id", "to_number", "id"),
    Index("ix_messages_client_id_reference_id", "client_id", "reference", "id"),
    Index("ix_messages_to_number_id", "to_number", "id"),
    Index("ix_messages_client_id_sender_id", "client_id", "sender", "id"),
)
# Word for word the conditions of the partial indexes below: SQLite uses an index only for a query that repeats it.
WAITS = text("messages.status IN ('queued', 'scheduled') AND messages.due_at IS NOT NULL")
CHORE = text("messages.status NOT IN ('queued', 'scheduled') AND messages.due_at IS NOT NULL")
IN_DOUBT = text("messages.status = 'unknown'")
UNNAMED_ATTEMPT = text("message_attempts.outcome = 'accepted' AND message_attempts.provider_uuid IS NULL")


def _partial(name: str, condition: str, *columns: Column[Any]) -> None:
    Index(name, *columns, postgresql_where=text(condition), sqlite_where=text(condition))


# Only rows that somebody has to look at are in the first two, so that they stay small however many messages there are.
_partial(
    "ix_messages_waiting",
    "status IN ('queued', 'scheduled') AND due_at IS NOT NULL",
    *(messages.c[name] for name in ("lane", "client_id", "sender", "due_at", "id")),
)
_partial("ix_messages_chores", "status NOT IN ('queued', 'scheduled') AND due_at IS NOT NULL", messages.c.due_at)
_partial("ix_messages_provider_uuid", "provider_uuid IS NOT NULL", messages.c.provider_uuid)
_partial("ix_messages_not_erased", "erased_at IS NULL", messages.c.client_id, messages.c.created_at)
_partial("ix_messages_batch_id_id", "batch_id IS NOT NULL", messages.c.batch_id, messages.c.id)
_partial("ix_messages_unknown", "status = 'unknown'", messages.c.sender, messages.c.to_number)

message_attempts = Table(
    "message_attempts",
    metadata,
    Column("message_id", ForeignKey("messages.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("outcome", String(16)),
    Column("provider_status", Integer),
    Column("provider_uuid", String(64)),
    Column("reason", Text),
    # Since when it is shown that Plivo did not take it, of an attempt whose outcome was not known.
    Column("ruled_out_at", UtcDateTime),
    # The call that it shared with others of its batch; where the reports of that go.
    Column("chunk_id", Uuid),
)
_partial("ix_message_attempts_provider_uuid", "provider_uuid IS NOT NULL", message_attempts.c.provider_uuid)
_partial("ix_message_attempts_chunk_id", "chunk_id IS NOT NULL", message_attempts.c.chunk_id)
# Of a joined call, until a report tells the id.
_partial(
    "ix_message_attempts_unnamed", "outcome = 'accepted' AND provider_uuid IS NULL", message_attempts.c.finished_at
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One row of ``messages``; its fields are the columns."""

    id: UUID
    client_id: UUID
    key_id: UUID
    test: bool
    to_number: str
    country: str | None
    sender: str
    text: str
    status: str
    category: str
    lane: int
    on_unknown: str
    encoding: str
    segments: int
    price_micros: int | None
    price_currency: str | None
    price_estimated: bool
    provider_name: str | None
    provider_uuid: str | None
    provider_error_code: str | None
    error_code: str | None
    error_message: str | None
    reference: str | None
    metadata: dict[str, str]
    dlt: dict[str, str] | None
    bounds: dict[str, Any] | None
    attempts: int
    epoch: int
    due_at: datetime | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    send_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    erased_at: datetime | None = None
    batch_id: UUID | None = None
    joined: int | None = None


_COLUMNS = tuple(field.name for field in fields(Message))


def to_message(row: Row[Any]) -> Message:
    """Return the message of a row that has the columns of ``messages``."""
    return Message(**{name: row._mapping[name] for name in _COLUMNS})  # noqa: SLF001 - SQLAlchemy's documented name


def to_row(message: Message) -> dict[str, Any]:
    """Return the values of a message's row, by column."""
    return {name: getattr(message, name) for name in _COLUMNS}

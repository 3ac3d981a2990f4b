"""The tables of batches, and what a batch's row means.

A batch is taken in two steps. While its body arrives, its good rows are staged (``batch_rows``) and its bad ones noted
(``batch_rejects``), in pieces that are each committed: nobody sends them. With the last piece the batch is accepted, in
one transaction, and only then are its rows made into messages, a part at a time and no faster than they leave.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
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

RECEIVING: Final = "receiving"
SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
SENDING: Final = "sending"
FINISHED: Final = "finished"
CANCELED: Final = "canceled"
# Refused as a whole, for a bad row in an all-or-nothing batch. Nothing of it is sent.
REJECTED: Final = "rejected"
# A dry run: looked at, and nothing of it is sent.
CHECKED: Final = "checked"

BATCH_STATUSES: Final = (RECEIVING, SCHEDULED, QUEUED, SENDING, FINISHED, CANCELED, REJECTED, CHECKED)

batches = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("key_id", ForeignKey("api_keys.id"), nullable=False),
    Column("test", Boolean, nullable=False),
    Column("status", String(16), nullable=False),
    Column("sender", Text, nullable=False),
    # As it was asked for, with its variables.
    Column("template", Text, nullable=False),
    # As it leaves, where it is the same for every row; NULL where each row has its own.
    Column("text", Text),
    Column("category", String(16), nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("on_unknown", String(16), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("dlt", Json),
    # What its sender asked to be held to, as ``messages.bounds``.
    Column("bounds", Json),
    Column("expires_at", UtcDateTime),
    Column("send_at", UtcDateTime),
    Column("all_or_nothing", Boolean, nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("segments", BigInteger, nullable=False),
    Column("price_micros", BigInteger),
    Column("price_currency", String(3)),
    # Rows that have been made into messages: how many, and up to which row number.
    Column("made", Integer, nullable=False),
    Column("made_through", Integer, nullable=False),
    # Of the upload that is under way: its key, and when it was last heard of.
    Column("idempotency_key", String(255)),
    Column("heard_at", UtcDateTime, nullable=False),
    # When a worker has to look at it. NULL: never.
    Column("due_at", UtcDateTime),
    # From which its rate is reckoned: how many had left by then.
    Column("mark_at", UtcDateTime),
    Column("mark_left", Integer, nullable=False),
    # When something of it last changed. NULL: not since this is written down.
    Column("stirred_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("accepted_at", UtcDateTime),
    Column("started_at", UtcDateTime),
    Column("canceled_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Index("ix_batches_client_id_id", "client_id", "id"),
)
# Word for word the conditions of partial indexes: SQLite uses them only for a query that repeats it.
DUE = text("batches.due_at IS NOT NULL")
IS_OPEN = text("batches.status IN ('receiving', 'scheduled', 'queued', 'sending')")


def _partial(name: str, condition: str, *columns: Column[Any], unique: bool = False) -> None:
    Index(name, *columns, unique=unique, postgresql_where=text(condition), sqlite_where=text(condition))


_partial("ix_batches_due_at", "due_at IS NOT NULL", batches.c.due_at)
_partial("ix_batches_open", "status IN ('receiving', 'scheduled', 'queued', 'sending')", batches.c.client_id)
# One upload at a time with a key; test keys' apart from the live ones.
_partial(
    "uq_batches_receiving",
    "status = 'receiving' AND idempotency_key IS NOT NULL",
    *(batches.c[name] for name in ("client_id", "test", "idempotency_key")),
    unique=True,
)

# The good rows of a batch that are not messages yet.
batch_rows = Table(
    "batch_rows",
    metadata,
    Column("batch_id", Uuid, primary_key=True),
    # As the caller counts: of JSON the first recipient is 1, of a file its rows, and the header of a CSV is 1.
    Column("row", Integer, primary_key=True),
    Column("message_id", Uuid, nullable=False),
    Column("to_number", Text, nullable=False),
    Column("country", String(2)),
    # NULL: the batch's own.
    Column("text", Text),
    Column("encoding", String(8), nullable=False),
    Column("segments", SmallInteger, nullable=False),
    Column("price_micros", BigInteger),
    Column("reference", Text),
    # As ``messages.joined``.
    Column("joined", SmallInteger),
)

batch_rejects = Table(
    "batch_rejects",
    metadata,
    Column("batch_id", Uuid, primary_key=True),
    Column("row", Integer, primary_key=True),
    # What stood there for a number, as far as it is worth showing.
    Column("value", Text, nullable=False),
    Column("code", String(64), nullable=False),
    Column("message", Text, nullable=False),
)

# How many rows of a batch stand how, as of the last time that ``batch_changes`` was added up.
batch_counts = Table(
    "batch_counts",
    metadata,
    Column("batch_id", Uuid, primary_key=True),
    Column("status", String(16), primary_key=True),
    Column("rows", Integer, nullable=False),
)

# Written by a trigger on ``messages``: one row for each status that a batch's message took on. Counting them up in one
# row at once would have all workers wait for each other.
batch_changes = Table(
    "batch_changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("batch_id", Uuid, nullable=False),
    Column("was", String(16), nullable=False),
    Column("now", String(16), nullable=False),
    Index("ix_batch_changes_batch_id", "batch_id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One row of ``batches``; its fields are the columns."""

    id: UUID
    client_id: UUID
    key_id: UUID
    test: bool
    status: str
    sender: str
    template: str
    text: str | None
    category: str
    lane: int
    on_unknown: str
    metadata: dict[str, str]
    dlt: dict[str, str] | None
    bounds: dict[str, Any] | None
    expires_at: datetime | None
    send_at: datetime | None
    all_or_nothing: bool
    dry_run: bool
    accepted: int
    rejected: int
    duplicates: int
    segments: int
    price_micros: int | None
    price_currency: str | None
    made: int
    made_through: int
    idempotency_key: str | None
    heard_at: datetime
    due_at: datetime | None
    mark_at: datetime | None
    mark_left: int
    created_at: datetime
    accepted_at: datetime | None
    started_at: datetime | None
    canceled_at: datetime | None
    finished_at: datetime | None
    stirred_at: datetime | None = None

    @property
    def total(self) -> int:
        """Return how many rows there are, or were so far: what becomes of each is counted."""
        return self.accepted + self.rejected + self.duplicates


_COLUMNS = tuple(field.name for field in fields(Batch))


def to_batch(row: Row[Any]) -> Batch:
    """Return the batch of a row that has the columns of ``batches``."""
    return Batch(**{name: row._mapping[name] for name in _COLUMNS})  # noqa: SLF001 - SQLAlchemy's documented name

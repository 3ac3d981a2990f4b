"""The tables of webhooks, and what an endpoint's row means."""

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
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from smsapi.db import Json, UtcDateTime, metadata

# How a delivery stands. ``behind``: an earlier one of the same message to the same endpoint is not finished.
WAITING: Final = "waiting"
BEHIND: Final = "behind"
SENDING: Final = "sending"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"
OPEN_STATUSES: Final = (WAITING, BEHIND, SENDING)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    # Made with a test key: it is told of test events only.
    Column("test", Boolean, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Json, nullable=False),
    Column("description", Text),
    # In clear, for it signs: whoever can read this table can sign in our name. Emptied when the endpoint is deleted.
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    Column("previous_secret_until", UtcDateTime),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", String(32)),
    # Since when every attempt failed; NULL while the last one did not.
    Column("failing_since", UtcDateTime),
    # Its last answer took long: it gets no more than its share of the threads.
    Column("slow", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    Index("ix_webhook_endpoints_client_id_id", "client_id", "id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id"), nullable=False),
    Column("event_id", ForeignKey("events.id"), nullable=False),
    Column("message_id", Uuid),
    Column("seq", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    # Attempts so far, and how many of them since it was last begun anew.
    Column("attempts", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    # A claim counts this up and writes only while it still stands, as with messages.
    Column("epoch", Integer, nullable=False),
    # Waiting: when to try; sending: when the lease ends. NULL: nobody has to look.
    Column("due_at", UtcDateTime),
    # When it was begun, or begun anew.
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    UniqueConstraint("endpoint_id", "event_id", name="uq_webhook_deliveries_endpoint_id_event_id"),
    Index("ix_webhook_deliveries_event_id", "event_id"),
    Index("ix_webhook_deliveries_endpoint_id_status", "endpoint_id", "status"),
)
# Word for word the conditions of the partial indexes: SQLite uses an index only for a query that repeats it.
DUE = text("webhook_deliveries.due_at IS NOT NULL")
OPEN = text("webhook_deliveries.status IN ('waiting', 'behind', 'sending')")


def _partial(name: str, condition: str, *columns: str) -> None:
    where = text(condition)
    Index(name, *(webhook_deliveries.c[each] for each in columns), postgresql_where=where, sqlite_where=where)


_partial("ix_webhook_deliveries_due", "due_at IS NOT NULL", "endpoint_id", "due_at")
_partial("ix_webhook_deliveries_open", "status IN ('waiting', 'behind', 'sending')", "endpoint_id", "message_id", "seq")

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("delivery_id", ForeignKey("webhook_deliveries.id"), nullable=False),
    Column("endpoint_id", Uuid, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("number", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("milliseconds", Integer, nullable=False),
    # The status of the answer, where there was one, and why it does not count, where it does not.
    Column("status", Integer),
    Column("error", Text),
    Index("ix_webhook_attempts_delivery_id", "delivery_id"),
    Index("ix_webhook_attempts_endpoint_id_id", "endpoint_id", "id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of ``webhook_endpoints``; its fields are the columns."""

    id: UUID
    client_id: UUID
    test: bool
    url: str
    events: list[str]
    description: str | None
    secret: str
    previous_secret: str | None
    previous_secret_until: datetime | None
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    slow: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


_COLUMNS = tuple(field.name for field in fields(Endpoint))


def to_endpoint(row: Row[Any]) -> Endpoint:
    """Return the endpoint of a row that has the columns of ``webhook_endpoints``."""
    return Endpoint(**{name: row._mapping[name] for name in _COLUMNS})  # noqa: SLF001 - SQLAlchemy's documented name

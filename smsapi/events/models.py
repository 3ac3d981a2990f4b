"""The table of events."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, String, Table, Uuid, text

from smsapi.db import Json, UtcDateTime, metadata

events = Table(
    "events",
    metadata,
    Column("id", Uuid, primary_key=True),
    # Its place in the order of all events, given after it was committed. NULL: nobody but its message shows it yet.
    Column("seq", BigInteger),
    Column("message_id", ForeignKey("messages.id")),
    Column("client_id", Uuid, nullable=False),
    Column("test", Boolean, nullable=False),
    Column("type", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("data", Json, nullable=False),
    Index("ix_events_message_id_id", "message_id", "id"),
    Index("ix_events_client_id_seq", "client_id", "seq"),
    Index("ix_events_seq", "seq", unique=True),
)
# Word for word the condition of the index: SQLite uses it only for a query that repeats it.
UNNUMBERED = text("events.seq IS NULL")
Index("ix_events_unnumbered", events.c.id, postgresql_where=text("seq IS NULL"), sqlite_where=text("seq IS NULL"))

"""The table of events."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, String, Table, Uuid, select, text

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
    # When it was emptied of what names a person. Only for those without a message, whose age decides.
    Column("erased_at", UtcDateTime),
    Index("ix_events_client_id_seq", "client_id", "seq"),
)
# Word for word the conditions of the indexes: SQLite uses one only for a query that repeats it.
UNNUMBERED = text("events.seq IS NULL")
# Without an order PostgreSQL may look through the whole table for the first that it meets, where there is none.
FIRST_UNNUMBERED = select(events.c.id).where(UNNUMBERED).order_by(events.c.at, events.c.id).limit(1)
NOT_ERASED = text("events.message_id IS NULL AND events.erased_at IS NULL")


def _partial(name: str, condition: str, *columns: str, sqlite: str | None = None, unique: bool = False) -> None:
    on_columns = (events.c[each] for each in columns)
    where = (text(condition), text(sqlite or condition))
    Index(name, *on_columns, unique=unique, postgresql_where=where[0], sqlite_where=where[1])


# Each without the NULLs: a store that could find those by it would then sort them all.
_partial("ix_events_seq", "seq IS NOT NULL", "seq", unique=True)
# By time first: ids are made by the clocks of several machines, times by the one that they share.
_partial("ix_events_message_id_at_id", "message_id IS NOT NULL", "message_id", "at", "id")
_partial("ix_events_unnumbered", "seq IS NULL", "at", "id")
# Most events are no test ones: without it whoever reads those would pass all the others.
_partial("ix_events_test", "test", "client_id", "seq", sqlite="test = 1")
_partial("ix_events_not_erased", "message_id IS NULL AND erased_at IS NULL", "client_id", "at")

# The last event of a client that was forgotten, of all and of test ones: whoever stands there has missed nothing.
event_marks = Table(
    "event_marks",
    metadata,
    Column("client_id", Uuid, primary_key=True),
    Column("test", Boolean, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("seq", BigInteger, nullable=False),
)

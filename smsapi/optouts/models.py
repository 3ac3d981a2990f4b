"""The tables of the ledger: who is opted out now, and all that ever was said of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Boolean, Column, ForeignKey, Index, Row, String, Table, Text, Uuid, and_, or_, text
from sqlalchemy.sql import ColumnElement

from smsapi.db import Json, UtcDateTime, metadata

Source = Literal["keyword", "intent", "provider", "api", "import"]
SOURCES: Final = ("keyword", "intent", "provider", "api", "import")
ScopeName = Literal["client", "sender"]
SCOPES: Final = ("client", "sender")

opt_outs = Table(
    "opt_outs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("number", Text, nullable=False),
    # A test key's messages meet the entries that test keys made, and no others.
    Column("test", Boolean, nullable=False),
    # Whom it stops; a word of its own, since NULLs are never the same to a unique index.
    Column("holds_for", Text, nullable=False),
    # NULL: all clients that send from the sender.
    Column("client_id", ForeignKey("clients.id")),
    # NULL: all senders of the client.
    Column("sender", Text),
    Column("source", String(16), nullable=False),
    Column("reason", Text),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_opt_outs_number_test_holds_for", "number", "test", "holds_for", unique=True),
    Index("ix_opt_outs_client_id_id", "client_id", "id"),
    Index("ix_opt_outs_sender_id", "sender", "id"),
)

# Only ever added to: what proves that somebody opted out, or in again.
opt_out_log = Table(
    "opt_out_log",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("number", Text, nullable=False),
    Column("test", Boolean, nullable=False),
    Column("client_id", ForeignKey("clients.id")),
    Column("sender", Text),
    Column("action", String(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("evidence", Json, nullable=False),
    # Until when all was old by the time that what somebody said was taken out. NULL: it may be there.
    Column("forgotten_at", UtcDateTime),
    Index("ix_opt_out_log_number_id", "number", "id"),
)
# Word for word the conditions of the partial indexes: SQLite uses them only for a query that repeats them.
WITH_REASON = text("opt_outs.reason IS NOT NULL")
WITH_WORDS = text("opt_out_log.forgotten_at IS NULL")
_REASON, _WORDS = text("reason IS NOT NULL"), text("forgotten_at IS NULL")
Index("ix_opt_outs_reason", opt_outs.c.client_id, opt_outs.c.at, postgresql_where=_REASON, sqlite_where=_REASON)
Index("ix_opt_out_log_words", opt_out_log.c.client_id, opt_out_log.c.at, postgresql_where=_WORDS, sqlite_where=_WORDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whom an entry stops from texting ``number``.

    With a client only: that client. With a sender only: every client, from that sender. With both: that client from
    that sender. Test entries always have a client.
    """

    number: str
    client_id: UUID | None = None
    sender: str | None = None
    test: bool = False

    @property
    def key(self) -> str:
        """Return the word by which two entries for one number are told apart."""
        client = "*" if self.client_id is None else self.client_id.hex
        return f"{client}/{self.sender or '*'}"

    @property
    def name(self) -> ScopeName:
        """Return what callers know it as."""
        return "client" if self.sender is None else "sender"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """An entry that stands: whom it stops, since when, and how that came to be."""

    id: UUID
    scope: Scope
    source: str
    reason: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One line of the trail: ``action`` is created, repeated or removed."""

    id: UUID
    scope: Scope
    action: str
    source: str
    at: datetime
    evidence: dict[str, Any]


def blocks(*, number: Any, client_id: Any, sender: Any, test: Any) -> ColumnElement[bool]:
    """Return the condition on ``opt_outs`` of the entries that stop such a message; bound parameters do too."""
    row = opt_outs.c
    return and_(
        row.number == number,
        row.test == test,
        or_(row.client_id.is_(None), row.client_id == client_id),
        or_(row.sender.is_(None), row.sender == sender),
    )


def scope_of(row: Row[Any]) -> Scope:
    """Return the scope of a row of either table."""
    return Scope(number=row.number, client_id=row.client_id, sender=row.sender, test=row.test)


def to_opt_out(row: Row[Any]) -> OptOut:
    """Return the entry of a row of ``opt_outs``."""
    return OptOut(id=row.id, scope=scope_of(row), source=row.source, reason=row.reason, at=row.at)

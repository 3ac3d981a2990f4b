"""The table of delivery reports, each distinct one kept once, and the queries on it."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Row,
    Select,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    bindparam,
    delete,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from smsapi.db import UtcDateTime, metadata
from smsapi.ids import new_id
from smsapi.messages.models import Message, message_attempts, messages, to_message
from smsapi.receipts.facts import Receipt

WAITING: Final = "waiting"
APPLIED: Final = "applied"
MISMATCHED: Final = "mismatched"

receipts = Table(
    "receipts",
    metadata,
    Column("id", Uuid, primary_key=True),
    # No foreign key: a report may come before the message's own commit, and must not wait for whoever holds its row.
    Column("message_id", Uuid, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("source", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("said", String(16), nullable=False),
    Column("fact", String(16), nullable=False),
    Column("provider_uuid", String(64)),
    Column("sequence", Integer),
    Column("error_code", String(16)),
    Column("units", Integer),
    Column("amount_micros", BigInteger),
    Column("mcc", String(4)),
    Column("mnc", String(4)),
    Column("message_time", String(26)),
    Column("queued_time", String(26)),
    Column("sent_time", String(26)),
    Column("report_time", String(26)),
    Column("received_at", UtcDateTime, nullable=False),
    Column("applied_at", UtcDateTime),
    # When somebody has to look at it, while it waits for its message.
    Column("look_at", UtcDateTime),
    UniqueConstraint("message_id", "fingerprint", name="uq_receipts_message_id_fingerprint"),
)
# Word for word the condition of the partial index: SQLite uses it only for a query that repeats it.
_OPEN = text("receipts.look_at IS NOT NULL")
Index(
    "ix_receipts_look_at",
    receipts.c.look_at,
    postgresql_where=text("look_at IS NOT NULL"),
    sqlite_where=text("look_at IS NOT NULL"),
)
Index(
    "ix_receipts_provider_uuid",
    receipts.c.provider_uuid,
    postgresql_where=text("provider_uuid IS NOT NULL"),
    sqlite_where=text("provider_uuid IS NOT NULL"),
)

_FIELDS: Final = tuple(field.name for field in fields(Receipt))
_OF_MESSAGE = select(receipts).where(
    receipts.c.message_id == bindparam("of_message"), receipts.c.state != bindparam("but", MISMATCHED)
)
_FREE_MESSAGE = select(messages).where(messages.c.id == bindparam("message_id")).with_for_update(skip_locked=True)
_EXISTS = select(messages.c.id).where(messages.c.id == bindparam("message_id"))


def _bearers(message_id: Column[Any], uuid: Column[Any], *conditions: ColumnElement[bool]) -> Select[Any]:
    # The first condition is that of the partial index, without which SQLite does not use it.
    these = (uuid.is_not(None), uuid.in_(bindparam("uuids", expanding=True)), *conditions)
    return select(message_id.label("message_id"), uuid.label("uuid")).where(*these)


# A message that may have been sent more than once has more than one id, and shows the last.
_BY_ANSWERS = (
    _bearers(messages.c.id, messages.c.provider_uuid),
    _bearers(message_attempts.c.message_id, message_attempts.c.provider_uuid),
)
_OWNERS_BY_ANSWERS = union_all(*_BY_ANSWERS)
_OWNERS = union_all(
    *_BY_ANSWERS,
    _bearers(receipts.c.message_id, receipts.c.provider_uuid, receipts.c.state != MISMATCHED),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A receipt of the table; ``is_new`` while it has not been applied."""

    id: UUID
    receipt: Receipt
    is_new: bool


def keep(connection: Connection, message_id: UUID, receipt: Receipt, now: datetime, *, source: str) -> bool:
    """Store the receipt, to be looked at now; return False, changing nothing, where the same was stored before."""
    values = asdict(receipt)
    row = {"id": new_id(), "message_id": message_id, "source": source, "state": WAITING, **values}
    row |= {"fingerprint": _fingerprint(values), "received_at": now, "look_at": now}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    stored = dialect.insert(receipts).values(row).on_conflict_do_nothing().returning(receipts.c.id)
    return connection.execute(stored).first() is not None


def read_kept(connection: Connection, message_id: UUID) -> Sequence[Kept]:
    """Return all that Plivo said of the message but what is another's, applied or not."""
    found = connection.execute(_OF_MESSAGE, {"of_message": message_id})
    return [Kept(row.id, to_receipt(row), row.state == WAITING) for row in found]


def to_receipt(row: Row[Any]) -> Receipt:
    """Return the receipt of a row of the table."""
    return Receipt(**{name: row._mapping[name] for name in _FIELDS})  # noqa: SLF001 - SQLAlchemy's documented name


def lock_if_free(connection: Connection, message_id: UUID) -> Message | None:
    """Return the message, held until this transaction ends, or None, at once, where another holds it or it is not."""
    row = connection.execute(_FREE_MESSAGE, {"message_id": message_id}).one_or_none()
    return None if row is None else to_message(row)


def is_known(connection: Connection, message_id: UUID) -> bool:
    """Say whether there is such a message, as far as has been committed."""
    return connection.execute(_EXISTS, {"message_id": message_id}).first() is not None


def is_of_another(connection: Connection, message: Message, uuid: str | None) -> bool:
    """Say whether Plivo's id is known to be that of another message of ours."""
    if uuid is None or uuid == message.provider_uuid:
        return False
    # By Plivo's answers alone: what another's report once bore by mistake must not keep this one's reports away.
    found = connection.execute(_OWNERS_BY_ANSWERS, {"uuids": [uuid]})
    return any(row.message_id != message.id for row in found)


def owners_of(connection: Connection, uuids: Collection[str]) -> Mapping[str, AbstractSet[UUID]]:
    """Return which messages of ours each of Plivo's ids is known to belong to, by its answers and its reports."""
    found: dict[str, set[UUID]] = {uuid: set() for uuid in uuids}
    for row in connection.execute(_OWNERS, {"uuids": list(uuids)}) if uuids else ():
        found[row.uuid].add(row.message_id)
    return found


def texts_of(connection: Connection, message: Message, heard: Collection[str | None]) -> frozenset[str] | None:
    """Return Plivo's ids of the message's texts where there may be more than one text of it, else None.

    ``heard`` are the ids that its receipts bear. A text that went in a call with others has no id before its first
    receipt; in its place stands a word that no receipt bears.
    """
    if message.attempts <= 1:
        return None
    rows = message_attempts.c
    query = select(rows.outcome, rows.provider_uuid).where(rows.message_id == message.id)
    perhaps_taken = [row for row in connection.execute(query) if row.outcome in {"accepted", "unknown", None}]
    if len(perhaps_taken) <= 1:
        return None
    named = {row.provider_uuid.lower() for row in perhaps_taken if row.provider_uuid is not None}
    unnamed = sum(row.outcome == "accepted" and row.provider_uuid is None for row in perhaps_taken)
    of_unnamed = {uuid.lower() for uuid in heard if uuid is not None} - named
    silent = {f"unnamed {number}" for number in range(unnamed - len(of_unnamed))}
    return frozenset({*named, *silent, *({message.provider_uuid} - {None})})


def mark(connection: Connection, ids: Sequence[UUID], state: str, now: datetime) -> None:
    """Note what became of these receipts; nobody has to look at them again."""
    if ids:
        changes = {"state": state, "applied_at": now if state == APPLIED else None, "look_at": None}
        connection.execute(update(receipts).where(receipts.c.id.in_(ids)).values(**changes))


def due_messages(connection: Connection, now: datetime, limit: int) -> Sequence[UUID]:
    """Return the messages with a receipt that has to be looked at by now, longest due first; up to ``limit``."""
    columns = receipts.c
    query = select(columns.message_id).where(_OPEN, columns.look_at <= now).order_by(columns.look_at).limit(limit)
    return list(dict.fromkeys(row.message_id for row in connection.execute(query)))


def postpone(connection: Connection, message_id: UUID, until: datetime) -> None:
    """Look at the message's waiting receipts no sooner than then."""
    waiting = (receipts.c.message_id == message_id, receipts.c.state == WAITING)
    connection.execute(update(receipts).where(*waiting).values(look_at=until))


def oldest_waiting(connection: Connection, message_id: UUID) -> datetime | None:
    """Return since when a receipt of the message has waited, or None where none does."""
    columns = receipts.c
    query = select(columns.received_at).where(columns.message_id == message_id, columns.state == WAITING)
    return min((row.received_at for row in connection.execute(query)), default=None)


def drop_waiting(connection: Connection, message_id: UUID) -> int:
    """Forget the receipts that wait for this message; return how many they were."""
    waiting = (receipts.c.message_id == message_id, receipts.c.state == WAITING)
    return connection.execute(delete(receipts).where(*waiting)).rowcount


def _fingerprint(values: dict[str, Any]) -> bytes:
    return hashlib.sha256(repr([values[name] for name in _FIELDS]).encode()).digest()

"""The table of delivery reports, each distinct one kept once, and the queries on it."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    BindParameter,
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
    # The call on whose URL it came, where many messages shared that.
    Column("chunk_id", Uuid),
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

# When the next of all has to be looked at.
NEXT_REPORT: Final = select(receipts.c.look_at.label("due_at")).where(_OPEN).order_by(receipts.c.look_at).limit(1)
_FIELDS: Final = tuple(each.name for each in fields(Receipt))
# Built once: building a statement costs more than running it.
_KEEP: Final = {
    name: build.on_conflict_do_nothing().returning(receipts.c.message_id, receipts.c.fingerprint)
    for name, build in (("postgresql", postgresql.insert(receipts)), ("sqlite", sqlite.insert(receipts)))
}
_THESE: BindParameter[Any] = bindparam("these", expanding=True)
_OF_MESSAGES = select(receipts).where(receipts.c.message_id.in_(_THESE), receipts.c.state != MISMATCHED)
# In the order of their ids, as all do that hold several.
_FREE_MESSAGES = (
    select(messages).where(messages.c.id.in_(_THESE)).order_by(messages.c.id).with_for_update(skip_locked=True)
)
_KNOWN = select(messages.c.id).where(messages.c.id.in_(_THESE))


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
class Heard:
    """What is reported of a message, on the URL of this call where many shared it."""

    message_id: UUID
    receipt: Receipt
    chunk_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Kept(Heard):
    """A receipt of the table; ``is_new`` while it has not been applied."""

    id: UUID = field(kw_only=True)
    is_new: bool = field(kw_only=True)
    received_at: datetime = field(kw_only=True)


def keep(connection: Connection, heard: Sequence[Heard], now: datetime, *, source: str) -> Sequence[bool]:
    """Store these receipts, to be looked at now, in one statement; return of each whether it was not stored before."""
    rows = [_new_row(each, now, source) for each in heard]
    # In one order: whoever stores the same report at the same moment is waited for, and may wait for us.
    ordered = sorted(rows, key=lambda row: (row["message_id"], row["fingerprint"]))
    stored = {(row.message_id, row.fingerprint) for row in connection.execute(_KEEP[connection.dialect.name], ordered)}
    answers = []
    for row in rows:
        # Of two that are the same, the first is the one that was stored.
        which = (row["message_id"], row["fingerprint"])
        answers.append(which in stored)
        stored.discard(which)
    return answers


def _new_row(heard: Heard, now: datetime, source: str) -> dict[str, Any]:
    said = {name: getattr(heard.receipt, name) for name in _FIELDS}
    fingerprint = hashlib.sha256(repr(list(said.values())).encode()).digest()
    own = {"id": new_id(), "message_id": heard.message_id, "chunk_id": heard.chunk_id, "fingerprint": fingerprint}
    return own | said | {"source": source, "state": WAITING, "received_at": now, "look_at": now}


def read_kept(connection: Connection, message_ids: Collection[UUID]) -> Mapping[UUID, Sequence[Kept]]:
    """Return all that Plivo said of each of these messages but what is another's, applied or not."""
    found: dict[UUID, list[Kept]] = {message_id: [] for message_id in message_ids}
    for row in connection.execute(_OF_MESSAGES, {"these": list(message_ids)}):
        kept = Kept(
            row.message_id,
            to_receipt(row),
            row.chunk_id,
            id=row.id,
            is_new=row.state == WAITING,
            received_at=row.received_at,
        )
        found[row.message_id].append(kept)
    return found


def to_receipt(row: Row[Any]) -> Receipt:
    """Return the receipt of a row of the table."""
    return Receipt(**{name: row._mapping[name] for name in _FIELDS})  # noqa: SLF001 - SQLAlchemy's documented name


def lock_free_ones(connection: Connection, message_ids: Collection[UUID]) -> Sequence[Message]:
    """Return those of the messages that nobody else holds, at once, held until this transaction ends."""
    return [to_message(row) for row in connection.execute(_FREE_MESSAGES, {"these": list(message_ids)})]


def known_ones(connection: Connection, message_ids: Collection[UUID]) -> AbstractSet[UUID]:
    """Return those of the messages that there are, as far as has been committed."""
    return set(connection.execute(_KNOWN, {"these": list(message_ids)}).scalars()) if message_ids else set()


def borne_by_others(
    connection: Connection, borne: Collection[tuple[Message, str | None]]
) -> AbstractSet[tuple[UUID, str]]:
    """Return which of these messages are called by an id of Plivo's that is known to be another's, with that id."""
    doubtful = {(message.id, uuid) for message, uuid in borne if uuid is not None and uuid != message.provider_uuid}
    if not doubtful:
        return set()
    # By Plivo's answers alone: what another's report once bore by mistake must not keep this one's reports away.
    owners = connection.execute(_OWNERS_BY_ANSWERS, {"uuids": list({uuid for _, uuid in doubtful})}).all()
    return {
        (message_id, uuid)
        for message_id, uuid in doubtful
        if any(row.uuid == uuid and row.message_id != message_id for row in owners)
    }


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


def drop_waiting(connection: Connection, message_id: UUID) -> int:
    """Forget the receipts that wait for this message; return how many they were."""
    waiting = (receipts.c.message_id == message_id, receipts.c.state == WAITING)
    return connection.execute(delete(receipts).where(*waiting)).rowcount

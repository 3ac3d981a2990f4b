"""Idempotency-Key: the first answer is kept in the store, in the transaction of what it answers for; no Flask here."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Uuid,
    delete,
    select,
    update,
)

from smsapi.db import Database, Json, UtcDateTime, metadata
from smsapi.errors import IdempotencyInProgress, IdempotencyKeyInvalid, IdempotencyKeyReused
from smsapi.web.answers import Answer

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client_id", Uuid, primary_key=True),
    Column("route", String(128), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_sha256", LargeBinary(32), nullable=False),
    # What the request made, where its answer had to wait for more than this transaction.
    Column("subject_id", Uuid),
    # Until then the first request may still be running; after it, it has died and its twin answers for it.
    Column("locked_until", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("status", Integer),
    Column("content_type", String(64)),
    Column("headers", Json),
    Column("body", Text),
    Index("ix_idempotency_keys_expires_at", "expires_at"),
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One use of an Idempotency-Key: whose, where, which, and of what body."""

    client_id: UUID
    route: str
    key: str
    body_sha256: bytes


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The first request died before it answered; ``subject_id`` is what it had made."""

    subject_id: UUID


def read_key(header: str) -> str:
    """Return the key of an ``Idempotency-Key`` header, bare or as a quoted string.

    Raises:
        IdempotencyKeyInvalid: not 1 to 255 visible ASCII characters.

    """
    text = header.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not _KEY.fullmatch(text):
        raise IdempotencyKeyInvalid("The Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return text


def digest_of(body: Any) -> bytes:
    """Return the digest of a JSON value, the same however its object keys are ordered."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


def begin(
    connection: Connection,
    database: Database,
    claim: Claim,
    *,
    now: datetime,
    lock_seconds: float,
    ttl_seconds: float,
    subject_id: UUID | None = None,
) -> Answer | Abandoned | Literal["fresh"]:
    """Take the key for this request, or say what became of the one that took it before.

    ``fresh`` means that it is ours: the caller goes on in the same transaction and calls :func:`finish` then or
    later. PostgreSQL makes a twin wait here until the first transaction ends, so there is no gap between the two.

    Raises:
        IdempotencyKeyReused: the key came with another body before.
        IdempotencyInProgress: the first request is still running.

    """
    values = {
        "body_sha256": claim.body_sha256,
        "subject_id": subject_id,
        "locked_until": now + timedelta(seconds=lock_seconds),
        "expires_at": now + timedelta(seconds=ttl_seconds),
    }
    where = {"client_id": claim.client_id, "route": claim.route, "key": claim.key}
    insert = database.insert(idempotency_keys).values(**where, **values).on_conflict_do_nothing()
    if connection.execute(insert).rowcount == 1:
        return "fresh"
    row = connection.execute(select(idempotency_keys).filter_by(**where).with_for_update()).one()
    if row.expires_at <= now:
        forgotten = {"status": None, "content_type": None, "headers": None, "body": None}
        connection.execute(update(idempotency_keys).filter_by(**where).values(**values, **forgotten))
        return "fresh"
    if row.body_sha256 != claim.body_sha256:
        raise IdempotencyKeyReused("This Idempotency-Key was used with another body.")
    if row.status is not None:
        return Answer(row.status, row.body, dict(row.headers), row.content_type)
    if row.locked_until > now:
        wait = max(1, math.ceil((row.locked_until - now).total_seconds()))
        raise IdempotencyInProgress(
            "The first request with this Idempotency-Key is still running.", retry_after_seconds=min(wait, 5)
        )
    return Abandoned(row.subject_id)


def finish(connection: Connection, claim: Claim, answer: Answer) -> None:
    """Keep the answer for whoever comes again with the same key and body."""
    connection.execute(
        update(idempotency_keys)
        .filter_by(client_id=claim.client_id, route=claim.route, key=claim.key)
        .values(status=answer.status, content_type=answer.content_type, headers=dict(answer.headers), body=answer.body)
    )


def forget_expired(connection: Connection, now: datetime) -> int:
    """Delete the keys whose time is over; return how many."""
    return connection.execute(delete(idempotency_keys).where(idempotency_keys.c.expires_at <= now)).rowcount

"""Idempotency-Key: the first answer is kept in the store, in the transaction of what it answers for; no Flask here."""

import hashlib
import hmac
import json
import math
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from smsapi.db import Database, Json, UtcDateTime, metadata
from smsapi.errors import IdempotencyInProgress, IdempotencyKeyInvalid, IdempotencyKeyReused
from smsapi.settings import Settings
from smsapi.web.answers import Answer

FORGET_BATCH = 5_000
_IDENTITY = ("client_id", "route", "key")
# What an API key may not do is no answer to the client's other keys; releases before this one stored it.
_REFUSED_TO_ONE_KEY = 403
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
_MADE = text("subject_id IS NOT NULL")
Index("ix_idempotency_keys_subject_id", idempotency_keys.c.subject_id, postgresql_where=_MADE, sqlite_where=_MADE)


@dataclass(frozen=True, slots=True)
class Claim:
    """One use of an Idempotency-Key: whose, in which mode and where, which, and of what body.

    ``body_sha256`` is what is stored of the body, ``known_as`` what earlier secrets and releases would have stored.
    """

    client_id: UUID
    route: str
    key: str
    body_sha256: bytes
    known_as: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The first request died before it answered; ``subject_id`` is what it had made."""

    subject_id: UUID


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose keys they are: a client's, those of its live API keys apart from those of its test keys."""

    client_id: UUID
    live: bool


def claim_of(owner: Owner, route: str, key: str) -> Claim:
    """Return the use of a key at a route; its body is known by :func:`seal`.

    A rehearsal with a test key is never the answer to the real thing after it, on no route.
    """
    return Claim(owner.client_id, route if owner.live else of_test_keys(route), key, b"")


def of_test_keys(route: str) -> str:
    """Return the name under which the answers to test keys are kept."""
    return f"{route} (test)"


def seal(claim: Claim, digest: bytes, settings: Settings) -> Claim:
    """Return the claim for a body with this SHA-256, which is stored keyed with the secret that signs tokens.

    A body is known again by each of the earlier secrets, and by the bare digest that releases before this one stored.
    Nobody who reads the table can try out which number a body held.
    """
    secrets = (settings.jwt_secret or "", *settings.jwt_previous_secrets)
    marks = [_mark(claim, digest, secret) for secret in secrets]
    return replace(claim, body_sha256=marks[0], known_as=(*marks[1:], digest))


def _mark(claim: Claim, digest: bytes, secret: str) -> bytes:
    scoped = b"".join((b"smsapi-idempotency:", claim.client_id.bytes, digest))
    return hmac.digest(secret.encode(), scoped, "sha256")


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


def is_claimed(connection: Connection, claim: Claim) -> bool:
    """Say whether this key was used before, by a request that is remembered."""
    columns = idempotency_keys.c
    same = (columns.client_id == claim.client_id, columns.route == claim.route, columns.key == claim.key)
    remembered = columns.status.is_distinct_from(_REFUSED_TO_ONE_KEY)
    return connection.execute(select(columns.key).where(*same, remembered)).first() is not None


def entry_of(
    claim: Claim,
    *,
    now: datetime,
    lock_seconds: float,
    ttl_seconds: float,
    subject_id: UUID | None = None,
    given: Answer | None = None,
) -> dict[str, Any]:
    """Return the row that a claim makes: held for the lock's time, or with its answer where that is known already."""
    return {
        "client_id": claim.client_id,
        "route": claim.route,
        "key": claim.key,
        "body_sha256": claim.body_sha256,
        "subject_id": subject_id,
        "locked_until": now + timedelta(seconds=lock_seconds),
        "expires_at": now + timedelta(seconds=ttl_seconds),
        **answer_columns(given),
    }


def answer_columns(given: Answer | None) -> dict[str, Any]:
    """Return the part of a row that keeps the answer, or that says that there is none yet."""
    if given is None:
        return dict.fromkeys(("status", "content_type", "headers", "body"))
    return {
        "status": given.status,
        "content_type": given.content_type,
        "headers": dict(given.headers),
        "body": given.body,
    }


def begin(
    connection: Connection, database: Database, claim: Claim, entry: dict[str, Any], *, now: datetime
) -> Answer | Abandoned | Literal["fresh"]:
    """Take the key for this request, or say what became of the one that took it before.

    ``fresh`` means that it is ours: the caller goes on in the same transaction and calls :func:`finish` then or
    later. PostgreSQL makes a twin wait here until the first transaction ends, so there is no gap between the two.

    Raises:
        IdempotencyKeyReused: the key came with another body before.
        IdempotencyInProgress: the first request is still running.

    """
    where = {name: entry[name] for name in ("client_id", "route", "key")}
    if connection.execute(_claim_statement(database.is_postgresql), entry).first() is not None:
        return "fresh"
    row = connection.execute(select(idempotency_keys).filter_by(**where).with_for_update()).one_or_none()
    if row is None:
        # It had expired, and was forgotten between the two statements: the way is free now.
        return begin(connection, database, claim, entry, now=now)
    if row.expires_at <= now or row.status == _REFUSED_TO_ONE_KEY:
        connection.execute(update(idempotency_keys).filter_by(**where).values(**entry))
        return "fresh"
    if row.body_sha256 not in {claim.body_sha256, *claim.known_as}:
        raise IdempotencyKeyReused("This Idempotency-Key was used with another body.")
    if row.status is not None:
        return Answer(row.status, row.body, dict(row.headers), row.content_type)
    if row.locked_until > now:
        wait = max(1, math.ceil((row.locked_until - now).total_seconds()))
        raise IdempotencyInProgress(
            "The first request with this Idempotency-Key is still running.", retry_after_seconds=min(wait, 5)
        )
    return Abandoned(row.subject_id)


@cache
def _claim_statement(is_postgresql: bool) -> Executable:  # noqa: FBT001 - a cache keys on positions
    insert = postgresql.insert(idempotency_keys) if is_postgresql else sqlite.insert(idempotency_keys)
    # What comes back tells whether a row was written: a driver's row count may be unknown (-1) here.
    return insert.on_conflict_do_nothing().returning(idempotency_keys.c.key)


_FINISH = (
    update(idempotency_keys)
    .where(
        idempotency_keys.c.client_id == bindparam("of_client"),
        idempotency_keys.c.route == bindparam("of_route"),
        idempotency_keys.c.key == bindparam("of_key"),
        # A twin may have answered for a first request that was only slow; what it said is the answer.
        idempotency_keys.c.status.is_(None),
    )
    .values({name: bindparam(f"new_{name}") for name in ("status", "content_type", "headers", "body")})
    .returning(idempotency_keys.c.key)
)


def finish(connection: Connection, claim: Claim, answer: Answer) -> Answer:
    """Keep the answer for whoever comes again with the same key and body; one that is kept already stays.

    Return the one that is kept, so that all are told the same.
    """
    kept = connection.execute(
        _FINISH,
        {
            "of_client": claim.client_id,
            "of_route": claim.route,
            "of_key": claim.key,
            "new_status": answer.status,
            "new_content_type": answer.content_type,
            "new_headers": dict(answer.headers),
            "new_body": answer.body,
        },
    )
    if kept.first() is not None:
        return answer
    where = {"client_id": claim.client_id, "route": claim.route, "key": claim.key}
    row = connection.execute(select(idempotency_keys).filter_by(**where)).one_or_none()
    # Its time may be over, and the key forgotten.
    if row is None or row.status is None:
        return answer
    return Answer(row.status, row.body, dict(row.headers), row.content_type)


def forget_expired(connection: Connection, now: datetime) -> int:
    """Delete the keys whose time is over, at most ``FORGET_BATCH``; return how many."""
    spent = idempotency_keys.alias("spent")
    expired = spent.c.expires_at <= now
    if connection.dialect.name == "postgresql":
        # By their places: joined by their keys, they are compared each with each where PostgreSQL takes the table for
        # empty, as it does after a vacuum of a table that was. What others are busy with is left alone.
        places = select(literal_column("spent.ctid", String)).where(expired).limit(FORGET_BATCH)
        held = places.with_for_update(skip_locked=True).scalar_subquery()
        these: ColumnElement[bool] = literal_column("idempotency_keys.ctid") == func.any(func.array(held))
    else:
        own, others = ([table.c[name] for name in _IDENTITY] for table in (idempotency_keys, spent))
        these = tuple_(*own).in_(select(*others).where(expired).limit(FORGET_BATCH))
    return connection.execute(delete(idempotency_keys).where(these)).rowcount

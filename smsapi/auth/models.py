"""The tables of clients, API keys and revoked tokens, and what their rows mean."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Column, ForeignKey, Integer, LargeBinary, Row, String, Table, Text, Uuid

from smsapi.db import Json, UtcDateTime, metadata
from smsapi.web.idempotency import Owner

SCOPES = ("messages:send", "messages:read", "verify", "optouts", "webhooks", "keys", "usage", "admin")
MODES = ("live", "test")

clients = Table(
    "clients",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("default_sender", Text),
    Column("allowed_senders", Json),
    Column("allowed_countries", Json),
    Column("limits", Json, nullable=False),
    # Its share of the sending while several wait, against the others' in the same lane.
    Column("weight", Integer, nullable=False, server_default="1"),
    # Words that opt out of its texts, besides those that everybody knows.
    Column("optout_keywords", Json),
    # NULL: the setting's; 0: its messages are kept whatever the setting says.
    Column("retention_days", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("secret_sha256", LargeBinary(32), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    # The end of a rotation's overlap; apart from expires_at, which the keys that replace this one inherit.
    Column("retires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A calling service. ``None`` for countries means: no restriction of its own; for senders: its default alone."""

    id: UUID
    name: str
    default_sender: str | None
    allowed_senders: tuple[str, ...] | None
    allowed_countries: tuple[str, ...] | None
    limits: dict[str, str]
    weight: int
    optout_keywords: tuple[str, ...]
    retention_days: int | None
    created_at: datetime
    updated_at: datetime

    def senders(self, of_service: str | None) -> frozenset[str]:
        """Return whom it may send from; ``of_service`` is the sender of clients that have none (PLIVO_SENDER_ID)."""
        return senders_of(self.default_sender, self.allowed_senders, of_service)


def senders_of(default: str | None, allowed: Iterable[str] | None, of_service: str | None) -> frozenset[str]:
    """Return whom a client with these two columns may send from: what it is allowed, or else its default alone."""
    if allowed is not None:
        return frozenset(allowed)
    own = default or of_service
    return frozenset() if own is None else frozenset({own})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it may be shown: never with its secret."""

    id: UUID
    client_id: UUID
    name: str
    live: bool
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    retires_at: datetime | None
    revoked_at: datetime | None

    @property
    def mode(self) -> str:
        """Return ``live`` or ``test``."""
        return "live" if self.live else "test"

    @property
    def ends_at(self) -> datetime | None:
        """Return when the key stops working by itself: at its expiry, or before, where it was rotated."""
        return min((moment for moment in (self.expires_at, self.retires_at) if moment is not None), default=None)

    def works_at(self, moment: datetime) -> bool:
        """Say whether the key is neither revoked nor expired at this moment."""
        return self.revoked_at is None and (self.ends_at is None or moment < self.ends_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes this request, with which key, and what the credential allows."""

    client: Client
    key: ApiKey
    scopes: frozenset[str]
    token_ends_at: datetime | None = None

    @property
    def ends_at(self) -> datetime | None:
        """Return when the credential stops working by itself: the key, or the token before it."""
        ends = (self.key.ends_at, self.token_ends_at)
        return min((moment for moment in ends if moment is not None), default=None)

    @property
    def owner(self) -> Owner:
        """Return whose Idempotency-Keys this caller's are."""
        return Owner(self.client.id, live=self.key.live)


def _tuple(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def to_client(row: Row[Any], prefix: str = "") -> Client:
    """Return the client of a row that has the columns of ``clients``, each with this prefix to its name."""

    def value(name: str) -> Any:
        return getattr(row, prefix + name)

    return Client(
        id=value("id"),
        name=value("name"),
        default_sender=value("default_sender"),
        allowed_senders=_tuple(value("allowed_senders")),
        allowed_countries=_tuple(value("allowed_countries")),
        limits=dict(value("limits")),
        weight=value("weight"),
        optout_keywords=_tuple(value("optout_keywords")) or (),
        retention_days=value("retention_days"),
        created_at=value("created_at"),
        updated_at=value("updated_at"),
    )


def to_api_key(row: Row[Any]) -> ApiKey:
    """Return the key of a row that has the columns of ``api_keys``."""
    return ApiKey(
        id=row.id,
        client_id=row.client_id,
        name=row.name,
        live=row.live,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        retires_at=row.retires_at,
        revoked_at=row.revoked_at,
    )

"""Clients, keys and revocation: queries and decisions, within the caller's transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from smsapi.auth.models import (
    SCOPES,
    ApiKey,
    Caller,
    Client,
    api_keys,
    clients,
    revoked_tokens,
    to_api_key,
    to_client,
)
from smsapi.auth.secrets import PresentedKey, make_key
from smsapi.db import Database, hold_table
from smsapi.errors import InvalidInput, NotFound, ScopeMissing
from smsapi.ids import new_id
from smsapi.sms.sender import classify_sender

# Columns of both tables in one row: the client's with a prefix, the key's bare.
_KEY_AND_CLIENT = select(
    api_keys, *(column.label(f"client_{column.name}") for column in clients.c if column.name != "id")
).join(clients, clients.c.id == api_keys.c.client_id)
# Built once: building a statement costs more than running it.
_BY_KEY = _KEY_AND_CLIENT.where(api_keys.c.id == bindparam("key_id"))
_BY_TOKEN = _BY_KEY.where(~exists().where(revoked_tokens.c.jti == bindparam("jti")))


def create_client(connection: Connection, now: datetime, *, name: str, **values: Any) -> Client:
    """Store a new client; ``values`` are its other columns. It has no key yet.

    Raises:
        InvalidInput: its default sender is not among the senders that it is allowed, or is another client's.

    """
    row: dict[str, Any] = {
        "default_sender": None,
        "allowed_senders": None,
        "allowed_countries": None,
        "limits": {},
        "weight": 1,
        "optout_keywords": [],
        "retention_days": None,
        **values,
    }
    check_default_sender(row["default_sender"], row["allowed_senders"])
    client_id = new_id()
    _check_is_nobody_else_s(connection, client_id, row["default_sender"], row["allowed_senders"])
    connection.execute(insert(clients).values(id=client_id, name=name, created_at=now, updated_at=now, **row))
    return get_client(connection, client_id)


def check_default_sender(sender: str | None, allowed: Collection[str] | None) -> None:
    """Raise :class:`InvalidInput` where the default sender is one that every message would be refused for."""
    if sender is not None and allowed is not None and sender not in allowed:
        raise InvalidInput.at("/default_sender", "Must be one of the client's allowed senders.")


def _check_is_nobody_else_s(
    connection: Connection, client_id: UUID, sender: str | None, allowed: Collection[str] | None
) -> None:
    """Refuse a default that people can answer to and that another client names, unless it is allowed by name.

    Their answers would go to whoever texted them last.
    """
    if sender is None or allowed is not None or classify_sender(sender).kind == "alphanumeric":
        return
    # Two that name it at once would each find that nobody else does.
    hold_table(connection, clients)
    rows = connection.execute(
        select(clients.c.default_sender, clients.c.allowed_senders).where(clients.c.id != client_id)
    )
    if any(sender == row.default_sender or sender in (row.allowed_senders or ()) for row in rows):
        raise InvalidInput.at(
            "/default_sender", "Another client names this sender. To share it, put it into allowed_senders as well."
        )


def get_client(connection: Connection, client_id: UUID, *, lock: bool = False) -> Client:
    """Return the client, or raise :class:`NotFound`; with ``lock``, nobody else changes it in this transaction."""
    query = select(clients).where(clients.c.id == client_id)
    if lock:
        # Not the id: that would hold up every message and key that is stored for the client meanwhile.
        query = query.with_for_update(key_share=True)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("There is no such client.")
    return to_client(row)


def list_clients(connection: Connection, *, limit: int, before: UUID | None) -> Sequence[Client]:
    """Return up to ``limit + 1`` clients, newest first, older than ``before``."""
    query = select(clients).order_by(clients.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(clients.c.id < before)
    return [to_client(row) for row in connection.execute(query)]


def update_client(connection: Connection, now: datetime, client_id: UUID, changes: dict[str, Any]) -> Client:
    """Change these columns of the client; its next request sees them, on every process.

    Raises:
        InvalidInput: its default sender would not be among the senders that it is allowed.

    """
    # Locked: of two changes at once, to the default and to what is allowed, the second sees the first.
    old = get_client(connection, client_id, lock=True)
    default = changes.get("default_sender", old.default_sender)
    allowed = changes.get("allowed_senders", old.allowed_senders)
    check_default_sender(default, allowed)
    if {"default_sender", "allowed_senders"} & changes.keys():
        _check_is_nobody_else_s(connection, client_id, default, allowed)
    connection.execute(update(clients).where(clients.c.id == client_id).values(updated_at=now, **changes))
    return get_client(connection, client_id)


def issue_key(
    connection: Connection,
    now: datetime,
    *,
    client_id: UUID,
    name: str,
    live: bool,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Store a new key for a client; return it and its secret form, which is stored nowhere."""
    get_client(connection, client_id)
    key_id = new_id()
    shown, digest = make_key(key_id, live=live)
    key = ApiKey(
        id=key_id,
        client_id=client_id,
        name=name,
        live=live,
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created_at=now,
        expires_at=expires_at,
        retires_at=None,
        revoked_at=None,
    )
    connection.execute(
        insert(api_keys).values(
            id=key.id,
            client_id=key.client_id,
            name=key.name,
            live=key.live,
            scopes=list(key.scopes),
            secret_sha256=digest,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
    )
    return key, shown


def set_scopes(connection: Connection, key_id: UUID, scopes: Sequence[str]) -> None:
    """Give a key these scopes in place of its own; its secret stays the same."""
    kept = [scope for scope in SCOPES if scope in scopes]
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(scopes=kept))


def check_may_mint(caller: Caller, *, live: bool, scopes: Sequence[str]) -> None:
    """Raise :class:`ScopeMissing` where the new key could do what the caller cannot."""
    if lacking := [scope for scope in scopes if scope not in caller.scopes]:
        raise ScopeMissing(f"You cannot give a scope that you lack: {', '.join(lacking)}.")
    if live and not caller.key.live:
        raise ScopeMissing("A test key cannot make a live key.")


def latest_expiry(caller: Caller, wanted: datetime | None) -> datetime | None:
    """Return when a key that the caller makes ends: when it is wanted to, and no later than the caller's credential."""
    return min((moment for moment in (wanted, caller.ends_at) if moment is not None), default=None)


def check_may_end(caller: Caller, key: ApiKey) -> None:
    """Raise :class:`ScopeMissing` where a test key would stop a live one, or one that can do more than the caller."""
    check_may_end_token(caller, key)
    if "admin" not in caller.scopes and (lacking := [scope for scope in key.scopes if scope not in caller.scopes]):
        raise ScopeMissing(f"You cannot revoke a key with scopes that you lack: {', '.join(lacking)}.")


def check_may_end_token(caller: Caller, key: ApiKey) -> None:
    """Raise :class:`ScopeMissing` where a test key would stop a token of a live one."""
    if key.live and not caller.key.live:
        raise ScopeMissing("A test key cannot revoke a live key.")


def check_may_change_clients(caller: Caller) -> None:
    """Raise :class:`ScopeMissing` where a test key would change what live messages depend on."""
    if not caller.key.live:
        raise ScopeMissing("A test key cannot change clients.")


def get_key(connection: Connection, key_id: UUID, *, client_id: UUID | None, lock: bool = False) -> ApiKey:
    """Return the key, of this client only where one is given, or raise :class:`NotFound`."""
    query = select(api_keys).where(api_keys.c.id == key_id)
    if lock:
        query = query.with_for_update()
    if client_id is not None:
        query = query.where(api_keys.c.client_id == client_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("There is no such API key.")
    return to_api_key(row)


def list_keys(connection: Connection, *, client_id: UUID | None, limit: int, before: UUID | None) -> Sequence[ApiKey]:
    """Return up to ``limit + 1`` keys, newest first, of this client or of all."""
    query = select(api_keys).order_by(api_keys.c.id.desc()).limit(limit + 1)
    if client_id is not None:
        query = query.where(api_keys.c.client_id == client_id)
    if before is not None:
        query = query.where(api_keys.c.id < before)
    return [to_api_key(row) for row in connection.execute(query)]


def revoke_key(connection: Connection, now: datetime, key_id: UUID, *, client_id: UUID | None) -> None:
    """Revoke the key, and with it every token minted from it; twice is the same as once."""
    get_key(connection, key_id, client_id=client_id)
    connection.execute(
        update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None)).values(revoked_at=now)
    )


def rotate_key(
    connection: Connection,
    now: datetime,
    key_id: UUID,
    *,
    client_id: UUID | None,
    overlap_seconds: int,
    until: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Issue a key like this one, which itself stops working after the overlap; raise NotFound for a dead one.

    The new key ends when the old one was meant to, and no later than ``until``.

    Rotated again, a key ends at the earlier of both overlaps; what replaces it lives as long as the first was meant to.
    """
    # Locked, so that of two rotations at once the shorter overlap holds, whichever comes first.
    old = get_key(connection, key_id, client_id=client_id, lock=True)
    if not old.works_at(now):
        raise NotFound("This API key has expired or was revoked; it cannot be rotated.")
    end = now + timedelta(seconds=overlap_seconds)
    last = end if old.retires_at is None else min(end, old.retires_at)
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(retires_at=last))
    return issue_key(
        connection,
        now,
        client_id=old.client_id,
        name=old.name,
        live=old.live,
        scopes=old.scopes,
        expires_at=min((moment for moment in (old.expires_at, until) if moment is not None), default=None),
    )


def find_by_key(connection: Connection, now: datetime, presented: PresentedKey) -> Caller | None:
    """Return who calls with this key, or None where it is wrong, expired or revoked."""
    row = connection.execute(_BY_KEY, {"key_id": presented.id}).one_or_none()
    # The comparison is made for an unknown id too, so that its time does not tell whether the id exists.
    stored, live = (bytes(32), False) if row is None else (row.secret_sha256, row.live)
    if not presented.matches(stored, live=live) or row is None:
        return None
    return _caller(row, now)


def find_by_token(connection: Connection, now: datetime, *, key_id: UUID, jti: str) -> Caller | None:
    """Return who calls with a token of this key, or None where the token or the key no longer works."""
    row = connection.execute(_BY_TOKEN, {"key_id": key_id, "jti": jti}).one_or_none()
    return None if row is None else _caller(row, now)


def _caller(row: Any, now: datetime) -> Caller | None:
    key = to_api_key(row)
    if not key.works_at(now):
        return None
    return Caller(client=to_client(row, "client_"), key=key, scopes=frozenset(key.scopes))


def revoke_token(connection: Connection, database: Database, now: datetime, *, jti: str, expires_at: datetime) -> None:
    """Refuse the token from now on, on every process; forget the revocations that time has overtaken."""
    connection.execute(delete(revoked_tokens).where(revoked_tokens.c.expires_at <= now))
    connection.execute(database.insert(revoked_tokens).values(jti=jti, expires_at=expires_at).on_conflict_do_nothing())


def any_client_named(connection: Connection, name: str) -> Client | None:
    """Return the oldest client with this name, or None."""
    row = connection.execute(
        select(clients).where(clients.c.name == name).order_by(clients.c.id).limit(1)
    ).one_or_none()
    return None if row is None else to_client(row)

"""Credentials of every kind, good and forged, and calls that carry just what is given."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import jwt
from flask import Flask
from sqlalchemy import Column, create_engine, text
from werkzeug.test import TestResponse

from smsapi.auth.tokens import kid_of
from smsapi.clock import ManualClock
from smsapi.db import metadata
from smsapi.deps import Deps
from tests.support.api import Caller

T = TypeVar("T")


def world(app: Flask) -> Deps:
    found: Deps = app.extensions["smsapi"]
    return found


def clock_at_present() -> ManualClock:
    return ManualClock(datetime.now(UTC))


def call(
    app: Flask,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    address: str = "127.0.0.1",
    **body: Any,
) -> TestResponse:
    """Call with these headers and no other credential, from this address."""
    environ = {"REMOTE_ADDR": address}
    return app.test_client().open(path, method=method, headers=dict(headers or {}), environ_overrides=environ, **body)


def ask_for_token(app: Flask, key: str, scope: str | None = None, **how: Any) -> TestResponse:
    body = {"api_key": key} if scope is None else {"api_key": key, "scope": scope}
    return call(app, "POST", "/v1/auth/token", json=body, **how)


def token_of(caller: Caller, scope: str | None = None) -> str:
    answer = ask_for_token(caller.app, caller.key, scope)
    assert answer.status_code == 200, answer.text
    token: str = answer.get_json()["access_token"]
    return token


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def whoami(app: Flask, token: str, **how: Any) -> TestResponse:
    return call(app, "GET", "/v1/auth/whoami", bearer(token), **how)


def with_key(app: Flask, key: str, **how: Any) -> TestResponse:
    return call(app, "GET", "/v1/auth/whoami", {"X-API-Key": key}, **how)


def forge(token: str, secret: str, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Sign the claims of a real token anew; a claim that is None is left out."""
    found = {**jwt.decode(token, options={"verify_signature": False}), **claims}
    kept = {name: value for name, value in found.items() if value is not None}
    given = {"kid": kid_of(secret), **(header or {})}
    return jwt.encode(kept, secret, algorithm=given.get("alg", "HS256"), headers=given)


def at_once(act: Callable[[int], T], times: int) -> list[T]:
    """Return what ``act`` gave in so many threads that all began together."""
    start = threading.Barrier(times)

    def run(number: int) -> T:
        start.wait(30)
        return act(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


def everything_stored(app: Flask) -> str:
    """Return every value of every table as text, binary ones in hex."""
    found = []
    with world(app).database.read() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(table.select()):
                found += [value.hex() if isinstance(value, bytes) else repr(value) for value in row]
    return "\n".join(found)


def change_row(app: Flask, column: Column[Any], shown_id: str, value: Any) -> None:
    """Write one column of the row with this id, as an operator would; no route does it."""
    row = UUID(hex=shown_id.partition("_")[2])
    with world(app).database.transaction() as connection:
        connection.execute(column.table.update().where(column.table.c.id == row).values({column.name: value}))


def unlike(letter: str) -> str:
    return "b" if letter == "a" else "a"


def run_on_server(url: str, statement: str) -> None:
    """Run one statement outside a transaction (CREATE DATABASE wants that)."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()

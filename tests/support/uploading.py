"""Batches as a caller sends them: files with the rest in the query, in process."""

import gzip
import threading
from typing import Any

from sqlalchemy import func, select
from werkzeug.test import TestResponse

from smsapi.batches.models import batch_rejects, batch_rows, batches
from smsapi.db import Database
from smsapi.messages.models import messages
from tests.support.api import Caller

CSV = "text/csv"
LINES = "application/x-ndjson"


def upload(
    caller: Caller,
    body: str | bytes,
    *,
    kind: str = CSV,
    packed: bool = False,
    headers: dict[str, str] | None = None,
    **query: Any,
) -> TestResponse:
    """POST /v1/batches with a file; ``sender`` stands for the field ``from``."""
    content = body.encode() if isinstance(body, str) else body
    given = {"X-API-Key": caller.key, "Content-Type": kind, **(headers or {})}
    if packed:
        content, given = gzip.compress(content), {**given, "Content-Encoding": "gzip"}
    if "sender" in query:
        query["from"] = query.pop("sender")
    asked = {"text": "Hello", **query}
    return caller.app.test_client().post("/v1/batches", query_string=asked, data=content, headers=given)


def rejects(caller: Caller, batch_id: str) -> list[tuple[int, str, str]]:
    """Return the row, the value and the code of each reject."""
    found = caller.get(f"/v1/batches/{batch_id}/rejects?limit=100").get_json()["data"]
    return [(each["row"], each["value"], each["code"]) for each in found]


def texts(caller: Caller, batch_id: str) -> dict[str, str]:
    """Return the text of each message that was made, by its number."""
    found = caller.get(f"/v1/batches/{batch_id}/messages?limit=100").get_json()["data"]
    return {each["to"]: each["text"] for each in found}


def left_behind(database: Database) -> dict[str, int]:
    """Return how many rows there are of anything that a batch leaves in the store; nothing that is zero."""
    with database.read() as connection:
        counts = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (batches, batch_rows, batch_rejects, messages)
        }
    return {name: count for name, count in counts.items() if count}


def numbers(count: int, start: int = 0) -> list[str]:
    """Return so many possible numbers, each another."""
    return [f"+1415{2_000_000 + start + each}" for each in range(count)]


class Held:
    """A body that comes as far as ``first``, says so, and goes on when it is let go."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self._parts = [first, rest]
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def read(self, size: int = -1) -> bytes:
        del size
        if len(self._parts) == 1:
            self.reached.set()
            assert self.go_on.wait(20)
        return self._parts.pop(0) if self._parts else b""


def stream(caller: Caller, source: Any, *, length: int | None = None, **query: Any) -> TestResponse:
    """POST a CSV that is read as it comes; without a length, as in chunks."""
    environ = {"wsgi.input": source, "wsgi.input_terminated": True}
    if length is not None:
        environ["CONTENT_LENGTH"] = str(length)
    asked = {"text": "Hello", **{name: each for name, each in query.items() if name != "headers"}}
    given = {"X-API-Key": caller.key, "Content-Type": CSV, **query.get("headers", {})}
    return caller.app.test_client().post("/v1/batches", query_string=asked, headers=given, environ_overrides=environ)

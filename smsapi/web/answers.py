"""An answer as plain values, so that it can be stored and given again; no Flask here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a JSON text, and the headers that belong to the answer's meaning."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON


def to_json(payload: Any) -> str:
    """Return the payload as JSON with a line end, so that a shell's prompt does not stand behind it."""
    return orjson.dumps(payload, option=orjson.OPT_APPEND_NEWLINE).decode()


def answer(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer that carries this payload as JSON."""
    return Answer(status, to_json(payload), dict(headers or {}))

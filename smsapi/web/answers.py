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


def answer(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer that carries this payload as JSON."""
    return Answer(status, orjson.dumps(payload).decode(), dict(headers or {}))

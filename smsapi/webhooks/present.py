"""An event as callers are told of it, by webhook and in the list alike; an endpoint and an attempt as they see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Row, Select, select

from smsapi.clock import rfc3339
from smsapi.events.models import events
from smsapi.ids import show_id
from smsapi.messages.models import messages
from smsapi.messages.statuses import STATUSES
from smsapi.webhooks.models import Endpoint

MAX_PAYLOAD_BYTES: Final = 20_000
_FROM_MESSAGE: Final = ("to_number", "sender", "category", "reference")
_OF_EVENT: Final = ("id", "seq", "client_id", "message_id", "test", "type", "at", "data")
# What tells which inbound text or person an event is about; it is short.
_NEVER_LEFT_OUT: Final = frozenset({"id", "from", "to", "number"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event with what its message, where it has one, is known by."""

    id: UUID
    seq: int | None
    client_id: UUID
    message_id: UUID | None
    test: bool
    type: str
    at: datetime
    data: Mapping[str, Any]
    to_number: str | None
    sender: str | None
    category: str | None
    reference: str | None
    message_metadata: Mapping[str, str] | None


def select_told() -> Select[Any]:
    """Return the query of events with what they need to be told."""
    named = (messages.c[name] for name in _FROM_MESSAGE)
    # Of the message as it is now: what was erased of it is told no more, however often an event is.
    joined = events.outerjoin(messages, events.c.message_id == messages.c.id)
    own = (events.c[name] for name in _OF_EVENT)
    return select(*own, *named, messages.c.metadata.label("message_metadata")).select_from(joined)


def to_told(row: Row[Any]) -> Told:
    """Return the event of a row of :func:`select_told`."""
    return Told(**row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name


def present_told(event: Told) -> dict[str, Any]:
    """Return the event as callers are told of it, in no more than 20,000 bytes of JSON.

    Where there would be more, the message's ``metadata`` goes first, then the largest of what is particular to the
    event, one after the other, but never what it is known by; ``truncated`` says so.
    """
    shown = {"id": show_id("evt", event.id), "type": event.type, "at": rfc3339(event.at), "test": event.test}
    base = _of_message(event)
    whole = {**base, **({"metadata": event.message_metadata or {}} if base else {}), **event.data}
    told = {**shown, "data": whole}
    if len(orjson.dumps(told)) <= MAX_PAYLOAD_BYTES:
        return told
    kept = _NEVER_LEFT_OUT | base.keys()
    particular = sorted(event.data.keys() - kept, key=lambda name: len(orjson.dumps(event.data[name])))
    while len(orjson.dumps(told)) > MAX_PAYLOAD_BYTES and (particular or "metadata" in whole):
        whole.pop("metadata" if "metadata" in whole else particular.pop(), None)
        told = {**shown, "data": {**whole, "truncated": True}}
    return told


def _of_message(event: Told) -> dict[str, Any]:
    if event.message_id is None:
        return {}
    status = event.type.removeprefix("message.")
    return {
        "message_id": show_id("msg", event.message_id),
        **({"status": status} if status in STATUSES else {}),
        "to": event.to_number,
        "from": event.sender,
        "category": event.category,
        "reference": event.reference,
    }


def present_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """Return the endpoint as callers see it, without its secret."""
    return {
        "id": show_id("whe", endpoint.id),
        "client_id": show_id("cli", endpoint.client_id),
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "test": endpoint.test,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": None if endpoint.failing_since is None else rfc3339(endpoint.failing_since),
        "created_at": rfc3339(endpoint.created_at),
        "updated_at": rfc3339(endpoint.updated_at),
    }


def present_attempt(row: Row[Any]) -> dict[str, Any]:
    """Return an attempt as callers see it."""
    return {
        "event_id": show_id("evt", row.event_id),
        "event_type": row.type,
        "number": row.number,
        "at": rfc3339(row.started_at),
        "milliseconds": row.milliseconds,
        "status": row.status,
        "error": row.error,
        "delivery_status": row.delivery_status,
    }

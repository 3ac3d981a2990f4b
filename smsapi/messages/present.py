"""A message as callers see it."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from smsapi.clock import rfc3339
from smsapi.events.store import Event
from smsapi.ids import show_id
from smsapi.messages.models import Message
from smsapi.messages.waiting import waits_for

MICROS = 1_000_000


def present_message(message: Message, hold_of_lane: Callable[[int], str | None] = lambda _: None) -> dict[str, Any]:
    """Return the message resource of the contract.

    ``hold_of_lane`` tells what keeps the messages of a lane from being sent; by default, of which nothing is known.
    """
    return {
        "id": show_id("msg", message.id),
        "client_id": show_id("cli", message.client_id),
        "to": message.to_number,
        "from": message.sender,
        "text": message.text,
        "status": message.status,
        "category": message.category,
        "encoding": message.encoding,
        "segments": message.segments,
        "price": _price(message),
        "provider": {
            "name": message.provider_name,
            "message_uuid": message.provider_uuid,
            "error_code": message.provider_error_code,
        },
        "error": (
            None
            if message.error_code is None
            else {"code": message.error_code, "message": message.error_message or message.error_code}
        ),
        "reference": message.reference,
        "metadata": message.metadata,
        "batch_id": None if message.batch_id is None else show_id("bat", message.batch_id),
        "test": message.test,
        "attempts": message.attempts,
        "waiting_for": waits_for(message, hold_of_lane),
        "created_at": rfc3339(message.created_at),
        "updated_at": rfc3339(message.updated_at),
        "send_at": _moment(message.send_at),
        "sent_at": _moment(message.sent_at),
        "delivered_at": _moment(message.delivered_at),
    }


def present_event(event: Event) -> dict[str, Any]:
    """Return the event as callers see it."""
    return {"id": show_id("evt", event.id), "type": event.type, "at": rfc3339(event.at), "data": event.data}


def show_micros(micros: int) -> str:
    """Return millionths as a decimal text with at least five places, as Plivo writes amounts."""
    amount = Decimal(micros) / MICROS
    return f"{amount:.5f}" if amount == amount.quantize(Decimal("0.00001")) else f"{amount:.6f}"


def _price(message: Message) -> dict[str, Any] | None:
    if message.price_micros is None:
        return None
    return {
        "amount": show_micros(message.price_micros),
        "currency": message.price_currency,
        "estimated": message.price_estimated,
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)

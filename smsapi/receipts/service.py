"""A delivery report, read and applied: forward only, however late, repeated or out of order it comes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, update

from smsapi.clock import Clock
from smsapi.messages.models import Message, messages
from smsapi.messages.present import MICROS
from smsapi.messages.statuses import DELIVERED, EXPIRED, FAILED, SENT, UNDELIVERED, advance
from smsapi.messages.store import add_event, lock_message

# Plivo's words for a status (plivo-facts 2.6). "queued" tells that Plivo has the message, which is our "sent".
_FACTS = {
    "queued": SENT,
    "sent": SENT,
    "delivered": DELIVERED,
    "read": DELIVERED,
    "undelivered": UNDELIVERED,
    "failed": FAILED,
    "rejected": FAILED,
}
# 420: the message's own expiry passed in Plivo's queue; it was not sent and not charged (plivo-facts 2.7).
_EXPIRED_CODE = "420"
_SUCCESS_CODES = frozenset({"", "000", "0"})
_UUID = re.compile(r"[0-9A-Za-z-]{1,64}")
_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_UNITS = re.compile(r"[0-9]{1,4}", re.ASCII)
_CODE = re.compile(r"[0-9A-Za-z_-]{1,16}")

_REASONS = {
    UNDELIVERED: "The carrier did not deliver the message.",
    FAILED: "Plivo could not send the message.",
    EXPIRED: "The message expired in Plivo's queue.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one delivery report says; a field that is missing or not understood is None."""

    fact: str
    provider_uuid: str | None
    error_code: str | None
    units: int | None
    amount_micros: int | None


def read_receipt(fields: Mapping[str, str]) -> Receipt | None:
    """Return what the form fields of a report say, or None where its status is none that we know."""
    code = fields.get("ErrorCode", "")
    fact = _FACTS.get(fields.get("Status", "").lower())
    if fact is None:
        return None
    if fact == FAILED and code == _EXPIRED_CODE:
        fact = EXPIRED
    uuid, amount, units = (fields.get(name, "") for name in ("MessageUUID", "TotalAmount", "Units"))
    return Receipt(
        fact=fact,
        provider_uuid=uuid if _UUID.fullmatch(uuid) else None,
        error_code=code if code not in _SUCCESS_CODES and _CODE.fullmatch(code) else None,
        units=int(units) if _UNITS.fullmatch(units) else None,
        amount_micros=int(Decimal(amount) * MICROS) if _AMOUNT.fullmatch(amount) else None,
    )


@dataclass(frozen=True, slots=True)
class Applied:
    """What a report did: ``applied``, ``repeated`` or ``unknown_message``, and how the message stands after it."""

    result: str
    status: str | None = None
    message: Message | None = None


def apply_receipt(
    connection: Connection,
    clock: Clock,
    message_id: UUID,
    receipt: Receipt,
    *,
    evidence: Mapping[str, Any] = MappingProxyType({"source": "receipt"}),
) -> Applied:
    """Move the message forward as the report says, and say what that came to; the event holds the evidence."""
    message = lock_message(connection, message_id)
    if message is None:
        return Applied("unknown_message")
    now = clock.now()
    status = advance(message.status, receipt.fact)
    changes = _settled_price(message, receipt)
    if status != message.status:
        changes |= _moved(message, status, receipt, now)
    if not changes:
        return Applied("repeated", status, message)
    connection.execute(update(messages).where(messages.c.id == message.id).values(updated_at=now, **changes))
    if status == message.status:
        return Applied("repeated", status, message)
    add_event(connection, message, f"message.{status}", now, _evidence(status, receipt, evidence))
    return Applied("applied", status, message)


def _moved(message: Message, status: str, receipt: Receipt, now: datetime) -> dict[str, Any]:
    reason = _REASONS.get(status)
    failed = status in {FAILED, EXPIRED}
    return {
        "status": status,
        # It may come before our own note of who took the message, or in its place.
        "provider_name": message.provider_name or ("test" if message.test else "plivo"),
        "provider_uuid": message.provider_uuid or receipt.provider_uuid,
        "provider_error_code": receipt.error_code,
        "error_code": None if reason is None else status,
        "error_message": reason,
        "sent_at": message.sent_at or (None if failed else now),
        "delivered_at": now if status == DELIVERED else None,
        # Nothing is left to do for it, unless a test key's further reports are still to be played.
        **({} if message.test else {"due_at": None}),
    }


def _settled_price(message: Message, receipt: Receipt) -> dict[str, Any]:
    """Return what the report settles of the estimate: segments and price as Plivo counts them."""
    changes: dict[str, Any] = {}
    if receipt.units and receipt.units != message.segments:
        changes["segments"] = receipt.units
    if receipt.amount_micros is not None and (message.price_estimated or message.price_micros != receipt.amount_micros):
        currency = message.price_currency or "USD"  # Plivo bills in US dollars
        changes |= {"price_micros": receipt.amount_micros, "price_currency": currency, "price_estimated": False}
    return changes


def _evidence(status: str, receipt: Receipt, evidence: Mapping[str, Any]) -> dict[str, Any]:
    data = dict(evidence)
    if receipt.provider_uuid is not None:
        data["message_uuid"] = receipt.provider_uuid
    if status in _REASONS:
        data["error"] = {"code": status, "message": _REASONS[status], "provider_code": receipt.error_code}
    return data

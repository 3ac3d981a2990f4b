"""What a caller asks to be sent, as plain values."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One message as it was asked for; the schema has checked its form, nothing else has been decided."""

    to: str
    text: str
    sender: str | None
    expires_in: int | None
    max_segments: int | None
    max_price: Decimal | None
    smart_encoding: bool
    category: str
    reference: str | None
    metadata: dict[str, str]
    dlt: dict[str, Any] | None
    send_at: datetime | None
    on_unknown: str


def bounds_of(order: Order) -> dict[str, Any]:
    """Return what the order holds its message to, as JSON keeps it; :func:`read_bounds` reads it back."""
    price = order.max_price
    return {
        "max_segments": order.max_segments,
        "max_price": None if price is None else str(price),
        "smart_encoding": order.smart_encoding,
    }


def read_bounds(kept: dict[str, Any] | None) -> dict[str, Any]:
    """Return the fields of an :class:`Order` that were kept of it; of nothing, those that hold to nothing."""
    known = {"max_segments": None, "max_price": None, "smart_encoding": False, **(kept or {})}
    price = known["max_price"]
    return {**known, "max_price": None if price is None else Decimal(price)}

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

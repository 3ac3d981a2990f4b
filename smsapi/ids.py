"""Ids: a prefix that says what it is, and a UUIDv7 (RFC 9562) in lower-case hex, which sorts by time of making."""

import re
from uuid import UUID

from uuid_utils.compat import uuid7

_HEX = re.compile(r"[0-9a-f]{32}")


def new_id() -> UUID:
    """Return a fresh UUIDv7; within one process each is greater than the one before."""
    return uuid7()


def show_id(prefix: str, value: UUID) -> str:
    """Return the id as callers see it, such as ``msg_019a…``."""
    return f"{prefix}_{value.hex}"


def read_id(prefix: str, shown: str) -> UUID | None:
    """Return the UUID of a shown id, or None where the text is not an id of this prefix."""
    start, _, rest = shown.partition("_")
    return UUID(hex=rest) if start == prefix and _HEX.fullmatch(rest) else None

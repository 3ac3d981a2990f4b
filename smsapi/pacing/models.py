"""The table of gates."""

from sqlalchemy import Column, String, Table

from smsapi.db import Json, UtcDateTime, metadata

gates = Table(
    "gates",
    metadata,
    Column("key", String(64), primary_key=True),
    # From when on something may pass. NULL: not before somebody opens it.
    Column("opens_at", UtcDateTime),
    Column("detail", Json, nullable=False),
)

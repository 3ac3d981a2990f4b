"""Claiming due messages: each is held by one worker at a time, and a dead worker's come back when its lease ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, select, update

from smsapi.messages.models import messages


@dataclass(frozen=True, slots=True)
class Claim:
    """One message, held until its lease ends; ``epoch`` proves the hold, ``status`` is how the claim found it."""

    message_id: UUID
    epoch: int
    status: str


def claim_due(connection: Connection, now: datetime, *, lease_seconds: float, limit: int) -> Sequence[Claim]:
    """Claim up to ``limit`` messages that are due, longest due first; no two claims at once get the same one.

    On PostgreSQL rows that another is claiming are passed over; on SQLite the write lock keeps claims apart.
    """
    due = (
        select(messages.c.id)
        .where(messages.c.due_at <= now)
        .order_by(messages.c.due_at, messages.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    claimed = (
        update(messages)
        .where(messages.c.id.in_(select(due.c.id)))
        .values(due_at=now + timedelta(seconds=lease_seconds), epoch=messages.c.epoch + 1)
        .returning(messages.c.id, messages.c.epoch, messages.c.status)
    )
    return [Claim(row.id, row.epoch, row.status) for row in connection.execute(claimed)]


def anything_due(connection: Connection, now: datetime) -> bool:
    """Say whether a claim would find something."""
    return connection.execute(select(messages.c.id).where(messages.c.due_at <= now).limit(1)).first() is not None

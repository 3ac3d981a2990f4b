"""Claiming due messages: each is held by one worker at a time, and a dead worker's come back when its lease ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, select, update

from smsapi.messages.models import messages


@dataclass(frozen=True, slots=True)
class Claim:
    """One message, held until its lease ends; ``epoch`` proves the hold.

    ``status`` and ``attempts`` are how the claim found it.
    """

    message_id: UUID
    epoch: int
    status: str
    attempts: int


def claim_due(connection: Connection, now: datetime, *, lease_seconds: float, limit: int) -> Sequence[Claim]:
    """Claim up to ``limit`` messages that are due, longest due first; no two claims at once get the same one.

    On PostgreSQL rows that another is claiming are passed over; on SQLite the write lock keeps claims apart.
    """
    columns = messages.c
    due = (
        select(columns.id, columns.epoch, columns.status, columns.attempts)
        .where(columns.due_at <= now)
        .order_by(columns.due_at, columns.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    # Not one UPDATE … RETURNING: neither store says in which order that gives the rows.
    claims = [Claim(row.id, row.epoch + 1, row.status, row.attempts) for row in connection.execute(due)]
    if claims:
        connection.execute(
            update(messages)
            .where(columns.id.in_([claim.message_id for claim in claims]))
            .values(due_at=now + timedelta(seconds=lease_seconds), epoch=columns.epoch + 1)
        )
    return claims


def anything_due(connection: Connection, now: datetime) -> bool:
    """Say whether a claim would find something."""
    return connection.execute(select(messages.c.id).where(messages.c.due_at <= now).limit(1)).first() is not None

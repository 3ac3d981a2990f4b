"""The same as ``change``, for many messages at once: a few statements, however many they are.

The messages are held by the caller's transaction, and stand as they are given.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select, update

from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.messages.models import Message, message_attempts, messages
from smsapi.messages.statuses import FAILED, QUEUED
from smsapi.messages.store import add_events
from smsapi.send.change import GAVE_UP, NEVER_LEFT, hold, may_have_left


def change_all(world: Deps, connection: Connection, several: Sequence[Message], **values: Any) -> None:
    """Write the same values to the rows of all these messages, and when, in one statement."""
    if several:
        ids = [message.id for message in several]
        written = {"updated_at": world.clock.now(), **values}
        connection.execute(update(messages).where(messages.c.id.in_(ids)).values(**written))


def tell_all(
    connection: Connection, several: Sequence[Message], kind: str, at: datetime, data: Mapping[str, Any]
) -> None:
    """Append the same event to the history of each of these messages, in one statement."""
    add_events(connection, [(message, kind, data) for message in several], at)


def count_all(world: Deps, connection: Connection, several: Sequence[Message], status: str) -> None:
    """Count these messages as having come to this status, once that is committed."""
    for message in several:
        after_commit(connection, partial(world.metrics.count_message, status, test=message.test))


def conclude_all(
    world: Deps,
    connection: Connection,
    several: Sequence[Message],
    status: str,
    error: tuple[str, str],
    *,
    evidence: Mapping[str, Any] | None = None,
    **values: Any,
) -> None:
    """Do as :func:`smsapi.send.change.conclude` for all of these messages, in as many statements as for one.

    Those that may have been taken are held one by one, where the status would say that nothing was sent.
    """
    code, sentence = error
    left = may_have_left(connection, several) if status in NEVER_LEFT else set()
    for message in several:
        if message.id in left:
            hold(world, connection, message, (status, code), evidence=evidence, **values)
    several = [message for message in several if message.id not in left]
    if not several:
        return
    known = {"due_at": None, **values, "status": status, "error_code": code, "error_message": sentence}
    change_all(world, connection, several, **known)
    data = {"error": {"code": code, "message": sentence}, **(evidence or {})}
    tell_all(connection, several, f"message.{status}", world.clock.now(), data)
    count_all(world, connection, several, status)


def requeue_all(
    world: Deps,
    connection: Connection,
    several: Sequence[Message],
    due: datetime,
    *,
    joined: int | None,
    evidence: Mapping[str, Any] | None = None,
    in_the_end: tuple[str, str] | None = GAVE_UP,
) -> None:
    """Do as :func:`smsapi.send.change.requeue` for all of these messages, in few statements.

    ``joined`` says with how many each may share its next call. Without ``in_the_end`` none is given up, however long
    it has been tried.
    """
    begun = {} if in_the_end is None else _first_attempts_at(connection, several)
    late: list[Message] = []
    again: dict[datetime, list[Message]] = {}
    for message in several:
        first = begun.get(message.id, due)
        if (due - first).total_seconds() > world.settings.retry_horizon_seconds:
            late.append(message)
        else:
            then = due if message.expires_at is None else min(due, message.expires_at)
            again.setdefault(then, []).append(message)
    if late and in_the_end is not None:
        conclude_all(world, connection, late, FAILED, in_the_end, evidence=evidence)
    for then, queued in again.items():
        values = {"status": QUEUED, "due_at": then, "epoch": messages.c.epoch + 1, "joined": joined}
        change_all(world, connection, queued, error_code=None, error_message=None, **values)
        if evidence is not None:
            tell_all(connection, queued, "message.queued", world.clock.now(), evidence)


def _first_attempts_at(connection: Connection, several: Sequence[Message]) -> Mapping[UUID, datetime]:
    rows = message_attempts.c
    ids = [message.id for message in several]
    query = select(rows.message_id, func.min(rows.started_at).label("started_at")).where(rows.message_id.in_(ids))
    return {row.message_id: row.started_at for row in connection.execute(query.group_by(rows.message_id))}

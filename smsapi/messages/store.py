"""Queries on messages and their events, within the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from smsapi.auth.models import Caller
from smsapi.errors import NotFound
from smsapi.events.store import insert_events
from smsapi.ids import new_id
from smsapi.messages.models import Message, messages, to_message, to_row
from smsapi.messages.statuses import QUEUED


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which messages of a client are wanted; None for any."""

    status: str | None = None
    to: str | None = None
    sender: str | None = None
    reference: str | None = None
    batch_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


# Built once: building a statement costs more than running it.
_INSERT_MESSAGE = insert(messages)
_ONE_MESSAGE = select(messages).where(messages.c.id == bindparam("message_id"))
_ONE_OF_CLIENT = _ONE_MESSAGE.where(messages.c.client_id == bindparam("of_client"))
_ONE_TEST_OF_CLIENT = _ONE_OF_CLIENT.where(messages.c.test)
_LOCKED_MESSAGE = _ONE_MESSAGE.with_for_update()


def add_message(connection: Connection, message: Message) -> None:
    """Store a new message."""
    connection.execute(_INSERT_MESSAGE, to_row(message))


def add_event(connection: Connection, message: Message, kind: str, at: datetime, data: Mapping[str, Any]) -> None:
    """Append an event to a message's history."""
    add_events(connection, [(message, kind, data)], at)


def add_events(connection: Connection, told: Sequence[tuple[Message, str, Mapping[str, Any]]], at: datetime) -> None:
    """Append to the history of each of these messages an event of this type and data, all in one statement."""
    rows = [
        {
            "id": new_id(),
            "message_id": message.id,
            "client_id": message.client_id,
            "test": message.test,
            "type": kind,
            "at": at,
            "data": dict(data),
        }
        for message, kind, data in told
    ]
    insert_events(connection, rows)


def get_message(connection: Connection, message_id: UUID, *, client_id: UUID | None = None) -> Message:
    """Return the message, of this client only where one is given, or raise :class:`NotFound`."""
    query, given = (_ONE_MESSAGE, {}) if client_id is None else (_ONE_OF_CLIENT, {"of_client": client_id})
    return _found(connection.execute(query, {"message_id": message_id, **given}).one_or_none())


def get_message_for(connection: Connection, caller: Caller, message_id: UUID) -> Message:
    """Return the message where the caller may read it, or raise :class:`NotFound`: with a test key, test ones only."""
    query = _ONE_OF_CLIENT if caller.key.live else _ONE_TEST_OF_CLIENT
    return _found(connection.execute(query, {"message_id": message_id, "of_client": caller.client.id}).one_or_none())


def _found(row: Row[Any] | None) -> Message:
    if row is None:
        raise NotFound("There is no such message.")
    return to_message(row)


def lock_message(connection: Connection, message_id: UUID) -> Message | None:
    """Return the message, held until this transaction ends, or None where there is none."""
    row = connection.execute(_LOCKED_MESSAGE, {"message_id": message_id}).one_or_none()
    return None if row is None else to_message(row)


def hold_message(connection: Connection, message_id: UUID) -> Message:
    """Return the message, which nobody else changes before this transaction ends, or raise :class:`NotFound`."""
    message = lock_message(connection, message_id)
    if message is None:
        raise NotFound("There is no such message.")
    return message


def let_go(connection: Connection, now: datetime, message: Message) -> None:
    """Make a message due now that its holder has not begun to send."""
    held = (messages.c.id == message.id, messages.c.epoch == message.epoch, messages.c.status == QUEUED)
    connection.execute(update(messages).where(*held, messages.c.attempts == 0).values(due_at=now))


def list_messages(
    connection: Connection, caller: Caller, wanted: Filter, *, limit: int, before: UUID | None
) -> Sequence[Message]:
    """Return up to ``limit + 1`` messages that the caller may read, newest first, older than ``before``."""
    own = messages.c.client_id == caller.client.id
    query = select(messages).where(own).order_by(messages.c.id.desc()).limit(limit + 1)
    if not caller.key.live:
        query = query.where(messages.c.test)
    if before is not None:
        query = query.where(messages.c.id < before)
    exact = {
        "status": wanted.status,
        "to_number": wanted.to,
        "sender": wanted.sender,
        "reference": wanted.reference,
        "batch_id": wanted.batch_id,
    }
    query = query.filter_by(**{name: value for name, value in exact.items() if value is not None})
    if wanted.created_after is not None:
        query = query.where(messages.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        query = query.where(messages.c.created_at < wanted.created_before)
    return [to_message(row) for row in connection.execute(query)]

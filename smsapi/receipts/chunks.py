"""Whose report it is that came to the URL of a call which many messages shared, and under which id Plivo has whom."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, select, update

from smsapi.messages.models import message_attempts, messages
from smsapi.plivo.lookup import may_be_masked
from smsapi.receipts.store import Heard
from smsapi.sms.phone import read_provider_number

_MASK = "*"

_OF_CHUNK = (
    select(
        messages.c.id,
        messages.c.to_number,
        messages.c.provider_uuid,
        message_attempts.c.provider_uuid.label("uuid_of_attempt"),
    )
    .join(message_attempts, message_attempts.c.message_id == messages.c.id)
    .where(message_attempts.c.chunk_id == bindparam("chunk_id"))
)
_TO_NUMBER = _OF_CHUNK.where(messages.c.to_number == bindparam("number")).limit(2)
_UNNAMED = (
    update(message_attempts)
    .where(
        message_attempts.c.chunk_id == bindparam("of_chunk"),
        message_attempts.c.message_id == bindparam("of_message"),
        message_attempts.c.provider_uuid.is_(None),
    )
    .values(provider_uuid=bindparam("uuid"))
)


def find_recipient(connection: Connection, chunk_id: UUID, *, to: str, uuid: str | None) -> UUID | None:
    """Return the message of the call that a report is about, or None where that cannot be told.

    ``to`` is the number as Plivo reports it, with or without its ``+`` (plivo-facts 2.6). It may have been corrected
    by Plivo (2.3), or its message be erased: then the id tells, where it was learnt before. Where its last digits are
    masked (2.1: ``log``) it tells only as long as no other number of the call begins so.
    """
    number = None if _MASK in to else read_provider_number(to.strip())
    if number is not None:
        found = connection.execute(_TO_NUMBER, {"chunk_id": chunk_id, "number": number}).all()
        if len(found) == 1:
            return _id_of(found[0])
    members = connection.execute(_OF_CHUNK, {"chunk_id": chunk_id}).all()
    named = [row for row in members if uuid is not None and _is_named(row, uuid)]
    if len(named) == 1:
        return _id_of(named[0])
    alike = _alike(members, to) if _MASK in to else []
    return _id_of(alike[0]) if len(alike) == 1 else None


def note_uuids(connection: Connection, heard: Iterable[Heard]) -> None:
    """Write Plivo's id, where a receipt bears it, to the attempt of its call; the messages are held by the caller."""
    given = [
        {"of_chunk": each.chunk_id, "of_message": each.message_id, "uuid": each.receipt.provider_uuid}
        for each in heard
        if each.chunk_id is not None and each.receipt.provider_uuid is not None
    ]
    if given:
        connection.execute(_UNNAMED, given)


def _is_named(row: Row[Any, Any, Any, Any], uuid: str) -> bool:
    return uuid.lower() in {(row.provider_uuid or "").lower(), (row.uuid_of_attempt or "").lower()}


def _alike(members: Sequence[Row[Any, Any, Any, Any]], masked: str) -> Sequence[Row[Any, Any, Any, Any]]:
    # What is erased may have been any number.
    return [row for row in members if not row.to_number or may_be_masked(row.to_number, masked)]


def _id_of(row: Row[Any, Any, Any, Any]) -> UUID:
    found: UUID = row.id
    return found

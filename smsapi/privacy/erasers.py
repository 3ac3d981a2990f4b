"""What has to forget when a message or a person is to be forgotten: a list that each package with personal data is in.

An eraser works in the transaction that it is given, finds nothing the second time, and leaves counts and prices.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Text, cast, false, or_, select, update

from smsapi.events.models import events
from smsapi.ids import show_id
from smsapi.inbound.service import forget_number
from smsapi.messages.models import message_attempts, messages
from smsapi.optouts.ledger import forget_words
from smsapi.web.idempotency import idempotency_keys

# What of a message, or of an answer or event about it, tells who was texted what.
_EMPTY: Final[Mapping[str, Any]] = {"to": "", "text": "", "reference": None, "metadata": {}}
_HIDDEN: Final = "[erased]"


@dataclass(frozen=True, slots=True)
class Subject:
    """Messages of one client that are to be forgotten."""

    client_id: UUID
    message_ids: Sequence[UUID]
    at: datetime


@dataclass(frozen=True, slots=True)
class Eraser:
    """What one package forgets, by name. Both functions return how many rows they changed.

    ``of_messages`` forgets what there is about messages. ``of_number`` forgets what names a person's number (E.164) and
    hangs on no message: it may have to look through a whole table, since nobody searches there by number otherwise.
    """

    name: str
    of_messages: Callable[[Connection, Subject], int] = lambda _connection, _subject: 0
    of_number: Callable[[Connection, str], int] = lambda _connection, _number: 0


def _erase_messages(connection: Connection, subject: Subject) -> int:
    own = (messages.c.id.in_(subject.message_ids), messages.c.erased_at.is_(None))
    values: dict[str, Any] = {"to_number": "", "text": "", "reference": None, "metadata": {}, "error_message": None}
    # Nobody can ask for it by its number any more, nor play a test key's further reports.
    values |= {"due_at": None, "erased_at": subject.at}
    return connection.execute(update(messages).where(*own).values(**values)).rowcount


def _erase_attempts(connection: Connection, subject: Subject) -> int:
    rows = message_attempts.c
    own = (rows.message_id.in_(subject.message_ids), rows.reason.is_not(None))
    return connection.execute(update(message_attempts).where(*own).values(reason=None)).rowcount


def _erase_events(connection: Connection, subject: Subject) -> int:
    changed = 0
    query = select(events.c.id, events.c.data).where(events.c.message_id.in_(subject.message_ids))
    for row in connection.execute(query).all():
        data = _without_words(row.data)
        if data != row.data:
            connection.execute(update(events).where(events.c.id == row.id).values(data=data))
            changed += 1
    return changed


def _without_words(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's data without what Plivo or a caller put into words; codes and ids stay."""
    kept = {key: _EMPTY.get(key, value) for key, value in data.items()}
    if isinstance(error := kept.get("error"), dict) and "message" in error:
        kept["error"] = {**error, "message": error.get("code")}
    return kept


def _erase_answers(connection: Connection, subject: Subject) -> int:
    """Empty the stored answers about these messages; what is repeated is then answered so, with the first status."""
    rows = idempotency_keys.c
    paths = [rows.route.contains(show_id("msg", each), autoescape=True) for each in subject.message_ids[:1]]
    about: ColumnElement[bool] = or_(false(), rows.subject_id.in_(subject.message_ids))
    if len(subject.message_ids) == 1:
        about = or_(about, *paths)
    return _empty_answers(connection, (rows.client_id == subject.client_id, about))


def _erase_answers_to(connection: Connection, number: str) -> int:
    return _empty_answers(connection, (idempotency_keys.c.body.contains(json.dumps(number), autoescape=True),))


def _empty_answers(connection: Connection, wanted: Iterable[ColumnElement[bool]]) -> int:
    rows = idempotency_keys.c
    key = (rows.client_id, rows.route, rows.key)
    changed = 0
    for row in connection.execute(select(*key, rows.body).where(*wanted, rows.body.is_not(None))).all():
        body = _emptied(row.body)
        if body != row.body:
            own = (rows.client_id == row.client_id, rows.route == row.route, rows.key == row.key)
            connection.execute(update(idempotency_keys).where(*own).values(body=body))
            changed += 1
    return changed


def _emptied(body: str) -> str:
    answer = json.loads(body)
    if not isinstance(answer, dict):
        return body
    emptied = {key: _EMPTY.get(key, value) for key, value in answer.items()}
    if isinstance(error := emptied.get("error"), dict):
        emptied["error"] = {**error, "message": error.get("code")}
    return body if emptied == answer else json.dumps(emptied)


def _erase_events_on(connection: Connection, number: str) -> int:
    """Hide the number in events that are about no message, such as those of opt-outs and inbound texts."""
    columns = events.c
    found = select(columns.id, columns.data).where(
        columns.message_id.is_(None), cast(columns.data, Text).contains(number, autoescape=True)
    )
    changed = 0
    for row in connection.execute(found).all():
        hidden = {key: "" if key == "text" else value for key, value in _hiding(row.data, number).items()}
        connection.execute(update(events).where(columns.id == row.id).values(data=hidden))
        changed += 1
    return changed


def _hiding(found: Any, number: str) -> Any:
    if isinstance(found, dict):
        return {key: _hiding(value, number) for key, value in found.items()}
    if isinstance(found, list):
        return [_hiding(each, number) for each in found]
    return found.replace(number, _HIDDEN) if isinstance(found, str) else found


# Each package that stores a number or a text is here. Webhooks store neither: they are made from the event and the
# message at the time of each attempt. Receipts are kept without their numbers.
ERASERS: Final[Sequence[Eraser]] = (
    Eraser("messages", of_messages=_erase_messages),
    Eraser("attempts", of_messages=_erase_attempts),
    Eraser("events", of_messages=_erase_events, of_number=_erase_events_on),
    Eraser("answers", of_messages=_erase_answers, of_number=_erase_answers_to),
    Eraser("inbound", of_number=forget_number),
    # The ledger keeps the number itself: without it the person would be texted again.
    Eraser("opt-out trail", of_number=forget_words),
)

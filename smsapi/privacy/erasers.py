"""What has to forget when a message or a person is to be forgotten: a list that each package with personal data is in.

An eraser works in the transaction that it is given, finds nothing the second time, and leaves counts and prices.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Text, cast, or_, select, update

from smsapi.batches import forgetting as of_batches
from smsapi.batches.forgetting import Place
from smsapi.db import part_after
from smsapi.events.models import NOT_ERASED, events
from smsapi.ids import show_id
from smsapi.inbound.service import forget_number, forget_old
from smsapi.messages.models import message_attempts, messages
from smsapi.optouts.ledger import forget_old_words, forget_words
from smsapi.sms.phone import spellings
from smsapi.web.idempotency import idempotency_keys, of_test_keys

# What of a message, or of an answer or event about it, tells who was texted what.
_EMPTY: Final[Mapping[str, Any]] = {"to": "", "text": "", "reference": None, "metadata": {}}
_HIDDEN: Final = "[erased]"
# Rows that one transaction looks through, or changes.
_PART: Final = 2_000
# The routes of one message whose answers, which show it, are stored.
ROUTES_OF_A_MESSAGE: Final = (
    "PATCH /v1/messages/{}",
    "POST /v1/messages/{}/cancel",
    "POST /v1/messages/{}/resolve",
    "POST /v1/messages/{}/redact",
)
# What of an event that is about no message somebody said, and who of it is a person.
_WORDS: Final[Mapping[str, Any]] = {"text": "", "media": [], "extra": {}, "reason": None}
_PERSON: Final[Mapping[str, str]] = {
    "message.received": "from",
    **dict.fromkeys(("optout.created", "optout.removed", "optout.review"), "number"),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Messages of one client that are to be forgotten."""

    client_id: UUID
    message_ids: Sequence[UUID]
    at: datetime


@dataclass(frozen=True, slots=True)
class Aged:
    """What came to a client (None: to nobody in particular) until a moment, at most so many rows of it at once."""

    client_id: UUID | None
    until: datetime
    at: datetime
    limit: int


@dataclass(frozen=True, slots=True)
class Eraser:
    """What one package forgets, by name. Each function returns how many rows it changed.

    ``of_messages`` forgets what there is about messages. ``of_number`` forgets what names a person's number (E.164) and
    hangs on no message, a part at a time, each in a transaction of its own that takes well under a second: it begins at
    the place that it is given (None: the start), and returns how many rows it changed and the next place (None: done).
    It may have to walk through a whole table so, since nobody searches there by number otherwise.
    ``of_age`` forgets what hangs on no message and is too old; None: there is no such thing.
    """

    name: str
    of_messages: Callable[[Connection, Subject], int] = lambda _connection, _subject: 0
    of_number: Callable[[Connection, str, Place], tuple[int, Place]] = lambda _connection, _number, _place: (0, None)
    of_age: Callable[[Connection, Aged], int] | None = None


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
    """Return an event's data, or an answer, without what Plivo or a caller put into words; codes and ids stay."""
    kept = {key: _EMPTY.get(key, value) for key, value in data.items()}
    if isinstance(error := kept.get("error"), dict) and "message" in error:
        kept["error"] = {**error, "message": error.get("code")}
    return kept


def _erase_answers(connection: Connection, subject: Subject) -> int:
    """Empty the stored answers about these messages; what is repeated is then answered so, with the first status."""
    rows = idempotency_keys.c
    own = rows.client_id == subject.client_id
    routes = [route.format(show_id("msg", each)) for route in ROUTES_OF_A_MESSAGE for each in subject.message_ids]
    routes += [of_test_keys(route) for route in routes]
    # Two questions: for both at once, joined by an OR, there is no index.
    emptied = _empty_answers(connection, (own, rows.subject_id.in_(subject.message_ids)))
    return emptied + _empty_answers(connection, (own, rows.route.in_(routes)))


def _erase_answers_to(connection: Connection, number: str, place: Place) -> tuple[int, Place]:
    rows = idempotency_keys.c
    part, last = part_after(connection, (rows.client_id, rows.route, rows.key), place, _PART)
    named = or_(*(rows.body.contains(json.dumps(form), autoescape=True) for form in spellings(number)))
    return _empty_answers(connection, (part, named)), last


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
    emptied = _without_words(answer)
    return body if emptied == answer else json.dumps(emptied) + "\n"


def _erase_events_on(connection: Connection, number: str, place: Place) -> tuple[int, Place]:
    """Hide the number in events that are about no message, such as those of opt-outs and inbound texts."""
    columns = events.c
    part, last = part_after(connection, (columns.id,), place, _PART)
    # Without its plus sign it could be a part of another number, so that only a whole string is it.
    whole, data = frozenset(spellings(number)), cast(columns.data, Text)
    written = (number, *(json.dumps(form) for form in whole))
    named = or_(*(data.contains(form, autoescape=True) for form in written))
    found = select(columns.id, columns.data).where(part, columns.message_id.is_(None), named)
    changed = 0
    for row in connection.execute(found).all():
        hidden = _hiding(_without_what_was_said(row.data), number, whole)
        connection.execute(update(events).where(columns.id == row.id).values(data=hidden))
        changed += 1
    return changed, last


def _erase_inbound_of(connection: Connection, number: str, _place: Place) -> tuple[int, Place]:
    # What is erased has the number no more, so that each part begins at the start.
    changed = forget_number(connection, number, limit=_PART)
    return changed, (changed,) if changed == _PART else None


def _erase_words_of(connection: Connection, number: str, place: Place) -> tuple[int, Place]:
    changed, last = forget_words(connection, number, None if place is None else place[0], limit=_PART)
    return changed, None if last is None else (last,)


def _erase_old_words(connection: Connection, aged: Aged) -> int:
    return forget_old_words(connection, aged.client_id, aged.until, limit=aged.limit)


def _erase_old_events(connection: Connection, aged: Aged) -> int:
    """Take number and words out of old events that are about no message, such as those of opt-outs and inbound texts.

    The ledger of opt-outs and its trail are no events, and stay.
    """
    columns = events.c
    old = (columns.client_id == aged.client_id, NOT_ERASED, columns.at <= aged.until)
    query = select(columns.id, columns.type, columns.data).where(*old).order_by(columns.at).limit(aged.limit)
    found = connection.execute(query.with_for_update(skip_locked=True)).all()
    for row in found:
        values: dict[str, Any] = {"erased_at": aged.at}
        if row.type in _PERSON:
            values["data"] = {**_without_what_was_said(row.data), _PERSON[row.type]: ""}
        connection.execute(update(events).where(columns.id == row.id).values(values))
    return len(found)


def _without_what_was_said(data: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: _WORDS.get(key, value) for key, value in data.items()}
    if isinstance(provider := kept.get("provider"), dict):
        kept["provider"] = {key: _WORDS.get(key, value) for key, value in provider.items()}
    return kept


def _hiding(found: Any, number: str, whole: Collection[str]) -> Any:
    if isinstance(found, dict):
        return {key: _hiding(value, number, whole) for key, value in found.items()}
    if isinstance(found, list):
        return [_hiding(each, number, whole) for each in found]
    if not isinstance(found, str):
        return found
    return _HIDDEN if found in whole else found.replace(number, _HIDDEN)


def _erase_old_inbound(connection: Connection, aged: Aged) -> int:
    return forget_old(connection, aged.client_id, aged.until, limit=aged.limit)


def _erase_old_batches(connection: Connection, aged: Aged) -> int:
    if aged.client_id is None:
        return 0
    return of_batches.forget_old(connection, aged.client_id, aged.until, limit=aged.limit)


# Each package that stores a number or a text is here. Webhooks store neither: they are made from the event and the
# message at the time of each attempt. Receipts are kept without their numbers.
ERASERS: Final[Sequence[Eraser]] = (
    Eraser("messages", of_messages=_erase_messages),
    Eraser("attempts", of_messages=_erase_attempts),
    Eraser("events", of_messages=_erase_events, of_number=_erase_events_on, of_age=_erase_old_events),
    Eraser("answers", of_messages=_erase_answers, of_number=_erase_answers_to),
    Eraser("inbound", of_number=_erase_inbound_of, of_age=_erase_old_inbound),
    Eraser("batches", of_number=of_batches.forget_number, of_age=_erase_old_batches),
    # The ledger keeps the number itself: without it the person would be texted again.
    Eraser("opt-outs", of_number=_erase_words_of, of_age=_erase_old_words),
)

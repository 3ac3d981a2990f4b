"""Forgetting: one message at its caller's wish, all old ones when their time is over, a person at theirs."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, select

from smsapi.auth.models import clients
from smsapi.batches.forgetting import cancel_rows_to
from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.errors import TooEarly
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import Message, messages, to_message
from smsapi.messages.statuses import FINAL, SENT, WAITING
from smsapi.messages.store import add_event
from smsapi.privacy.erasers import ERASERS, Aged, Eraser, Subject
from smsapi.send.after import cancel

log = get_logger()

# Plivo has it, or it never will: nothing that is still to be done needs its text or its number.
SETTLED: Final = FINAL | {SENT}
_BATCH: Final = 500
_BY_RETENTION: Final[Mapping[str, Any]] = {"by": "retention"}
_BY_OPERATOR: Final[Mapping[str, Any]] = {"by": "operator", "reason": "privacy"}


def redact(world: Deps, connection: Connection, message: Message, *, by: Mapping[str, Any]) -> Message:
    """Erase text, number, reference and metadata of a message that the caller has locked; return it so.

    Status, segments, price and times stay. Twice is the same as once. ``by`` says who wants it and goes into the event.

    Raises:
        TooEarly: it still waits to be sent, is being sent, or its outcome has to be found out by its number.

    """
    if message.erased_at is not None:
        return message
    if message.status not in SETTLED:
        raise TooEarly(f"The message is {message.status}; what is erased could not be sent. Cancel it, or wait.")
    _erase(world, connection, [message], by)
    query = select(messages).where(messages.c.id == message.id)
    return to_message(connection.execute(query).one())


def erase_old(world: Deps, stopping: Callable[[], bool]) -> int:
    """Erase what is older than its time of retention, in batches; return how many messages and other rows they were.

    Of a message that is settled the time counts from when it was accepted or, where it had one, from its ``send_at``;
    of an inbound text, and of an event that is about no message, from when it came.
    """
    erased: Counter[str] = Counter()
    with world.database.read() as connection:
        query = select(clients.c.id, clients.c.retention_days)
        kept = {row.id: row.retention_days for row in connection.execute(query)}
    # What came to no client is kept for as long as the setting says.
    for client_id, own in {**kept, None: None}.items():
        days = world.settings.retention_days if own is None else own
        if days:
            erased += _erase_old_of(world, client_id, days, stopping)
    if erased:
        log.debug("old_erased", **erased)
    return erased.total()


def _erase_old_of(world: Deps, client_id: UUID | None, days: int, stopping: Callable[[], bool]) -> Counter[str]:
    erased: Counter[str] = Counter()
    until = world.clock.now() - timedelta(days=days)
    while client_id is not None and not stopping():
        done = _erase_batch(world, client_id, until)
        erased["messages"] += done
        if done < _BATCH:
            break
    for name, of_age in ((each.name, each.of_age) for each in ERASERS if each.of_age is not None):
        while not stopping():
            with world.database.transaction() as connection:
                done = of_age(connection, Aged(client_id, until, world.clock.now(), _BATCH))
            erased[name] += done
            if done < _BATCH:
                break
    return +erased


def _erase_batch(world: Deps, client_id: UUID, until: datetime) -> int:
    columns = messages.c
    query = (
        select(messages)
        .where(
            columns.client_id == client_id,
            columns.erased_at.is_(None),
            columns.created_at <= until,
            columns.status.in_(SETTLED),
            (columns.send_at.is_(None)) | (columns.send_at <= until),
        )
        .order_by(columns.created_at)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    with world.database.transaction() as connection:
        old = [to_message(row) for row in connection.execute(query)]
        if old:
            _erase(world, connection, old, _BY_RETENTION)
    return len(old)


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased of a person: rows by the name of the eraser.

    ``canceled`` messages waited to be sent to them. ``left`` ones are being sent or looked for at Plivo, which takes
    their number; asking again later erases them too.
    """

    rows: Mapping[str, int]
    canceled: int
    left: int


def erase_number(world: Deps, number: str) -> Erased:
    """Erase a person's number (E.164), and what they were texted, wherever it is stored; in batches.

    Messages that wait to be sent to them are canceled. What must outlive it (that they opted out) is for its own
    package to keep in a form that does not name them.
    """
    rows: Counter[str] = Counter()
    # Before the messages are looked for: those rows are messages then, too.
    canceled, left = cancel_rows_to(world, number), 0
    for batch in _messages_to(world, number):
        with world.database.transaction() as connection:
            query = select(messages).where(messages.c.id.in_(batch)).order_by(messages.c.id).with_for_update()
            found = [to_message(row) for row in connection.execute(query)]
            waiting = [message for message in found if message.status in WAITING]
            # What may have been taken before is held as unknown, and has its number until it is settled.
            stopped = [cancel(world, connection, message, by=_BY_OPERATOR) for message in waiting]
            over = [message for message in stopped if message.status in SETTLED]
            settled = [message for message in found if message.status in SETTLED]
            rows += _erase(world, connection, [*over, *settled], _BY_OPERATOR)
        canceled += len(over)
        left += len(found) - len(over) - len(settled)
    for eraser in ERASERS:
        rows[eraser.name] += _erase_in_parts(world, eraser, number)
    return Erased({eraser.name: rows[eraser.name] for eraser in ERASERS}, canceled, left)


def _erase_in_parts(world: Deps, eraser: Eraser, number: str) -> int:
    changed, place = 0, None
    while True:
        with world.database.transaction() as connection:
            done, place = eraser.of_number(connection, number, place)
        changed += done
        if place is None:
            return changed


def _messages_to(world: Deps, number: str) -> Iterator[Sequence[UUID]]:
    rows = messages.c
    with world.database.read() as connection:
        of_clients = connection.execute(select(clients.c.id)).scalars().all()
    # By client, as the index is, and a part at a time.
    for client_id in of_clients:
        ids: Sequence[UUID] = ()
        own = select(rows.id).where(rows.client_id == client_id, rows.to_number == number).order_by(rows.id)
        while True:
            with world.database.read() as connection:
                behind = own.where(rows.id > ids[-1]) if ids else own
                ids = connection.execute(behind.limit(_BATCH)).scalars().all()
            if ids:
                yield ids
            if len(ids) < _BATCH:
                break


def _erase(world: Deps, connection: Connection, found: Sequence[Message], by: Mapping[str, Any]) -> Counter[str]:
    """Let every package forget these locked messages, and write an event for each."""
    now = world.clock.now()
    rows: Counter[str] = Counter()
    for client_id in dict.fromkeys(message.client_id for message in found):
        of_client = [message for message in found if message.client_id == client_id]
        subject = Subject(client_id, [message.id for message in of_client], now)
        for eraser in ERASERS:
            rows[eraser.name] += eraser.of_messages(connection, subject)
        for message in of_client:
            add_event(connection, replace(message, text="", to_number=""), "message.redacted", now, by)
            said = {"message_id": show_id("msg", message.id), "client_id": show_id("cli", client_id)}
            after_commit(connection, partial(log.info, "message_redacted", **said))
    return rows

"""Messages that Plivo took and never reported the end of: its list is asked once, and then nobody asks again.

A report is lost where we do not answer for seven minutes (plivo-facts 2.6: three retries), and some carriers send none
at all. Plivo gives 20 list calls a minute, which the unknown messages need first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, and_, func, or_, select, update

from smsapi.clock import rfc3339
from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.messages.models import Message, message_attempts, messages, to_message
from smsapi.messages.statuses import SENT
from smsapi.messages.store import add_event, lock_message
from smsapi.pacing.gates import pay_or_wait
from smsapi.pacing.tolls import toll_of_list
from smsapi.plivo.lookup import LookupFailed, Page, Query, Record, digits_of, form_of_sender
from smsapi.receipts.applying import Applied
from smsapi.receipts.listed import receipt_of
from smsapi.receipts.service import apply_receipt, note

# Plivo's clock and ours may differ, and the call itself takes a while.
_SKEW: Final = timedelta(minutes=2)
_LONGEST_WINDOW: Final = timedelta(minutes=10)
# A list that fails is asked again no sooner.
_AFTER_FAILURE: Final = timedelta(minutes=1)
_SOURCE: Final = "plivo_list"

# The same for one call, whose moments are known.
_LITTLE: Final = timedelta(seconds=5)
_LONGEST_CALL: Final = timedelta(seconds=60)

_Window = tuple[datetime, datetime]

# Fewer are asked for by number: a question for all of them may be in vain, and must not be asked again and again.
_MANY: Final = 5
_LONGEST_PAUSE: Final = timedelta(seconds=10)


def report_due_at(world: Deps, message: Message) -> datetime | None:
    """Return when Plivo is to be asked for the end of a message that it took, or None where it is never asked."""
    after = world.settings.receipt_after_seconds
    if not after or message.test or message.sent_at is None:
        return None
    return message.sent_at + timedelta(seconds=after)


def ask_for_overdue(world: Deps, held: Mapping[UUID, int], stopping: Callable[[], bool]) -> None:
    """Ask Plivo's list for these sent messages, each held under its epoch, and note what it says, or when to ask.

    What the list does not tell it will not tell later: an event says so, and the message is left as ``sent``.
    """
    with world.database.read() as connection:
        query = select(messages).where(messages.c.id.in_(list(held)), messages.c.status == SENT)
        found = [to_message(row) for row in connection.execute(query)]
    now = world.clock.now()
    waiting = []
    for message in found:
        if message.epoch != held[message.id]:
            continue
        due = report_due_at(world, message)
        if due is not None and due <= now:
            waiting.append(message)
        else:
            _look_at(world, message, due)
    until = now + timedelta(seconds=world.settings.lease_seconds / 2)
    groups = list(_groups(waiting))
    while groups:
        group = groups.pop(0)
        asked = timedelta(0) if stopping() else _ask(world, group, until)
        if isinstance(asked, timedelta):
            _postpone(world, [message for each in (group, *groups) for message in each], asked)
            return
        for message in asked.told:
            _apply(world, message, _record_of(world, message, asked.records))
        groups = [*([message] for message in asked.untold), *groups]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a question came to: the records by UUID, and of which messages they tell all that there is to tell."""

    records: Mapping[str, Record]
    told: Sequence[Message]
    untold: Sequence[Message] = ()


def _groups(overdue: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield the messages by sender and time, where one question may do for many, and a few of them one by one."""
    for sender in dict.fromkeys(message.sender for message in overdue):
        group: list[Message] = []
        for message in sorted((each for each in overdue if each.sender == sender), key=_taken_at):
            if group and _taken_at(message) - _taken_at(group[0]) > _LONGEST_WINDOW:
                yield from _worth_a_question(group)
                group = []
            group.append(message)
        yield from _worth_a_question(group)


def _worth_a_question(group: list[Message]) -> Iterator[list[Message]]:
    if len(group) >= _MANY:
        yield group
    else:
        yield from ([message] for message in group)


def _taken_at(message: Message) -> datetime:
    return message.sent_at or message.created_at


def _ask(world: Deps, group: Sequence[Message], until: datetime) -> _Asked | timedelta:
    """Return what the list's first page says of the group, or how long to wait before it may be asked."""
    page = _page(world, _query(group), until)
    if isinstance(page, timedelta):
        return page
    records = {record.message_uuid.lower(): record for record in page.records}
    # One message's number, sender and minutes fit on a page; where many do not, the others are asked for by number.
    if page.next_offset is None or len(group) == 1:
        return _Asked(records, group)
    told: list[Message] = []
    untold: list[Message] = []
    for message in group:
        (told if _uuid(message) in records else untold).append(message)
    return _Asked(records, told, untold)


def _uuid(message: Message) -> str:
    return (message.provider_uuid or "").lower()


def _record_of(world: Deps, message: Message, records: Mapping[str, Record]) -> Record | None:
    """Return the record of the message, by its id, or, where Plivo has not told that, by its number and time.

    None also where another message of ours may be it as well.
    """
    if message.provider_uuid is not None or not message.to_number:
        return records.get(_uuid(message))
    with world.database.read() as connection:
        windows = _unnamed_calls(connection, message)
        fitting = [record for record in records.values() if _fits(record, message, windows)]
        if len(fitting) != 1 or _has_rival(connection, message, fitting[0]):
            return None
    return fitting[0]


def _unnamed_calls(connection: Connection, message: Message) -> Sequence[_Window]:
    """Return from when to when calls lasted in which Plivo took the message without our knowing under which id."""
    rows = message_attempts.c
    query = select(rows.started_at, rows.finished_at).where(
        rows.message_id == message.id, rows.outcome == "accepted", rows.provider_uuid.is_(None)
    )
    return [(row.started_at - _LITTLE, row.finished_at + _LITTLE) for row in connection.execute(query)]


def _fits(record: Record, message: Message, windows: Sequence[_Window]) -> bool:
    return (
        digits_of(record.to) == digits_of(message.to_number)
        and form_of_sender(record.sender) == form_of_sender(message.sender)
        and any(since <= record.taken_at <= until for since, until in windows)
    )


def _has_rival(connection: Connection, message: Message, record: Record) -> bool:
    """Say whether the record is another message's, or may be: of the same number and time, and without an id."""
    rows, skew = messages.c, _LITTLE + _LONGEST_CALL
    near = rows.sent_at.between(record.taken_at - skew, record.taken_at + skew)
    nameless = and_(rows.sender == message.sender, rows.provider_uuid.is_(None), near)
    same = select(rows.id).where(rows.to_number == message.to_number, rows.id != message.id)
    alike = same.where(or_(func.lower(rows.provider_uuid) == record.message_uuid.lower(), nameless))
    return connection.execute(alike.limit(1)).first() is not None


def _query(group: Sequence[Message]) -> Query:
    times = [_taken_at(message) for message in group]
    to = group[0].to_number if len(group) == 1 and group[0].to_number else None
    return Query(group[0].sender, to, min(times) - _SKEW, max(times) + _SKEW)


def _page(world: Deps, query: Query, until: datetime) -> Page | timedelta:
    toll = toll_of_list(world.settings)
    while (wait := pay_or_wait(world.database, [toll], world.clock.now())) > timedelta(0):
        if wait > _LONGEST_PAUSE or world.clock.now() + wait > until:
            return wait
        world.clock.sleep(wait.total_seconds())
    found = world.provider.look_up(query)
    if isinstance(found, LookupFailed):
        return max(_AFTER_FAILURE, timedelta(seconds=found.retry_after_seconds or 0))
    return found


def _apply(world: Deps, message: Message, record: Record | None) -> None:
    looked = {"source": _SOURCE, "at": rfc3339(world.clock.now())}
    with world.database.transaction() as connection:
        current = lock_message(connection, message.id)
        if current is None or current.status != SENT or current.epoch != message.epoch:
            return
        applied: Applied | None = None
        receipt = None if record is None else receipt_of(record)
        if receipt is not None:
            applied = apply_receipt(world, connection, message.id, receipt, evidence=looked)
        if applied is None or applied.status == SENT:
            state = None if record is None else record.state
            _conclude(connection, current, world.clock.now(), {**looked, "note": "no_receipt", "plivo_state": state})
    if applied is not None:
        note(world, show_id("msg", message.id), applied)


def _conclude(connection: Connection, message: Message, now: datetime, data: Mapping[str, Any]) -> None:
    add_event(connection, message, "message.sent", now, data)
    connection.execute(update(messages).where(messages.c.id == message.id).values(due_at=None))


def _postpone(world: Deps, waiting: Sequence[Message], wait: timedelta) -> None:
    """Let each come back when its turn may be, so that a long row of them is not looked at again and again."""
    apart = timedelta(minutes=1) / world.settings.plivo_list_per_minute
    now = world.clock.now()
    for place, message in enumerate(waiting):
        _look_at(world, message, now + wait + apart * place)


def _look_at(world: Deps, message: Message, due: datetime | None) -> None:
    own = (messages.c.id == message.id, messages.c.epoch == message.epoch, messages.c.status == SENT)
    with world.database.transaction() as connection:
        connection.execute(update(messages).where(*own).values(due_at=due))

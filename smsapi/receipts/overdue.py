"""Receipts that never came: Plivo's list is asked once for messages that it took, and then nobody asks again.

A report is lost where we do not answer for seven minutes (plivo-facts 2.6: three retries), and some carriers send none
at all. One question asks for all messages of a sender and some minutes. Plivo gives 20 list calls a minute, which the
unknown messages have first; what has waited for its turn too long is left as it is, and an event says so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, and_, func, or_, select, tuple_, update

from smsapi.clock import rfc3339
from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.messages.models import Message, message_attempts, messages, to_message
from smsapi.messages.statuses import SENT
from smsapi.messages.store import add_event, lock_message
from smsapi.plivo.listing import PAGE_SIZE
from smsapi.plivo.lookup import Query, Record, digits_of, form_of_sender
from smsapi.receipts.applying import Applied
from smsapi.receipts.list_reader import STOPS, Hold, Later, TooMany, read_list
from smsapi.receipts.listed import receipt_of
from smsapi.receipts.service import apply_receipt, note
from smsapi.send.settle import seconds_to_receipt

# Plivo's clock and ours may differ, and the call itself takes a while.
_SKEW: Final = timedelta(minutes=2)
_LONGEST_WINDOW: Final = timedelta(minutes=10)
# A list that fails, or is another's turn, is asked again no sooner: what becomes due meanwhile shares the question.
_AGAIN: Final = timedelta(minutes=1)
_SOURCE: Final = "plivo_list"

# The same for one call, whose moments are known.
_LITTLE: Final = timedelta(seconds=5)
_LONGEST_CALL: Final = timedelta(seconds=60)

_Window = tuple[datetime, datetime]

# Fewer are asked for by number: a question for all of them may be in vain, and must not be asked again and again.
_MANY: Final = 5
_CONCLUDED_AT_ONCE: Final = 100


def report_due_at(world: Deps, message: Message) -> datetime | None:
    """Return when Plivo is to be asked for the end of a message that it took, or None where it is never asked.

    Never without a public URL: then Plivo reports of no message, and all of them would be asked for.
    """
    after = seconds_to_receipt(world.settings)
    if not after or message.test or message.sent_at is None:
        return None
    return message.sent_at + timedelta(seconds=after)


def ask_for_overdue(world: Deps, held: Mapping[UUID, int], stopping: Callable[[], bool]) -> None:
    """Ask Plivo's list for these sent messages, each held under its epoch, and note what it says, or when to ask.

    What the list does not tell it will not tell later: an event says so, and the message is left as ``sent``. So does
    one of what was due too long ago, which is not asked for at all.
    """
    hold = Hold(world, held, stopping, status=SENT)
    with world.database.read() as connection:
        query = select(messages).where(messages.c.id.in_(list(held)), messages.c.status == SENT)
        found = [to_message(row) for row in connection.execute(query)]
    now, patience = world.clock.now(), timedelta(seconds=world.settings.receipt_give_up_seconds)
    waiting, given_up = [], []
    for message in found:
        if message.epoch != held[message.id]:
            continue
        due = report_due_at(world, message)
        if due is None or due > now:
            _look_at(world, [message], due)
        elif due + patience <= now:
            given_up.append(message)
        else:
            waiting.append(message)
    _give_up(world, given_up)
    groups = list(_groups(waiting))
    while groups:
        group = groups.pop(0)
        asked = _ask(world, group, hold)
        if isinstance(asked, Later):
            _postpone(world, [group, *groups], asked)
            return
        if isinstance(asked, TooMany):
            groups = [*_by_number(group), *groups]


def _groups(overdue: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield the messages by sender and time, where one question may do for many, and a few of them by number."""
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
        yield from _by_number(group)


def _by_number(group: Sequence[Message]) -> Iterator[list[Message]]:
    for number in dict.fromkeys(message.to_number for message in group):
        yield [message for message in group if message.to_number == number]


def _taken_at(message: Message) -> datetime:
    return message.sent_at or message.created_at


def _ask(world: Deps, group: list[Message], hold: Hold) -> Later | TooMany | None:
    """Note what the list says of the group, or return why it does not say all of it.

    What a page tells is noted before the next is asked for, so that nothing of it is asked for again.
    """
    left = {message.id: message for message in group}

    def note_page(records: Sequence[Record]) -> bool:
        listed = {record.message_uuid.lower(): record for record in records}
        for message in [each for each in left.values() if _uuid(each) in listed]:
            _apply(world, message, listed[_uuid(message)])
            del left[message.id]
        return not left

    questions = len({message.to_number for message in group})
    found = read_list(world, _query(group), hold, questions=questions, is_enough=note_page)
    if isinstance(found, TooMany | Later):
        group[:] = list(left.values())
        return found
    for message in left.values():
        _apply(world, message, _record_of(world, message, found))
    return None


def _uuid(message: Message) -> str:
    return (message.provider_uuid or "").lower()


def _record_of(world: Deps, message: Message, records: Sequence[Record]) -> Record | None:
    """Return the record of the message, by its id, or, where Plivo has not told that, by its number and time.

    None also where another message of ours may be it as well.
    """
    if message.provider_uuid is not None or not message.to_number:
        return None  # it would have been found on its page
    with world.database.read() as connection:
        windows = _unnamed_calls(connection, message)
        fitting = [record for record in records if _fits(record, message, windows)]
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
    numbers = {message.to_number for message in group}
    to = group[0].to_number if len(numbers) == 1 and group[0].to_number else None
    return Query(group[0].sender, to, min(times) - _SKEW, max(times) + _SKEW)


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


def _give_up(world: Deps, overdue: Sequence[Message]) -> None:
    """Leave as ``sent`` what nobody will ask for any more; an event of each says so."""
    data = {"source": "unasked", "note": "no_receipt", "plivo_state": None}
    # In the order of their ids, as all do that hold several.
    ordered = sorted(overdue, key=lambda message: message.id)
    for start in range(0, len(ordered), _CONCLUDED_AT_ONCE):
        now = world.clock.now()
        with world.database.transaction() as connection:
            for message in ordered[start : start + _CONCLUDED_AT_ONCE]:
                current = lock_message(connection, message.id)
                if current is not None and current.status == SENT and current.epoch == message.epoch:
                    _conclude(connection, current, now, {**data, "at": rfc3339(now)})


def _postpone(world: Deps, groups: Sequence[Sequence[Message]], later: Later) -> None:
    """Let each group come back together when its turn may be, so that one question still does for all of it."""
    apart = timedelta(minutes=1) / world.settings.plivo_list_per_minute
    wait = timedelta(seconds=later.seconds)
    first = world.clock.now() + (wait if later.reason == STOPS else max(wait, _AGAIN))
    place = 0
    for group in groups:
        _look_at(world, group, first + apart * place)
        # As many pages as it may take.
        place += 1 + len(group) // PAGE_SIZE


def _look_at(world: Deps, group: Sequence[Message], due: datetime | None) -> None:
    mine = tuple_(messages.c.id, messages.c.epoch).in_([(message.id, message.epoch) for message in group])
    with world.database.transaction() as connection:
        own = select(messages.c.id).where(mine, messages.c.status == SENT).order_by(messages.c.id).with_for_update()
        connection.execute(update(messages).where(messages.c.id.in_(own)).values(due_at=due))

"""Who may share one call to Plivo with a message: others of its batch that wait with the same text."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, select, tuple_

from smsapi.messages.models import WAITS, Message, messages, to_message
from smsapi.messages.statuses import WAITING
from smsapi.pacing.tolls import REQUESTS, tolls_of
from smsapi.settings import Settings

# So far is looked along those that wait in the flow. What belongs together was stored together.
_WINDOW: Final = 1_000

_COLUMNS = messages.c
_SAME_FLOW = tuple(_COLUMNS[name] == bindparam(name) for name in ("lane", "client_id", "sender"))
_BEHIND = tuple_(_COLUMNS.due_at, _COLUMNS.id) > tuple_(
    bindparam("due_at", type_=_COLUMNS.due_at.type), bindparam("id", type_=_COLUMNS.id.type)
)
_NEXT = (
    select(_COLUMNS.id)
    .where(WAITS, *_SAME_FLOW, _COLUMNS.due_at <= bindparam("now"), _BEHIND)
    .order_by(_COLUMNS.due_at, _COLUMNS.id)
    .limit(bindparam("window"))
    .subquery()
)
# Of what is said of them within no more is repeated here: SQLite would look for each along the whole flow again. It is
# looked at once they are held, since another may have changed one just before that.
_COMPANY = (
    select(messages)
    .join(_NEXT, _NEXT.c.id == _COLUMNS.id)
    .where(*(_COLUMNS[name] == bindparam(name) for name in ("batch_id", "text", "joined", "test")))
    .order_by(_COLUMNS.due_at, _COLUMNS.id)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True, of=messages)
)


def most_together(settings: Settings, message: Message) -> int:
    """Return with how many, itself included, the message may share a call: 1, where it goes alone.

    No more than the paces of its sender and of the account let pass within a second, so that whoever comes next, a
    code above all, waits no longer than that.
    """
    if message.test or message.batch_id is None or message.joined is None:
        return 1
    tolls = tolls_of(settings, message.sender, message.segments)
    # They are one request, however many they are.
    paced = [int(toll.per_second // toll.cost) for toll in tolls if toll.key != REQUESTS]
    return max(1, min(message.joined, settings.batch_chunk_size, *paced))


def find_company(connection: Connection, message: Message, now: datetime, *, at_most: int) -> Sequence[Message]:
    """Return up to ``at_most`` others that may share the call of a held, waiting message, held as it is.

    Those that another holds are passed over. They come longest due first, each number once, and are of one batch, one
    text, and of all else that Plivo is told with a text. A bounded stretch of the flow is looked at.
    """
    shared = ("lane", "client_id", "sender", "due_at", "id", "batch_id", "text", "joined", "test")
    given = {name: getattr(message, name) for name in shared}
    rows = connection.execute(_COMPANY, {**given, "now": now, "window": _WINDOW, "at_most": at_most})
    found: dict[str, Message] = {message.to_number: message}
    for other in map(to_message, rows):
        if _still_waits(other, now) and _told(other) == _told(message):
            found.setdefault(other.to_number, other)
    return list(found.values())[1:]


def _still_waits(other: Message, now: datetime) -> bool:
    return other.status in WAITING and other.due_at is not None and other.due_at <= now


def _told(message: Message) -> tuple[object, ...]:
    """Return all that its flow is known by, and that Plivo is told beside its text."""
    return (message.lane, message.client_id, message.sender, message.dlt, message.expires_at)

"""Storing a message with its event and its idempotency key in a single statement, where the store can.

On PostgreSQL the round trips are most of what taking a message costs: one statement, which is its own transaction, in
place of six. On SQLite there is no round trip to save.
"""

from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Table, bindparam, exists, insert, select
from sqlalchemy.dialects import postgresql

from smsapi.db import call_it_news
from smsapi.events.models import events
from smsapi.ids import new_id
from smsapi.messages.models import Message, messages, to_row
from smsapi.optouts.models import blocks, opt_outs
from smsapi.web.idempotency import idempotency_keys

_EVENT = ("id", "message_id", "client_id", "test", "type", "at", "data")


def store_in_one_statement(connection: Connection, message: Message, entry: dict[str, Any] | None) -> bool:
    """Store a new message, its first event, and the row of its idempotency key where it has one.

    Return whether it was stored: not where the key was there before, or its recipient has opted out, and then nothing
    was. Only on PostgreSQL.
    """
    kind = f"message.{message.status}"
    event: tuple[Any, ...] = (new_id(), message.id, message.client_id, message.test, kind, message.created_at, {})
    values = {
        **{f"m_{name}": value for name, value in to_row(message).items()},
        **{f"e_{name}": value for name, value in zip(_EVENT, event, strict=True)},
        **{f"k_{name}": value for name, value in (entry or {}).items()},
    }
    names = None if entry is None else tuple(sorted(entry))
    call_it_news(connection)
    return connection.execute(_statement(names), values).first() is not None


@cache
def _statement(claimed: tuple[str, ...] | None) -> Executable:
    """Return the statement that inserts all three, the key's row with these columns, or the two without a key."""
    wanted = ~exists().where(
        blocks(number=_bound("to_number"), client_id=_bound("client_id"), sender=_bound("sender"), test=_bound("test"))
    ).select_from(opt_outs)
    row = select(*_given(messages, "m_", tuple(messages.c.keys())))
    if claimed is not None:
        key = (
            postgresql.insert(idempotency_keys)
            .from_select(claimed, select(*_given(idempotency_keys, "k_", claimed)).where(wanted))
            .on_conflict_do_nothing()
            .returning(idempotency_keys.c.key)
            .cte("claimed")
        )
        # No row from a key that was there before, and so no message and no event.
        row = row.select_from(key)
    else:
        row = row.where(wanted)
    stored = insert(messages).from_select(messages.c.keys(), row).returning(messages.c.id).cte("stored")
    first = select(*_given(events, "e_", _EVENT)).select_from(stored)
    return insert(events).from_select(_EVENT, first).returning(events.c.id)


def _bound(name: str) -> Any:
    return bindparam(f"m_{name}", type_=messages.c[name].type)


def _given(table: Table, prefix: str, names: tuple[str, ...]) -> list[Any]:
    return [bindparam(f"{prefix}{name}", type_=table.c[name].type).label(name) for name in names]

"""Storing the rows of a batch that is being taken, a piece at a time, and taking them away again."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from sqlalchemy import ColumnElement, Connection, Table, Text, and_, any_, bindparam, delete, func, insert, select
from sqlalchemy.dialects.postgresql import ARRAY

from smsapi.batches.checking import Good
from smsapi.batches.models import batch_rejects, batch_rows
from smsapi.batches.store import Reject
from smsapi.db import Database
from smsapi.errors import StoreUnavailable
from smsapi.optouts.models import blocks, opt_outs

_DROP_PIECE: Final = 5_000
# Of the text form of COPY: what would end a column or a row, and what it is escaped with.
_ESCAPED: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL: Final = "\\N"


def opted_out_since(
    connection: Connection, numbers: Sequence[str], *, client_id: UUID, sender: str, test: bool
) -> Mapping[str, datetime]:
    """Return those of the numbers that this client may not text from the sender, with since when; in one query."""
    row = opt_outs.c
    if connection.dialect.name == "postgresql":
        among = row.number == any_(bindparam("numbers", list(numbers), type_=ARRAY(Text)))
    else:
        among = row.number.in_(bindparam("numbers", list(numbers), expanding=True))
    held = and_(among, blocks(number=row.number, client_id=client_id, sender=sender, test=test))
    found = connection.execute(select(row.number, func.min(row.at).label("at")).where(held).group_by(row.number))
    return {each.number: each.at for each in found}


def stage_rows(connection: Connection, batch_id: UUID, rows: Sequence[Good], *, joined: int | None) -> None:
    """Store good rows. Those whose text another of them has too may share a call with up to ``joined`` of them.

    Raises:
        StoreUnavailable: the store was lost; nothing of the transaction is kept.

    """
    alike = Counter(row.text for row in rows) if joined is not None else Counter[str | None]()
    together = {text for text, count in alike.items() if text is None or count > 1}
    values = [
        (
            batch_id,
            row.row,
            row.message_id,
            row.number,
            row.country,
            row.text,
            row.encoding,
            row.segments,
            row.price_micros,
            row.reference,
            joined if row.text in together else None,
        )
        for row in rows
    ]
    _store(connection, batch_rows, values)


def stage_rejects(connection: Connection, batch_id: UUID, rejects: Sequence[Reject]) -> None:
    """Store what was refused. Raises as :func:`stage_rows` does."""
    values = [(batch_id, each.row, each.value, each.code, each.message) for each in rejects]
    _store(connection, batch_rejects, values)


def _store(connection: Connection, table: Table, values: Sequence[tuple[Any, ...]]) -> None:
    if not values:
        return
    names = tuple(table.c.keys())
    if connection.dialect.name == "postgresql":
        _copy(connection, f"COPY {table.name} ({', '.join(names)}) FROM STDIN", values)
    else:
        connection.execute(insert(table), [dict(zip(names, each, strict=True)) for each in values])


def _copy(connection: Connection, statement: str, values: Sequence[tuple[Any, ...]]) -> None:
    raw = connection.connection.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise TypeError("COPY needs psycopg's own connection")
    try:
        with raw.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write("".join([_line(each) for each in values]))
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        # It went past SQLAlchemy, which would give the lost connection to the next one who asks.
        connection.invalidate(error)
        raise StoreUnavailable("The database does not answer; try again.", retry_after_seconds=1) from error


def _line(values: tuple[Any, ...]) -> str:
    return "\t".join([_cell(each) for each in values]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return _NULL
    return value.translate(_ESCAPED) if isinstance(value, str) else str(value)


def drop_rows(
    database: Database, batch_id: UUID, *, dropped: Callable[[Sequence[tuple[int, str]]], None] | None = None
) -> None:
    """Delete the staged rows of a batch, a piece in each transaction: a million at once would be cut off.

    ``dropped`` is told the rows of each piece, with their numbers, once they are gone.
    """
    _drop(database, batch_rows, batch_id, dropped=dropped)


def _numbers(connection: Connection, which: ColumnElement[bool]) -> list[tuple[int, str]]:
    rows = batch_rows.c
    found = connection.execute(select(rows.row, rows.to_number).where(which).order_by(rows.row))
    return [(each.row, each.to_number) for each in found]


def drop_rejects(database: Database, batch_id: UUID) -> None:
    """Delete what was noted as refused of a batch, likewise."""
    _drop(database, batch_rejects, batch_id)


def _drop(
    database: Database,
    table: Table,
    batch_id: UUID,
    *,
    dropped: Callable[[Sequence[tuple[int, str]]], None] | None = None,
) -> None:
    own, after = table.c.batch_id == batch_id, 0
    while True:
        with database.transaction() as connection:
            piece = select(table.c.row).where(own, table.c.row > after).order_by(table.c.row).limit(_DROP_PIECE)
            last = connection.execute(select(func.max(piece.subquery().c.row))).scalar()
            if last is None:
                return
            gone = own & (table.c.row <= last)
            told = _numbers(connection, gone) if dropped is not None else []
            connection.execute(delete(table).where(gone))
            after = last
        if dropped is not None:
            dropped(told)

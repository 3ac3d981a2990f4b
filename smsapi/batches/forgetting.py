"""What batches keep of persons, and its end: staged rows, what stood in refused rows, the texts of old batches."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from smsapi.batches.making import make_canceled
from smsapi.batches.models import CHECKED, REJECTED, batch_rejects, batch_rows, batches
from smsapi.batches.store import lock_batch
from smsapi.db import part_after
from smsapi.deps import Deps

# Where a walk over a table has come to, by its key.
Place = Sequence[Any] | None

_REJECTS_AT_ONCE: Final = 20_000
# What people write between the digits of a number.
_BETWEEN: Final = " -().+/"
# So many digits at its end are one person's, however the beginning is written: +49 171 …, 0049171…, 0171….
_TELLING_DIGITS: Final = 9


def forget_old(connection: Connection, client_id: UUID, until: datetime, *, limit: int) -> int:
    """Erase text and metadata of batches of the client that ended and were taken until then, and what was refused.

    Return how many rows were changed; with ``limit`` or more of them there may be more to do. Counts, price, status,
    times, and the codes of the refused rows stay. What another transaction holds is left for the next time.
    """
    forgotten = 0
    while forgotten < limit:
        batch_id = connection.execute(_old(client_id, until)).scalar_one_or_none()
        if batch_id is None:
            break
        rejects = _forget_rejects(connection, batch_id)
        forgotten += rejects
        if rejects < _REJECTS_AT_ONCE:
            values: dict[str, Any] = {"template": "", "text": None, "metadata": {}}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))
            forgotten += 1
    return forgotten


def forget_number(connection: Connection, number: str, place: Place) -> tuple[int, Place]:
    """Erase what stood in refused rows where it was this number (E.164), however it was written; return how many.

    All refused rows are looked through, since none can be found by a number; in parts, each a call of its own that
    takes well under a second: this one begins behind ``place``, and returns where the next does (None: there is none).
    """
    digits = number.removeprefix("+")[-_TELLING_DIGITS:]
    rows = batch_rejects.c
    stood: ColumnElement[str] = rows.value
    for mark in _BETWEEN:
        stood = func.replace(stood, mark, "")
    # Taking out the marks costs the most, so not of what is forgotten already.
    written = and_(rows.value != "", stood.contains(digits, autoescape=True))
    named = or_(written, rows.message.contains(digits, autoescape=True))
    part, last = part_after(connection, (rows.batch_id, rows.row), place, _REJECTS_AT_ONCE)
    return connection.execute(update(batch_rejects).where(part, named).values(_NOTHING)).rowcount, last


def cancel_rows_to(world: Deps, number: str) -> int:
    """Make the rows to this number (E.164) that wait in accepted batches into canceled messages; return how many.

    Those are then erased as all other messages are. An upload that is still under way keeps its rows: whoever asks
    again later finds them.
    """
    found: dict[UUID, None] = {}
    place: Place = None
    rows = batch_rows.c
    while True:
        # No index leads to a number: in parts, as above.
        with world.database.read() as connection:
            part, place = part_after(connection, (rows.batch_id, rows.row), place, _REJECTS_AT_ONCE)
            query = select(rows.batch_id).where(part, rows.to_number == number).distinct()
            found |= dict.fromkeys(connection.execute(query).scalars())
        if place is None:
            break
    canceled = 0
    for batch_id in found:
        with world.database.transaction() as connection:
            batch = lock_batch(connection, batch_id)
            if batch is not None and batch.accepted_at is not None:
                canceled += make_canceled(world, connection, batch, number).made - batch.made
    return canceled


def _old(client_id: UUID, until: datetime) -> Any:
    rows = batches.c
    ended = or_(rows.finished_at.is_not(None), rows.status.in_((REJECTED, CHECKED)))
    # A text is never empty but of what was forgotten.
    old = (rows.created_at <= until, or_(rows.send_at.is_(None), rows.send_at <= until), rows.template != "")
    query = select(rows.id).where(rows.client_id == client_id, ended, *old).order_by(rows.id).limit(1)
    return query.with_for_update(skip_locked=True)


def _forget_rejects(connection: Connection, batch_id: UUID) -> int:
    rows = batch_rejects.c
    kept = or_(rows.value != "", rows.message != rows.code)
    some = select(rows.row).where(rows.batch_id == batch_id, kept).order_by(rows.row).limit(_REJECTS_AT_ONCE)
    own = (rows.batch_id == batch_id, rows.row.in_(some.scalar_subquery()))
    return connection.execute(update(batch_rejects).where(*own).values(_NOTHING)).rowcount


_NOTHING: Final = {"value": "", "message": batch_rejects.c.code}

"""Batches as an upload leaves them, stored directly: accepted, their rows staged and not made into messages yet."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update

from smsapi.batches import models, store
from smsapi.batches.maker import tend_due
from smsapi.batches.making import make_messages
from smsapi.batches.models import Batch, batch_rejects, batch_rows
from smsapi.deps import Deps
from smsapi.ids import new_id, read_id, show_id
from smsapi.messages.lanes import MARKETING, TEST
from smsapi.messages.models import messages
from tests.support.api import LANDLINE, Caller
from tests.support.dispatching import world_of


def number_of(row: int) -> str:
    """Return a number of its own for each row; none of those whose last digits mean something to the simulator."""
    block, place = divmod(row, 9000)
    return f"+1212{5550000 + 10_000 * block + 1000 + place}"


def stage(
    caller: Caller,
    count: int,
    *,
    made: int = 0,
    test: bool = False,
    first: int = 2,
    row: dict[str, Any] | None = None,
    **values: Any,
) -> str:
    """Store an accepted batch with so many rows, the first one numbered 2 as in a CSV; return its id as callers see it.

    ``made`` of them are messages at once. ``row`` are columns of each row, ``values`` those of the batch.
    """
    world = world_of(caller.app)
    batch = _batch(world, caller, count, test=test, **values)
    rows = [{**_row(batch, place), **(row or {})} for place in range(first, first + count)]
    with world.database.transaction() as connection:
        store.add_batch(connection, batch)
        store.start_counts(connection, batch)
        if rows:
            connection.execute(insert(batch_rows), rows)
        if made:
            make_messages(world, connection, batch, limit=made)
    return show_id("bat", batch.id)


def add_rejects(caller: Caller, batch_id: str, rejects: list[dict[str, Any]]) -> None:
    own = uuid_of_batch(batch_id)
    with world_of(caller.app).database.transaction() as connection:
        connection.execute(insert(batch_rejects), [{"batch_id": own, **each} for each in rejects])


def tend_all(caller: Caller, *, times: int = 1_000) -> int:
    """Do step after step of all batches that are due, as a Maker does; return how many steps had something to do."""
    world = world_of(caller.app)
    for step in range(times):
        if tend_due(world, lambda: False) > 0:
            return step
    raise AssertionError(f"still due after {times} steps")


def get_batch(caller: Caller, batch_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = caller.get(f"/v1/batches/{batch_id}").get_json()
    return shown


def counts(caller: Caller, batch_id: str) -> dict[str, int]:
    """Return how the batch says that its rows stand, without the zeros; they have to add up."""
    shown = get_batch(caller, batch_id)
    found: dict[str, int] = shown["counts"]
    assert sum(found.values()) == shown["accepted"], shown
    return {status: rows for status, rows in found.items() if rows}


def counted(caller: Caller, batch_id: str) -> dict[str, int]:
    """Return the same as the messages say it, one by one."""
    query = select(messages.c.status, func.count()).where(messages.c.batch_id == uuid_of_batch(batch_id))
    with world_of(caller.app).database.read() as connection:
        return dict(connection.execute(query.group_by(messages.c.status)).all())


def move(caller: Caller, batch_id: str, before: str, after: str, count: int) -> int:
    """Give so many of the batch's messages another status, as sending them would; return how many there were."""
    of_batch = (messages.c.batch_id == uuid_of_batch(batch_id), messages.c.status == before)
    ids = select(messages.c.id).where(*of_batch).order_by(messages.c.id).limit(count).with_for_update(skip_locked=True)
    with world_of(caller.app).database.transaction() as connection:
        chosen = [row.id for row in connection.execute(ids)]
        connection.execute(update(messages).where(messages.c.id.in_(chosen)).values(status=after, due_at=None))
    return len(chosen)


def uuid_of_batch(shown: str) -> UUID:
    found = read_id("bat", shown)
    assert found is not None
    return found


def _batch(world: Deps, caller: Caller, count: int, *, test: bool, **values: Any) -> Batch:
    now: datetime = world.clock.now()
    scheduled = values.get("send_at") is not None
    fresh: dict[str, Any] = {
        "id": new_id(),
        "client_id": read_id("cli", caller.client_id),
        "key_id": read_id("key", caller.key_id),
        "test": test,
        "status": models.SCHEDULED if scheduled else models.QUEUED,
        "sender": LANDLINE,
        "template": "Hello",
        "text": "Hello",
        "category": "marketing",
        "lane": TEST if test else MARKETING,
        "on_unknown": "reconcile",
        "metadata": {"campaign": "spring"},
        "dlt": None,
        "bounds": {"max_segments": 2},
        "expires_at": None,
        "send_at": None,
        "all_or_nothing": False,
        "dry_run": False,
        "accepted": count,
        "rejected": 0,
        "duplicates": 0,
        "segments": count,
        "price_micros": 5500 * count,
        "price_currency": "USD",
        "made": 0,
        "made_through": 0,
        "idempotency_key": None,
        "heard_at": now,
        "due_at": now,
        "mark_at": None,
        "mark_left": 0,
        "created_at": now,
        "accepted_at": now,
        "started_at": None,
        "canceled_at": None,
        "finished_at": None,
    }
    return Batch(**{**fresh, **values})


def _row(batch: Batch, row: int) -> dict[str, Any]:
    return {
        "batch_id": batch.id,
        "row": row,
        "message_id": new_id(),
        "to_number": number_of(row),
        "country": "US",
        "text": None,
        "encoding": "gsm7",
        "segments": 1,
        "price_micros": 5500,
        "reference": f"row-{row}",
        "joined": None,
    }

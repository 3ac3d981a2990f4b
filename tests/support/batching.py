"""Batches whose rows wait in the queue, as an upload and the making of its messages leave them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, update

from smsapi.batches.making import make_messages
from smsapi.batches.models import batch_rows
from smsapi.batches.store import change_batch, lock_batch
from smsapi.deps import Deps
from smsapi.messages.models import message_attempts, messages
from tests.support.api import Caller
from tests.support.dispatching import world_of
from tests.support.staged import stage, uuid_of_batch


def numbers(count: int, first: int = 1000) -> list[str]:
    """Return so many numbers, none of them a magic one."""
    return [f"+1415556{first + place}" for place in range(count)]


def types_of(caller: Caller, message_id: str) -> list[str]:
    """Return the types of the message's events."""
    return [event["type"].removeprefix("message.") for event in caller.events(message_id)]


def queue_batch(
    caller: Caller, to: Sequence[str], *, joined: int | None = 200, texts: Sequence[str] = (), **values: Any
) -> tuple[str, list[str]]:
    """Put a batch to these numbers in the queue; return its id and those of its messages, in their order.

    ``texts`` are those of the rows, where they are not all the same; ``values`` are columns of the batch.
    """
    world = world_of(caller.app)
    batch_id = stage(caller, len(to), **values)
    of_batch = batch_rows.c.batch_id == uuid_of_batch(batch_id)
    given = {name: bindparam(name) for name in ("to_number", "joined", "text")}
    rows = [
        {"place": place + 2, "to_number": number, "joined": joined, "text": texts[place] if texts else None}
        for place, number in enumerate(to)
    ]
    with world.database.transaction() as connection:
        connection.execute(
            update(batch_rows).where(of_batch, batch_rows.c.row == bindparam("place")).values(given), rows
        )
        batch = lock_batch(connection, uuid_of_batch(batch_id))
        assert batch is not None
        query = select(batch_rows.c.message_id).where(of_batch).order_by(batch_rows.c.row)
        ids = list(connection.execute(query).scalars())
        while batch.made < batch.accepted:
            batch = make_messages(world, connection, batch, limit=1000)
    return batch_id, [f"msg_{each.hex}" for each in ids]


def call_off(world: Deps, batch_id: str) -> None:
    """Cancel the batch, and leave what waits of it to whoever claims it."""
    with world.database.transaction() as connection:
        batch = lock_batch(connection, uuid_of_batch(batch_id))
        assert batch is not None
        change_batch(connection, batch, status="canceled", canceled_at=world.clock.now())


def rows_of(world: Deps, batch_id: str) -> dict[str, Any]:
    """Return the messages of the batch by their numbers."""
    with world.database.read() as connection:
        found = connection.execute(select(messages).where(messages.c.batch_id == uuid_of_batch(batch_id)))
        return {row.to_number: row for row in found}


def statuses_of(world: Deps, batch_id: str) -> dict[str, int]:
    """Return how many messages of the batch stand how."""
    found: dict[str, int] = {}
    for row in rows_of(world, batch_id).values():
        found[row.status] = found.get(row.status, 0) + 1
    return found


def chunks_of(world: Deps, batch_id: str) -> dict[UUID | None, list[Any]]:
    """Return all attempts for messages of the batch, by the calls that they shared."""
    query = (
        select(message_attempts, messages.c.to_number)
        .join(messages, messages.c.id == message_attempts.c.message_id)
        .where(messages.c.batch_id == uuid_of_batch(batch_id))
    )
    found: dict[UUID | None, list[Any]] = {}
    with world.database.read() as connection:
        for row in connection.execute(query):
            found.setdefault(row.chunk_id, []).append(row)
    return found

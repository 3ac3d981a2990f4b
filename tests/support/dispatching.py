"""Looking at the queue and turning its crank by hand, a claim at a time."""

from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import insert, select

from smsapi.deps import Deps
from smsapi.dispatch.chores import reconcile_due, run_chore
from smsapi.dispatch.claims import Chore, claim_chores, claim_to_send
from smsapi.ids import new_id
from smsapi.messages.flows import find_work
from smsapi.messages.models import message_attempts, messages
from smsapi.send.begin import Begun
from smsapi.send.deliver import run

ASYNC = {"Prefer": "respond-async"}


def world_of(app: Flask) -> Deps:
    world: Deps = app.extensions["smsapi"]
    return world


def claim(world: Deps, limit: int = 100) -> list[Begun]:
    """Begin an attempt for all that is due to be sent, longest due first within each flow."""
    begun: list[Begun] = []
    now = world.clock.now()
    with world.database.transaction() as connection:
        for flow in find_work(connection, now).flows:
            begun += claim_to_send(world, connection, flow, now, limit=limit - len(begun)).begun
    return begun


def run_due(world: Deps) -> int:
    """Do once what a dispatcher does for all that is due now; return how many rows that were."""
    begun = claim(world)
    for each in begun:
        run(world, each, wait_until=world.clock.now())
    with world.database.transaction() as connection:
        lease = world.settings.lease_seconds
        chores = claim_chores(connection, world.clock.now(), Chore.OTHER, lease_seconds=lease, limit=100)
    for each in chores:
        run_chore(world, each)
    return len(begun) + len(chores) + reconcile_due(world, lambda: False)


def uuid_of(message: dict[str, Any]) -> UUID:
    return UUID(hex=message["id"].removeprefix("msg_"))


def multiply(world: Deps, message: dict[str, Any], count: int) -> None:
    """Put so many more like the message in the queue, each to a number of its own."""
    like = row_of(world, message)._asdict()
    rows = [like | {"id": new_id(), "to_number": f"+1415557{1000 + number}"} for number in range(count)]
    with world.database.transaction() as connection:
        if rows:
            connection.execute(insert(messages), rows)


def attempts_of(world: Deps, message: dict[str, Any]) -> list[Any]:
    query = select(message_attempts).where(message_attempts.c.message_id == uuid_of(message))
    with world.database.read() as connection:
        return list(connection.execute(query.order_by(message_attempts.c.number)))


def row_of(world: Deps, message: dict[str, Any]) -> Any:
    with world.database.read() as connection:
        return connection.execute(select(messages).where(messages.c.id == uuid_of(message))).one()


def counts_by_status(world: Deps) -> dict[str, int]:
    found: dict[str, int] = {}
    with world.database.read() as connection:
        for (status,) in connection.execute(select(messages.c.status)):
            found[status] = found.get(status, 0) + 1
    return found

"""The one order of all events: each that is committed gets the next number, and with it its deliveries.

Ids are made before a transaction commits, and two may commit in the other order; a reader who goes by ids would miss
the later one. Numbers are given afterwards, by one at a time for all processes, and so come to be seen in their order.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from smsapi.db import after_commit, try_lock
from smsapi.deps import Deps
from smsapi.events.models import FIRST_UNNUMBERED, UNNUMBERED, event_marks, events
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.webhooks.deliveries import enqueue
from smsapi.webhooks.models import FAILED, Endpoint, to_endpoint, webhook_deliveries, webhook_endpoints
from smsapi.webhooks.present import Told, select_told, to_told

log = get_logger()

_BATCH: Final = 500
# Any fixed number, as long as nobody else locks it in this database.
_LOCK: Final = 8_731_402_217
# What was forgotten keeps its number: whoever stands there would otherwise miss what got it again.
_LAST: Final = tuple(
    select(func.coalesce(func.max(each.c.seq), 0)).where(each.c.seq.is_not(None)) for each in (events, event_marks)
)
# Told to the endpoint that it names and to no other.
TEST_EVENT: Final = "webhook.test"


def relay(world: Deps) -> int | None:
    """Give what is committed its number, and make its deliveries; return how many events that were.

    None where another process is at it: it may have looked before the last were there, so ask again soon.
    """
    total, numbered = 0, _BATCH
    # Not until there are none: where they never end, whoever rests in between has fewer transactions to make.
    while numbered == _BATCH:
        with world.database.read() as connection:
            if connection.execute(FIRST_UNNUMBERED).first() is None:
                break
        with world.database.transaction() as connection:
            if not try_lock(connection, _LOCK):
                return None
            numbered = _number(world, connection)
        total += numbered
    return total


def _number(world: Deps, connection: Connection) -> int:
    # The lock is given back when this transaction has become visible, and was asked for before this look: the last
    # number is seen.
    last = max(connection.execute(each).scalar_one() for each in _LAST)
    # By time first: ids are made by the clocks of several machines, times by the one that they share.
    earliest = (events.c.at, events.c.id)
    batch = select(*earliest).where(UNNUMBERED).order_by(*earliest).limit(_BATCH).subquery()
    place = func.row_number().over(order_by=(batch.c.at, batch.c.id)).label("place")
    placed = select(batch.c.id, place).subquery()
    given = update(events).where(events.c.id == placed.c.id).values(seq=last + placed.c.place)
    clients = connection.execute(given.returning(events.c.client_id)).scalars().all()
    count = len(clients)
    by_client = _endpoints_of(connection, set(clients))
    # Most clients have none, and what nobody is told of is not read.
    if by_client:
        fresh = select_told().where(events.c.seq > last, events.c.seq <= last + count)
        told = fresh.where(events.c.client_id.in_(by_client)).order_by(events.c.seq)
        news = [to_told(row) for row in connection.execute(told)]
        pairs = [
            (each.id, event)
            for event in news
            for each in by_client[event.client_id]
            if _wants_if_readable(connection, each, event)
        ]
        enqueue(connection, world.clock.now(), pairs)
    return count


def _endpoints_of(connection: Connection, clients: set[UUID]) -> Mapping[UUID, Sequence[Endpoint]]:
    rows = webhook_endpoints.c
    query = select(webhook_endpoints).where(rows.client_id.in_(clients), rows.enabled, rows.deleted_at.is_(None))
    found: dict[UUID, list[Endpoint]] = {}
    for row in connection.execute(query):
        found.setdefault(row.client_id, []).append(to_endpoint(row))
    return found


def _wants_if_readable(connection: Connection, endpoint: Endpoint, event: Told) -> bool:
    """Say what :func:`wants` does; an endpoint that cannot be handled is not told, and keeps no other from it."""
    try:
        return wants(endpoint, event)
    except Exception as error:  # noqa: BLE001 - the numbers of all clients' events wait for this
        said = {"endpoint_id": show_id("whe", endpoint.id), "event_id": show_id("evt", event.id)}
        after_commit(connection, partial(log.error, "endpoint_skipped", **said, exc_info=error))
        return False


def wants(endpoint: Endpoint, event: Told) -> bool:
    """Say whether this endpoint of the event's client is to be told of it."""
    if event.type == TEST_EVENT:
        return event.data.get("endpoint_id") == show_id("whe", endpoint.id)
    return (event.test or not endpoint.test) and any(matches(pattern, event.type) for pattern in endpoint.events)


def matches(pattern: str, kind: str) -> bool:
    """Say whether a filter, ``message.sent``, ``message.*`` or ``*``, takes events of this type."""
    return pattern in {"*", kind} or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))


def list_told(
    connection: Connection, *, client_id: UUID, test_only: bool, after: int, limit: int, **bounds: Any
) -> Sequence[Told]:
    """Return up to ``limit`` numbered events of a client in their order, behind the number ``after``.

    ``bounds`` may hold ``since``, a moment before which none is wanted, and ``untold_to``, an endpoint that wants what
    is asked for and was not told of it, or in vain; those events are then kept until the transaction ends.
    """
    rows = events.c
    query = select_told().where(rows.client_id == client_id, rows.seq > after).order_by(rows.seq).limit(limit)
    if test_only:
        query = query.where(rows.test)
    if "since" in bounds:
        query = query.where(rows.at >= bounds["since"])
    if "untold_to" in bounds:
        query = query.where(*_untold_to(bounds["untold_to"])).with_for_update(read=True, key_share=True, of=events)
    return [to_told(row) for row in connection.execute(query)]


def _untold_to(endpoint: Endpoint) -> Sequence[ColumnElement[bool]]:
    rows, told = events.c, webhook_deliveries.c
    of_it = (told.endpoint_id == endpoint.id, told.event_id == rows.id, told.status != FAILED)
    not_told = ~select(told.id).where(*of_it).exists()
    if "*" in endpoint.events:
        return (not_told,)
    named = {TEST_EVENT, *endpoint.events}
    families = [rows.type.startswith(each[:-1], autoescape=True) for each in named if each.endswith(".*")]
    return (not_told, or_(rows.type.in_(named), *families))

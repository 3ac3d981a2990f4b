"""Flows of messages that wait: one for each lane, client and sender with a message due; found without counting them."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Row,
    Select,
    bindparam,
    cast,
    func,
    literal,
    null,
    select,
    tuple_,
    type_coerce,
    union_all,
)

from smsapi.auth.models import clients
from smsapi.db import DueMoment, UtcDateTime
from smsapi.messages.models import CHORE, WAITS, messages
from smsapi.pressure import Load


@dataclass(frozen=True, slots=True)
class Flow:
    """Messages of one lane, client and sender, of which the first has been due since ``due_at``.

    ``allowed_senders`` and ``allowed_countries`` are the client's as of the look that found the flow; None: any.
    """

    lane: int
    client_id: UUID
    sender: str
    due_at: datetime
    weight: int
    allowed_senders: tuple[str, ...] | None = None
    allowed_countries: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What a look found: the flows that have something due, and whether there are chores.

    A chore is a message that needs a look and is not to be sent: a lost lease, an unknown outcome, a test receipt.
    ``next_at`` is when the next flow will have something due, as far as was looked ahead. ``others`` are the places of
    those of the other queries that have something due by then.
    """

    flows: Sequence[Flow]
    chores: bool
    next_at: datetime | None = None
    others: AbstractSet[int] = frozenset()


def find_work(
    connection: Connection, now: datetime, *, ahead_seconds: float = 0.0, others: tuple[Select[Any], ...] = ()
) -> Work:
    """Return what is due, flows that have waited longest first, in one statement, and what will be so many s later.

    It jumps from one flow to the next along the index, so that it costs as much for a million waiting messages as for
    one, and nothing for those that are scheduled for later but the look at the first of each flow.

    Each of ``others`` selects a row with one column, ``due_at``: when something else than a message is due, NULL for
    never. They are asked in the same statement, which is built once for each tuple of them.
    """
    until = now + timedelta(seconds=ahead_seconds)
    found = connection.execute(_work(others), {"now": now, "until": until}).all()
    flows = [_flow_of(row) for row in found if row.lane >= 0]
    flows.sort(key=lambda flow: flow.due_at)
    due = [flow for flow in flows if flow.due_at <= now]
    later = flows[len(due) :]
    besides = {row.lane for row in found if row.lane < 0}
    due_others = frozenset(_FIRST_OTHER - lane for lane in besides if lane <= _FIRST_OTHER)
    return Work(due, _CHORES in besides, later[0].due_at if later else None, due_others)


def _flow_of(row: Row[Any]) -> Flow:
    senders, countries = (
        None if each is None else tuple(each) for each in (row.allowed_senders, row.allowed_countries)
    )
    return Flow(row.lane, row.client_id, row.sender, row.due_at, row.weight, senders, countries)


def measure_due(connection: Connection, now: datetime, *, at_most: int) -> Mapping[int, Load]:
    """Return the depth of each lane that has something due, as of ``now``.

    What is scheduled for later costs nothing; of each flow no more than ``at_most`` are counted.
    """
    found: dict[int, Load] = {}
    for row in connection.execute(_depths(), {"now": now, "until": now, "at_most": at_most}):
        other = found.get(row.lane, Load(0, row.due_at))
        found[row.lane] = Load(other.waiting + row.waiting, min(other.oldest_due_at, row.due_at))
    return found


# In the place of a lane: chores, and from this on downwards the other queries.
_CHORES: Final = -1
_FIRST_OTHER: Final = -2
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@cache
def _depths() -> Select[Any]:
    flow = _flows().subquery("flow")
    columns = messages.c
    due = (
        select(literal(1).label("one"))
        .where(
            WAITS,
            *(columns[name] == flow.c[name] for name in ("lane", "client_id", "sender")),
            columns.due_at <= bindparam("now"),
        )
        .limit(bindparam("at_most"))
        .correlate(flow)
        .subquery()
    )
    counted = select(func.count()).select_from(due).correlate(flow).scalar_subquery()
    return select(flow.c.lane, flow.c.due_at, counted.label("waiting"))


@cache
def _work(others: tuple[Select[Any], ...]) -> CompoundSelect[Any]:
    columns = messages.c
    chore = (
        select(columns.due_at)
        .where(CHORE, columns.due_at <= bindparam("now"))
        # Without an order PostgreSQL may look through the whole table for the first that it meets, where there is none.
        .order_by(columns.due_at)
        .limit(1)
    )
    beside = [_in_place_of_a_flow(_CHORES, chore)]
    beside += [_in_place_of_a_flow(_FIRST_OTHER - place, other) for place, other in enumerate(others)]
    return union_all(_flows(), *beside)


def _in_place_of_a_flow(lane: int, query: Select[Any]) -> Select[Any]:
    """Return the row of the query, where it is due, with the columns of a flow."""
    row = query.subquery()
    client_id = cast(null(), messages.c.client_id.type)
    flow = (literal(lane).label("lane"), client_id.label("client_id"), literal("").label("sender"), row.c.due_at)
    none = (cast(null(), clients.c[name].type).label(name) for name in ("allowed_senders", "allowed_countries"))
    return select(*flow, literal(1).label("weight"), *none).where(row.c.due_at <= bindparam("until"))


def _flows() -> Select[Any]:
    columns = messages.c
    key = (columns.lane, columns.client_id, columns.sender)
    first = select(*key).where(WAITS).order_by(*key).limit(1).subquery()
    flow = select(first).cte("flow", recursive=True)
    then = messages.alias("then")
    # The alias keeps the conditions of the partial index, word for word, on the name that they are written with.
    # SQLite uses no more than the first column of the index where a bare column, which has an affinity, is compared
    # with; and it begins at what is equal: without the moment it would walk through all that wait in the flow.
    after = (*(func.coalesce(flow.c[column.name], flow.c[column.name]) for column in key), literal(_NEVER, UtcDateTime))
    following = (
        select(columns.id)
        .where(WAITS, tuple_(*key, columns.due_at) > tuple_(*after))
        .order_by(*key)
        .limit(1)
        .correlate(flow)
        .scalar_subquery()
    )
    flow = flow.union_all(select(then.c.lane, then.c.client_id, then.c.sender).join(flow, then.c.id == following))
    earliest = (
        select(func.min(columns.due_at))
        .where(WAITS, *(columns[name] == flow.c[name] for name in ("lane", "client_id", "sender")))
        .correlate(flow)
        .scalar_subquery()
    )
    dated = select(flow, earliest.label("due_at")).subquery()
    # One row of which it cannot be read is to keep nobody else's from being found; its claim says what is wrong.
    due_at = type_coerce(dated.c.due_at, DueMoment()).label("due_at")
    return (
        select(
            *(dated.c[column.name] for column in key),
            due_at,
            clients.c.weight,
            clients.c.allowed_senders,
            clients.c.allowed_countries,
        )
        .join(clients, clients.c.id == dated.c.client_id)
        .where(dated.c.due_at <= bindparam("until"))
    )

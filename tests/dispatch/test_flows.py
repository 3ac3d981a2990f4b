"""What a look at the queue finds: exactly the flows that have something due, however much waits for later."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, func, insert, literal, select, text, update

from smsapi.auth.models import clients
from smsapi.ids import new_id
from smsapi.messages.flows import Flow, find_work
from smsapi.messages.lanes import MARKETING, NAMES, OTP
from smsapi.messages.models import messages
from smsapi.messages.statuses import WAITING
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, row_of, world_of
from tests.support.examples import sized

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOON = timedelta(microseconds=1)
SENDERS = ("+14155550100", "+14155550101", "ACME")
STATUSES = ("scheduled", "queued", "sending", "sent", "unknown", "delivered")
MANY = sized(4_000, 20_000)


@pytest.fixture
def world(app):
    return world_of(app)


@pytest.fixture
def client_ids(app):
    """Four clients, the first with a share of 1, the last of 4."""
    made = [UUID(hex=new_caller(app).client_id.removeprefix("cli_")) for _ in range(4)]
    with world_of(app).database.transaction() as connection:
        for weight, client_id in enumerate(made, start=1):
            connection.execute(update(clients).where(clients.c.id == client_id).values(weight=weight))
    return made


@pytest.fixture
def like(app, world):
    """A message's row, to be stored again with other values; itself it waits for nothing."""
    row = row_of(world, new_caller(app).send(headers=ASYNC).get_json())._asdict()
    with world.database.transaction() as connection:
        connection.execute(update(messages).values(due_at=None, status="delivered"))
    return row | {"status": "queued", "due_at": NOW}


def store(world, like, *values):
    with world.database.transaction() as connection:
        connection.execute(insert(messages), [{**like, **given, "id": new_id()} for given in values])


def store_many(world, like, count, **values):
    """Store so many rows alike, made by the store itself."""
    store(world, like, values)
    postgresql = world.database.is_postgresql
    with world.database.transaction() as connection:
        number = select(literal(1).label("n")).cte("number", recursive=True)
        number = number.union_all(select(number.c.n + 1).where(number.c.n < count - 1))
        fresh = func.gen_random_uuid() if postgresql else func.lower(func.hex(func.randomblob(16)))
        same = select(*[fresh if column.name == "id" else column for column in messages.c])
        alike = same.select_from(messages.join(number, literal(True))).where(
            *(messages.c[name] == value for name, value in values.items())
        )
        connection.execute(insert(messages).from_select([column.name for column in messages.c], alike))


def look(world, now=NOW):
    with world.database.read() as connection:
        return find_work(connection, now)


def brute_force(world, now):
    """The same, by reading every row."""
    first: dict[Any, datetime] = {}
    chores = False
    with world.database.read() as connection:
        weights = {row.id: row.weight for row in connection.execute(select(clients))}
        for row in connection.execute(select(messages).where(messages.c.due_at.is_not(None))):
            if row.due_at > now:
                continue
            if row.status in WAITING:
                key = (row.lane, row.client_id, row.sender)
                first[key] = min(first.get(key, row.due_at), row.due_at)
            else:
                chores = True
    return {Flow(*key, due_at, weights[key[1]]) for key, due_at in first.items()}, chores


@pytest.mark.parametrize("seed", range(6))
def test_it_finds_exactly_the_flows_with_something_due_and_when_the_first_was(world, like, client_ids, seed):
    chance = Random(seed)
    moments = [None, *(NOW + SOON * chance.randint(-3, 3) for _ in range(4))]
    rows = [
        {
            "lane": chance.choice(list(NAMES)),
            "client_id": chance.choice(client_ids),
            "sender": chance.choice(SENDERS),
            "status": chance.choice(STATUSES),
            "due_at": chance.choice(moments),
        }
        for _ in range(chance.choice((1, 5, 30, 300)))
    ]
    store(world, like, *rows)
    for now in (NOW - 2 * SOON, NOW, NOW + SOON):
        found, (flows, chores) = look(world, now), brute_force(world, now)
        assert set(found.flows) == flows
        assert len(found.flows) == len(flows)
        assert found.chores == chores


def test_an_empty_queue_has_neither_flows_nor_chores(world, like):
    work = look(world)
    assert (list(work.flows), work.chores) == ([], False)


def test_what_is_due_to_the_moment_is_found_and_what_is_due_just_after_is_not(world, like, client_ids):
    due = {"client_id": client_ids[0], "lane": OTP}
    store(world, like, due, {"client_id": client_ids[1], "lane": OTP, "due_at": NOW + SOON})
    assert [flow.client_id for flow in look(world).flows] == [client_ids[0]]
    assert len(look(world, NOW + SOON).flows) == 2


def test_it_says_when_the_next_flow_will_have_something_due_as_far_as_it_looks_ahead(world, like, client_ids):
    soon, later = NOW + timedelta(seconds=2), NOW + timedelta(seconds=3)
    rows = [
        {"client_id": client_id, "due_at": due} for client_id, due in zip(client_ids, (NOW, later, soon), strict=False)
    ]
    store(world, like, *rows)
    with world.database.read() as connection:
        works = [find_work(connection, NOW, ahead_seconds=ahead) for ahead in (0, 1.9, 2, 60)]
        after = find_work(connection, later, ahead_seconds=60)
    assert [work.next_at for work in works] == [None, None, soon, soon]
    assert {tuple(flow.client_id for flow in work.flows) for work in works} == {(client_ids[0],)}
    assert (len(after.flows), after.next_at) == (3, None)


def statements_of(world, act):
    seen = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        seen.append((statement, parameters))

    event.listen(world.database.engine, "before_cursor_execute", note)
    act()
    event.remove(world.database.engine, "before_cursor_execute", note)
    return [(statement, given) for statement, given in seen if "BEGIN" not in statement]


def rows_read(plan):
    """Return how many rows of messages PostgreSQL read, of the table or of an index."""
    rows = 0
    if plan.get("Relation Name") == "messages":
        passed_over = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        rows = (plan["Actual Rows"] + passed_over) * plan["Actual Loops"]
    return rows + sum(rows_read(part) for part in plan.get("Plans", ()))


def cost_of_a_look(world):
    """Return what one look costs: on PostgreSQL rows of messages read, on SQLite steps of its machine."""
    if world.database.is_postgresql:
        ((statement, given),) = statements_of(world, lambda: look(world))
        with world.database.read() as connection:
            explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", given).scalar_one()
        return rows_read(explained[0]["Plan"])
    steps = []
    with world.database.read() as connection:
        driver = connection.connection.driver_connection
        driver.set_progress_handler(lambda: steps.append(1), 1)
        find_work(connection, NOW)
        driver.set_progress_handler(None, 0)
    return len(steps)


def test_a_look_is_one_statement(world, like, client_ids):
    store(world, like, *({"client_id": client_id, "lane": lane} for client_id in client_ids for lane in NAMES))
    assert len(statements_of(world, lambda: look(world))) == 1


def test_a_look_costs_no_more_for_thousands_of_messages_than_for_six(world, like, client_ids):
    alike = [
        {"client_id": client_ids[0], "status": "scheduled", "due_at": NOW + timedelta(days=9)},
        {"client_id": client_ids[1], "lane": MARKETING, "due_at": NOW - timedelta(hours=1)},
        {"client_id": client_ids[2], "status": "delivered", "due_at": None},
    ]
    store(world, like, *alike, *({"client_id": client_ids[3], "sender": sender} for sender in SENDERS))
    few = cost_of_a_look(world)
    for values, count in zip(alike, (MANY // 2, MANY // 4, MANY // 4), strict=True):
        store_many(world, like, count, **values)
    assert len(look(world).flows) == 1 + len(SENDERS)
    assert cost_of_a_look(world) <= 2 * few
    # PostgreSQL plans by what it knows of the table: at first nothing, after a while much.
    with world.database.transaction() as connection:
        connection.execute(text("ANALYZE"))
    assert cost_of_a_look(world) <= 2 * few

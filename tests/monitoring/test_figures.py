"""Figures of the queue: right on both stores, by few questions, each by an index however much there is."""

import re
from datetime import UTC, datetime, timedelta

import pytest
import requests
from sqlalchemy import event, insert, text, update

from smsapi.batches.models import batches
from smsapi.clock import ManualClock
from smsapi.db import Database
from smsapi.messages.models import message_attempts, messages
from smsapi.messages.unknown import count_unknown
from smsapi.migrations import upgrade
from smsapi.monitoring.figures import look_at_queue
from tests.conftest import eventually, free_port, listening, new_caller
from tests.services import start_postgres
from tests.support.dispatching import ASYNC, multiply, uuid_of, world_of
from tests.support.heartbeats import beat
from tests.support.served import caller_of, environment, serving
from tests.support.staged import stage

MANY = 100_000
READ_WHOLE = re.compile(r"Seq Scan on (messages|batches|message_attempts)\b|SCAN (messages|batches)\b(?! USING)")
# Of both stores: a new id, and numbers from 1 on.
NEW_ID = {True: "gen_random_uuid()", False: "lower(hex(randomblob(16)))"}
NUMBERS = {
    True: "generate_series(1, :count) AS n(i)",
    False: "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) SELECT i FROM n)",
}


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def app(make_app, clock):
    return make_app({"clock": clock})


@pytest.fixture
def asked_of():
    """Note what is asked of a store, with its parameters."""

    def note(database):
        asked = []
        event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        return asked

    return note


def gauges(app):
    """Return the samples of the store, as any service shows them that looks anew."""
    world_of(app).figures.forget()
    found = app.test_client().get("/metrics").get_data(as_text=True)
    lines = (line.rsplit(" ", 1) for line in found.splitlines() if not line.startswith("#"))
    return {name.removeprefix("smsapi_"): float(value) for name, value in lines}


def test_each_figure_is_what_there_is(app, clock):
    caller, tester, world = new_caller(app), new_caller(app, mode="test"), world_of(app)
    first = caller.send(category="otp", headers=ASYNC).get_json()
    clock.advance(30)
    multiply(world, first, 4)
    tester.send(headers=ASYNC)
    caller.send(send_at=(clock.now() + timedelta(hours=1)).isoformat())
    stage(caller, 7)
    beat(world)
    beat(world, seconds_ago=11)
    beat(world, seconds_ago=9, role="serve")
    found = gauges(app)
    lanes = ("otp", "transactional", "marketing", "test")
    assert [found[f'queue_depth{{lane="{lane}"}}'] for lane in lanes] == [5, 0, 0, 1]
    assert [found[f'queue_oldest_seconds{{lane="{lane}"}}'] for lane in lanes] == [30, 0, 0, 0]
    assert (found["workers_alive"], found["batch_rows_waiting"], found["store_up"]) == (2, 7, 1)
    assert (found['unknown{state="in_doubt"}'], found['unknown{state="held"}']) == (0, 0)


def test_unknown_messages_are_counted_by_what_they_wait_for_and_those_of_test_keys_not_at_all(app, clock):
    world, began = world_of(app), clock.now()
    callers = [new_caller(app), new_caller(app), new_caller(app), new_caller(app, mode="test")]
    for number, caller in enumerate(callers):
        message = caller.send(headers=ASYNC).get_json()
        values = {"status": "unknown", "due_at": None if number == 0 else began}
        attempt = {"message_id": uuid_of(message), "number": 1, "epoch": 1}
        with world.database.transaction() as connection:
            connection.execute(update(messages).where(messages.c.id == uuid_of(message)).values(values))
            connection.execute(insert(message_attempts), attempt | {"started_at": began - timedelta(minutes=number)})
    found = gauges(app)
    assert (found['unknown{state="in_doubt"}'], found['unknown{state="held"}']) == (2, 1)
    assert found["unknown_oldest_seconds"] == 120
    with world.database.read() as connection:
        bounded = count_unknown(connection, at_most=2)
    assert bounded.in_doubt + bounded.held == 2


def copy(world, table, count, **made):
    """Copy the rows of a table so many times; ``made`` is what is different, in SQL: ``i`` is the copy's number."""
    own = world.database.is_postgresql
    columns = [column.name for column in table.columns]
    chosen = ", ".join({"id": NEW_ID[own], **made}.get(name, f"{table.name}.{name}") for name in columns)
    source = f"FROM {table.name}, {NUMBERS[own]}"
    with world.database.transaction() as connection:
        if own:  # on a busy machine it may take longer than a statement may
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(
            text(f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {chosen} {source}"), {"count": count}
        )
        if own:
            connection.execute(text(f"ANALYZE {table.name}"))


def test_a_call_that_was_interrupted_shows_where_nobody_sends(app, clock):
    caller, world = new_caller(app), world_of(app)
    message = caller.send(headers=ASYNC).get_json()
    with world.database.transaction() as connection:
        begun = update(messages).where(messages.c.id == uuid_of(message))
        connection.execute(begun.values(status="sending", due_at=clock.now() + timedelta(seconds=60)))
    clock.advance(50)
    assert gauges(app)["unfinished_oldest_seconds"] == 0
    clock.advance(40)
    assert gauges(app)["unfinished_oldest_seconds"] == 30
    queue = app.test_client().get("/readyz").get_json()
    assert "begun and not finished" in queue["degraded"]["queue"]
    beat(world)
    assert gauges(app)["unfinished_oldest_seconds"] == 30
    assert app.test_client().get("/readyz").get_json()["degraded"] == {}


def test_a_hundred_thousand_messages_are_looked_at_by_six_questions_and_an_index_each(app, clock, asked_of):
    world = world_of(app)
    caller = new_caller(app)
    caller.send(headers=ASYNC)
    copy(
        world,
        messages,
        MANY,
        lane="i % 3",
        status="CASE WHEN i % 10 = 0 THEN 'unknown' WHEN i % 10 < 4 THEN 'queued' ELSE 'delivered' END",
        due_at="CASE WHEN i % 10 < 4 THEN due_at END",
    )
    stage(caller, 3)
    copy(world, batches, MANY // 50, status="'finished'", due_at="NULL")
    asked = asked_of(world.database)
    found = look_at_queue(world.database, clock)
    assert sum(load.waiting for load in found.lanes.values()) == MANY * 3 // 10 + 1
    assert found.unknown.held + found.unknown.in_doubt == 10_000
    assert (len(asked), found.batch_rows) == (6, 3)
    explain = "EXPLAIN" if world.database.is_postgresql else "EXPLAIN QUERY PLAN"
    for statement, given in asked[:]:
        with world.database.read() as connection:
            plan = "\n".join(str(line[-1]) for line in connection.exec_driver_sql(f"{explain} {statement}", given))
        assert not READ_WHOLE.search(plan), f"{statement}\n{plan}"


def test_whoever_asks_again_within_a_moment_costs_the_store_nothing(app, asked_of):
    client = app.test_client()
    asked = asked_of(world_of(app).database)
    assert client.get("/metrics").status_code == 200
    first = len(asked)
    for _ in range(5):
        assert client.get("/metrics").status_code == 200
    # On a machine that stood still for two seconds one more look comes between.
    assert (first, len(asked) <= 2 * first) == (6, True)


def test_several_processes_show_the_same_and_nothing_is_summed(database_url, simulator):
    environ = environment(database_url, simulator.url, SMSAPI_WORKERS=2, SMSAPI_DISPATCH_THREADS=2)
    with serving(environ) as served:
        eventually(lambda: served.metric("smsapi_workers_alive") == 2)
        text = requests.get(f"{served.url}/metrics", timeout=10).text
        assert len(re.findall(r"^smsapi_(?:workers_alive|store_up) ", text, re.MULTILINE)) == 2
        assert len(re.findall(r"^smsapi_queue_depth\{", text, re.MULTILINE)) == 4
        assert caller_of(served).send().status_code == 201


def test_a_store_that_does_not_answer_takes_only_its_own_figures_with_it(make_app):
    with start_postgres() as postgres:
        store = Database(postgres.url)
        upgrade(store)
        store.close()
        port = free_port()
        app = make_app(database_url=postgres.url)
        with listening(app, port):

            def shown():
                return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text

            assert "\nsmsapi_store_up 1.0\n" in shown()
            postgres.pause()
            try:
                world_of(app).figures.forget()
                # It never comes to an answer, and no further question is asked meanwhile.
                for _ in range(2):
                    text = shown()
                    assert "\nsmsapi_store_up 0.0\n" in text
                    assert "smsapi_request_seconds_count" in text
                    assert not re.search(r"^smsapi_(queue|unknown|workers|stopped|batch)", text, re.MULTILINE)
            finally:
                postgres.resume()
            eventually(lambda: "\nsmsapi_store_up 1.0\n" in shown())

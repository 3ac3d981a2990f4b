"""The sweep: one question for all that a process looks for, which finds what others stored and hinders nobody."""

import re
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import event, insert, select, text, update

from smsapi.batches.maker import NEXT_BATCH
from smsapi.batches.models import batches
from smsapi.dispatch.engine import Dispatcher
from smsapi.events.models import events
from smsapi.gathering import Crowd
from smsapi.ids import new_id, read_id
from smsapi.messages.flows import find_work
from smsapi.messages.models import messages
from smsapi.receipts.store import NEXT_REPORT, receipts
from smsapi.webhooks.deliveries import NEXT_WEBHOOK
from smsapi.webhooks.models import webhook_deliveries
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.dispatching import ASYNC, row_of, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken
from tests.support.staged import counts, stage, uuid_of_batch
from tests.webhooks.conftest import ALLOWED, endpoint_of
from tests.webhooks.receiver import Receiver

OTHERS = {"webhook": NEXT_WEBHOOK, "batch": NEXT_BATCH, "report": NEXT_REPORT}
MANY = 4000
READ_WHOLE = re.compile(
    r"Seq Scan on (messages|events|receipts|batches|webhook_deliveries)\b"
    r"|SCAN (messages|events|receipts|batches|webhook_deliveries)\b(?! USING)"
)
SWEEP = "WITH RECURSIVE"


@pytest.fixture
def receiver():
    with Receiver() as listening:
        yield listening


@pytest.fixture
def asked_of():
    """Count what an app asks of its store, but for heartbeats, which come by the clock, and the housekeeping's lock."""

    def note(app):
        asked = Counter()

        def count(*given):
            if " workers" not in given[2] and "advisory" not in given[2]:
                asked.update([given[2]])

        event.listen(world_of(app).database.engine, "before_cursor_execute", count)
        return asked

    return note


def sweeps(asked):
    return sum(times for question, times in asked.items() if question.startswith(SWEEP) and "FROM receipts" in question)


def has_begun(asked):
    """Say whether each has looked for itself, as all do at the start, and the last of the housekeeping is under way."""
    alone = [question for question in asked if "FROM messages" not in question or "FROM receipts" not in question]
    needed = ("FROM messages", "FROM webhook_endpoints", "batches.due_at \nFROM", "FROM receipts", "heard_at <")
    return sweeps(asked) and all(any(each in question for question in alone) for each in needed)


def test_a_sweep_with_nothing_to_do_asks_one_question_and_wakes_nobody(make_app, asked_of):
    app = make_app(dispatch_sweep_seconds=60)
    asked, dispatcher = asked_of(app), Dispatcher(world_of(app))
    dispatcher.start()
    try:
        eventually(lambda: has_begun(asked))
        asked.clear()
        for times in range(1, 11):
            dispatcher._sweep.ring()
            eventually(lambda times=times: sweeps(asked) == times)
    finally:
        dispatcher.stop(10)
    assert sum(asked.values()) == 10


def test_a_dispatcher_with_nothing_to_do_looks_once_a_sweep_and_no_more(make_app, dispatching, asked_of):
    app, sweep = make_app(dispatch_sweep_seconds=0.5), 0.5
    asked = asked_of(app)
    dispatching(app)
    eventually(lambda: has_begun(asked))
    started, before, swept = time.monotonic(), sum(asked.values()), sweeps(asked)
    eventually(lambda: sweeps(asked) >= swept + 12, seconds=60)
    passed = (time.monotonic() - started) / sweep
    assert passed > 11
    # Whoever is left alone for two sweeps, as on a machine that is busy, looks for itself.
    assert sum(asked.values()) - before <= 1.5 * (passed + 1)


def store_event(app, caller, receiver):
    endpoint_of(caller, receiver, events=["message.sent"])
    message = caller.send().get_json()
    return lambda: [each["data"]["message_id"] for each in receiver.events()] == [message["id"]]


def make_a_try_due(app, caller, receiver):
    due = {"status": "waiting", "due_at": world_of(app).clock.now()}

    def begin_anew():
        with world_of(app).database.transaction() as connection:
            done = update(webhook_deliveries).where(webhook_deliveries.c.status == "delivered")
            return connection.execute(done.values(due)).rowcount

    eventually(store_event(app, caller, receiver))
    eventually(begin_anew)
    return lambda: len(receiver.taken) == 2


def store_a_batch(app, caller, _receiver):
    batch_id = stage(caller, 3)
    return lambda: counts(caller, batch_id).keys() <= {"sent", "delivered"}


def store_a_report(app, caller, _receiver):
    message = caller.send().get_json()
    assert report(app, message["id"], {"Status": "delivered"}, token=AUTH_TOKEN).status_code == 200
    return lambda: caller.message(message["id"])["status"] == "delivered"


@pytest.mark.parametrize("stored", [store_event, make_a_try_due, store_a_batch, store_a_report])
def test_what_another_process_stored_is_found_within_a_sweep(make_app, dispatching, asked_of, receiver, stored):
    provider = Scripted(*[taken() for _ in range(20)])
    settings = {"public_url": PUBLIC_URL, "dispatch_sweep_seconds": 0.3, **ALLOWED}
    app = make_app({"provider": provider, "reporting": Crowd(at_most=0)}, **settings)
    other = make_app({"provider": provider}, **settings)
    asked = asked_of(other)
    dispatching(other)  # it hears no bell of the first
    eventually(lambda: has_begun(asked))
    eventually(stored(app, new_caller(app), receiver))


def test_while_all_threads_are_busy_too(make_app, dispatching, receiver):
    go_on, begun = threading.Event(), []

    def hold(_):
        begun.append(1)
        go_on.wait(20)

    app = make_app({"provider": Scripted(*[taken()] * 20)}, **ALLOWED)
    provider = Scripted(*[taken()] * 20, before=hold)
    dispatching(make_app({"provider": provider}, dispatch_threads=1, **ALLOWED))
    caller = new_caller(app)
    for number in range(4):
        caller.send(to=f"+1415556{2000 + number}", headers=ASYNC)
    try:
        eventually(lambda: begun)
        eventually(store_event(app, caller, receiver))
    finally:
        go_on.set()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["webhook_endpoints", "webhook_deliveries", "receipts"])
def test_a_table_of_a_poller_that_is_locked_delays_neither_messages_nor_batches(make_app, dispatching, table):
    app, other = make_app(), make_app()
    caller = new_caller(app)
    with world_of(app).database.transaction() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        dispatching(other)  # it hears no bell of the first
        sent = [caller.send(headers=ASYNC).get_json() for _ in range(3)]
        batch_id = stage(caller, 3)
        eventually(lambda: counts(caller, batch_id).keys() <= {"sent", "delivered"})
        assert {caller.message(each["id"])["status"] for each in sent} <= {"sent", "delivered"}


def test_what_is_due_later_than_it_looks_ahead_is_nobody_s_yet(make_app, make_caller):
    app = make_app({"provider": Scripted(taken())})
    caller, world = make_caller(app), world_of(app)
    now = world.clock.now()
    ask = lambda at: find_in(world, at)  # noqa: E731 - asked for again and again
    assert ask(now) == set()
    batch_id = stage(caller, 1)
    with world.database.transaction() as connection:
        due = {"due_at": now + timedelta(seconds=10)}
        connection.execute(update(batches).where(batches.c.id == uuid_of_batch(batch_id)).values(due))
    assert [ask(now + timedelta(seconds=after)) for after in (0, 7.9, 8, 60)] == [set(), set(), {"batch"}, {"batch"}]
    caller.send()
    assert ask(now) == {"webhook"}


def find_in(world, now):
    """Return which pollers have something to do within two seconds."""
    with world.database.read() as connection:
        work = find_work(connection, now, ahead_seconds=2, others=tuple(OTHERS.values()))
    return {name for place, name in enumerate(OTHERS) if place in work.others}


def test_it_reads_no_table_from_end_to_end_whatever_the_store_knows_of_them(make_app, make_caller, receiver, asked_of):
    app = make_app({"provider": Scripted(taken())}, **ALLOWED)
    caller, world = make_caller(app), world_of(app)
    fill(app, caller, receiver)
    seen = []
    event.listen(world.database.engine, "before_cursor_execute", lambda *given: seen.append((given[2], given[3])))
    find_in(world, world.clock.now())
    ((question, given),) = [each for each in seen if each[0].startswith(SWEEP)]
    plans = [plan_of(world, question, given)]
    with world.database.transaction() as connection:
        connection.execute(text("ANALYZE"))
    plans.append(plan_of(world, question, given))
    for plan in plans:
        assert "ix_events_unnumbered" in plan, plan
        assert not READ_WHOLE.search(plan), plan


def plan_of(world, question, given):
    ask = "EXPLAIN " if world.database.is_postgresql else "EXPLAIN QUERY PLAN "
    with world.database.read() as connection:
        return "\n".join(str(line) for line in connection.exec_driver_sql(ask + question, given).all())


def fill(app, caller, receiver):
    """Store what was dealt with long ago, a lot of it, in each of the tables."""
    world = world_of(app)
    endpoint = read_id("whe", endpoint_of(caller, receiver)["id"])
    like = row_of(world, caller.send().get_json())._asdict()
    batch_id = uuid_of_batch(stage(caller, 1))
    now, ids = world.clock.now(), [new_id() for _ in range(MANY)]
    own = {"client_id": like["client_id"], "test": False, "type": "message.sent", "at": now, "data": {}}
    told = {"endpoint_id": endpoint, "status": "delivered", "attempts": 1, "tries": 1, "epoch": 1}
    said = {"source": "receipt", "state": "applied", "said": "delivered", "fact": "delivered", "received_at": now}
    with world.database.transaction() as connection:
        row = connection.execute(select(batches).where(batches.c.id == batch_id)).one()._asdict()
        done = {"due_at": None, "status": "finished", "idempotency_key": None}
        connection.execute(update(batches).values(done))
        connection.execute(insert(batches), [row | done | {"id": each} for each in ids])
        quiet = {"status": "delivered", "due_at": None, "batch_id": None}
        connection.execute(insert(messages), [like | quiet | {"id": each} for each in ids])
        numbered = [own | {"id": each, "seq": 1000 + place, "message_id": each} for place, each in enumerate(ids)]
        connection.execute(insert(events), numbered)
        times = {"created_at": now, "finished_at": now, "due_at": None}
        delivered = [told | times | {"id": new_id(), "event_id": each, "seq": 1} for each in ids]
        connection.execute(insert(webhook_deliveries), delivered)
        reports = [said | {"id": new_id(), "message_id": each, "fingerprint": each.bytes * 2} for each in ids]
        connection.execute(insert(receipts), reports)

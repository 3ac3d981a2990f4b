"""Once a cancel, a pause or an import of opt-outs is answered, no call to Plivo begins that it forbids."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from smsapi.batches.store import canceled_among, change_batch, lock_batch
from smsapi.db import Database
from smsapi.errors import StoreUnavailable
from smsapi.pacing.gates import PAUSE, close_gate, read_gates
from smsapi.pacing.models import gates
from smsapi.send.deliver import run
from tests.conftest import eventually, new_caller
from tests.support.batching import numbers, queue_batch, rows_of
from tests.support.command import called
from tests.support.dispatching import ASYNC, claim, row_of, run_due, world_of
from tests.support.providers import Scripted, taken
from tests.support.staged import uuid_of_batch

STREAM = 60
BEFORE_THE_STOP = 5
FAST = {"pace_long_code": 400.0, "pace_account": 400.0, "dispatch_threads": 4, "breaker_failures": 1000}


def cancel_batch(_world, caller, batch, _to):
    assert caller.post(f"/v1/batches/{batch}/cancel").status_code == 200


def pause(world, _caller, _batch, _to):
    done = called("queue", "pause", SMSAPI_DATABASE_URL=world.database.url.render_as_string(hide_password=False))
    assert (done.exit_code, done.exception) == (0, None), done.output


def pause_the_lane(world, _caller, _batch, _to):
    url = world.database.url.render_as_string(hide_password=False)
    done = called("queue", "pause", "--lane", "marketing", SMSAPI_DATABASE_URL=url)
    assert (done.exit_code, done.exception) == (0, None), done.output


def import_opt_outs(_world, caller, _batch, to):
    headers = {"X-API-Key": caller.key, "Content-Type": "text/csv"}
    body = "number\n" + "\n".join(to)
    answer = caller.app.test_client().post("/v1/opt-outs/import", data=body, headers=headers)
    assert (answer.status_code, answer.get_json()["added"]) == (200, len(to))


STOPS = [cancel_batch, pause, pause_the_lane, import_opt_outs]


@pytest.mark.parametrize("stop", STOPS)
def test_no_call_of_a_stream_begins_after_the_answer(make_app, dispatching, stop):
    begun = threading.Semaphore(0)

    def call(_):
        begun.release()
        threading.Event().wait(0.01)

    provider = Scripted(taken(), before=call)
    app = make_app({"provider": provider}, **FAST)
    world, caller = world_of(app), new_caller(app)
    to = numbers(STREAM)
    batch, _ = queue_batch(caller, to, joined=None)
    dispatching(app)
    for _ in range(BEFORE_THE_STOP):
        assert begun.acquire(timeout=20)
    stop(world, caller, batch, to)
    answered = len(provider.asked)
    assert BEFORE_THE_STOP <= answered < STREAM
    # What had begun is over, and all others are over or stay where they are.
    states = {"queued"} if stop in {pause, pause_the_lane} else {"canceled", "failed"}
    eventually(lambda: {row.status for row in rows_of(world, batch).values()} == {*states & seen(world, batch), "sent"})
    assert not {"sending", "unknown"} & seen(world, batch)
    assert len(provider.asked) == answered == sum(row.status == "sent" for row in rows_of(world, batch).values())


def seen(world, batch):
    return {row.status for row in rows_of(world, batch).values()}


# SQLite has one writer at a time.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("stop", STOPS)
def test_a_claim_that_had_looked_before_is_waited_for_and_a_pause_stops_it(make_app, stop):
    provider, answered = Scripted(taken()), threading.Event()
    app = make_app({"provider": provider}, **FAST)
    world, caller = world_of(app), new_caller(app)
    caller.send()  # so that there is a gate to stand at
    (only,) = numbers(1)
    batch, _ = queue_batch(caller, [only], joined=None)

    def ask():
        stop(world, caller, batch, [only])
        answered.set()

    with ThreadPoolExecutor(2) as threads:
        with world.database.transaction() as gatekeeper:
            gatekeeper.execute(select(gates).with_for_update()).all()
            sending = threads.submit(run_due, world)
            eventually(lambda: stands_at_a_gate(world))
            stopping = threads.submit(ask)
            eventually(lambda: is_committed(stop, world, caller, batch, only))
            assert not answered.is_set()
        stopping.result(20)
        calls = len(provider.asked)
        sending.result(20)
    assert len(provider.asked) == calls == (1 if stop in {pause, pause_the_lane} else 2)


def is_committed(stop, world, caller, batch, number):
    if stop is cancel_batch:
        return caller.get(f"/v1/batches/{batch}").get_json()["status"] == "canceled"
    if stop is import_opt_outs:
        return caller.get(f"/v1/opt-outs/{number}").status_code == 200
    with world.database.read() as connection:
        return bool(read_gates(connection, [PAUSE, f"{PAUSE}:marketing"]))


def stands_at_a_gate(world):
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%gates%'"
    with world.database.read() as connection:
        return connection.exec_driver_sql(waiting.replace("%", "%%")).scalar_one()


def stop_quietly(stop, world, caller, batch, to):
    """Commit the stop without waiting for anybody, as where two seconds were not enough."""
    if stop is cancel_batch:
        with world.database.transaction() as connection:
            held = lock_batch(connection, uuid_of_batch(batch))
            change_batch(connection, held, status="canceled", canceled_at=world.clock.now())
    elif stop is import_opt_outs:
        import_opt_outs(world, caller, batch, to)
    else:
        key = PAUSE if stop is pause else f"{PAUSE}:marketing"
        with world.database.transaction() as connection:
            close_gate(world.database, connection, key, {})


@pytest.mark.parametrize("waited", [0.5, 1.5])
@pytest.mark.parametrize("joined", [None, 20])
@pytest.mark.parametrize("stop", STOPS)
def test_what_waited_for_its_thread_for_over_a_second_asks_again_before_it_calls(scripted, clock, stop, joined, waited):
    world, caller, provider = scripted(taken(), **FAST)
    to = numbers(3)
    batch, _ = queue_batch(caller, to, joined=joined)
    begun = claim(world)
    clock.advance(waited)
    stop_quietly(stop, world, caller, batch, to)
    # The wait for what is under way takes time by this clock, too.
    late = waited > 1 or stop is import_opt_outs
    for each in begun:
        run(world, each, wait_until=clock.now(), canceled_among=canceled_among)
    assert bool(provider.asked) == (not late)
    assert seen(world, batch) == ({"queued"} if late else {"sent"})


class FailingReads(Database):
    """A store whose reads are not answered for a while."""

    reads_fail = False

    @contextmanager
    def read(self):
        if self.reads_fail:
            raise StoreUnavailable("The database does not answer; try again.", retry_after_seconds=1)
        with super().read() as connection:
            yield connection


def test_what_waited_and_is_not_stopped_is_sent(scripted, clock):
    world, caller, provider = scripted(taken(), **FAST)
    batch, _ = queue_batch(caller, numbers(30), joined=20)
    message = caller.send(headers=ASYNC).get_json()
    begun = claim(world)
    clock.advance(5)
    for each in begun:
        run(world, each, wait_until=clock.now(), canceled_among=canceled_among)
    assert seen(world, batch) == {"sent"}
    assert row_of(world, message).status == "sent"
    assert len(provider.asked) == len(begun)


def test_a_store_that_does_not_answer_the_question_stops_the_call_and_nothing_is_in_doubt(
    make_app, database_url, clock
):
    database, provider = FailingReads(database_url), Scripted(taken())
    app = make_app({"clock": clock, "database": database, "provider": provider}, **FAST)
    world, caller = world_of(app), new_caller(app)
    message = caller.send(headers=ASYNC).get_json()
    (begun,) = claim(world)
    clock.advance(2)
    database.reads_fail = True
    run(world, begun, wait_until=clock.now())
    database.reads_fail = False
    assert (row_of(world, message).status, provider.asked) == ("queued", [])
    clock.advance(5)
    run_due(world)
    assert row_of(world, message).status == "sent"

"""Events get their numbers together where many come, seldom where nobody is told of them, and soon in every case."""

import time
from collections import Counter

import pytest
from sqlalchemy import event, func, select

from smsapi.db import try_lock
from smsapi.events.models import events
from smsapi.events.store import record_event
from smsapi.webhooks.relay import _LOCK
from tests.conftest import eventually, new_caller
from tests.support.dispatching import uuid_of, world_of
from tests.webhooks.conftest import ALLOWED, endpoint_of, pull

# However seldom it sweeps: nobody waits for a sweep to see what happened in the same process.
SELDOM = 60.0


@pytest.fixture
def app(make_app, dispatching):
    app = make_app(dispatch_sweep_seconds=SELDOM, **ALLOWED)
    dispatching(app)
    return app


@pytest.fixture
def caller(app):
    return new_caller(app)


def write(app, caller):
    """Write an event as whoever learns of something does."""
    world, client = world_of(app), uuid_of({"id": caller.client_id.removeprefix("cli_")})
    with world.database.transaction() as connection:
        record_event(connection, client_id=client, kind="optout.created", at=world.clock.now(), data={})


def write_for(app, caller, seconds):
    """Write events one after the other; return how many, and how often others were numbered meanwhile a second."""
    asked, count, started = Counter(), 0, time.monotonic()
    event.listen(world_of(app).database.engine, "before_cursor_execute", lambda *given: asked.update([given[2]]))
    while time.monotonic() - started < seconds:
        write(app, caller)
        count += 1
    took = time.monotonic() - started
    return count, sum(times for question, times in asked.items() if question.startswith("UPDATE events")), took


def is_numbered(app):
    with world_of(app).database.read() as connection:
        return connection.execute(select(func.count()).where(events.c.seq.is_(None))).scalar_one() == 0


def test_where_nobody_is_told_of_them_four_times_a_second_however_many_there_are(app, caller):
    count, times, took = write_for(app, caller, 2)
    # Each time twice at most: what came while the others were numbered is numbered with them.
    assert times <= 2 * (took / 0.25 + 2)
    assert count > times
    eventually(lambda: is_numbered(app), seconds=30)
    assert len(pull(caller)) == count


def test_where_an_endpoint_waits_for_them_no_more_than_twenty_times_a_second(app, caller, receiver):
    endpoint_of(caller, receiver, events=["batch.finished"])
    _, times, took = write_for(app, caller, 2)
    assert times <= 2 * (took / 0.05 + 2)
    eventually(lambda: is_numbered(app), seconds=30)


def test_the_first_endpoint_is_told_at_once_of_what_happens_after_it_was_made_or_enabled(app, caller, receiver):
    write_for(app, caller, 0.5)
    eventually(lambda: is_numbered(app), seconds=30)
    made = endpoint_of(caller, receiver, events=["optout.created"])
    write(app, caller)
    eventually(lambda: len(receiver.taken) == 1, seconds=30)
    path = f"/v1/webhook-endpoints/{made['id']}"
    caller.request("PATCH", path, {"enabled": False})
    write(app, caller)
    eventually(lambda: is_numbered(app), seconds=30)
    caller.request("PATCH", path, {"enabled": True})
    write(app, caller)
    eventually(lambda: len(receiver.taken) == 2, seconds=30)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_comes_while_another_process_is_at_it_is_numbered_once_that_is_over(make_app, app, caller):
    with world_of(make_app()).database.transaction() as connection:
        assert try_lock(connection, _LOCK)
        write(app, caller)
        asked = Counter()
        event.listen(world_of(app).database.engine, "before_cursor_execute", lambda *given: asked.update([given[2]]))
        eventually(lambda: any("pg_try_advisory" in question for question in asked), seconds=30)
        assert not is_numbered(app)
    eventually(lambda: is_numbered(app), seconds=30)

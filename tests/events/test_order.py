"""The list of events: one order for all readers, in which nothing appears behind a reader's back."""

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from sqlalchemy import func, select

from smsapi.events.models import events
from smsapi.events.store import record_event
from smsapi.ids import show_id
from smsapi.webhooks.housekeeping import forget_old_events
from smsapi.webhooks.relay import relay
from tests.conftest import new_caller
from tests.support.auth import clock_at_present
from tests.support.dispatching import uuid_of, world_of

pytestmark = pytest.mark.both_stores


def write(app, caller, *, kind="optout.created", test=False, **data):
    world, client = world_of(app), uuid_of({"id": caller.client_id.removeprefix("cli_")})
    with world.database.transaction() as connection:
        return record_event(connection, client_id=client, kind=kind, at=world.clock.now(), data=data, test=test)


def read(caller, after=None, limit=20):
    return caller.get(f"/v1/events?limit={limit}{'' if after is None else f'&after={after}'}")


# SQLite has one writer at a time: nothing there commits in another order than that in which it began.
many_writers = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@many_writers
def test_what_commits_late_is_listed_late_and_is_not_missed(make_app):
    app = make_app()
    world, caller = world_of(app), new_caller(app)
    client = uuid_of({"id": caller.client_id.removeprefix("cli_")})
    with world.database.transaction() as slow:
        first = record_event(slow, client_id=client, kind="optout.created", at=world.clock.now(), data={})
        second = write(app, caller)
        assert first < second
        relay(world)
        page = read(caller).get_json()
        assert [each["id"] for each in page["data"]] == [show_id("evt", second)]
    relay(world)
    rest = read(caller, page["next_cursor"]).get_json()
    assert [each["id"] for each in rest["data"]] == [show_id("evt", first)]
    assert [each["id"] for each in read(caller).get_json()["data"]] == [show_id("evt", second), show_id("evt", first)]


@many_writers
def test_readers_see_every_event_once_in_one_order_while_writers_commit_in_any(app):
    world, caller = world_of(app), new_caller(app, name="busy")
    client = uuid_of({"id": caller.client_id.removeprefix("cli_")})
    writers, each_writes, done = 6, 25, threading.Event()

    def keep_writing(number):
        random = Random(number)
        for _ in range(each_writes):
            with world.database.transaction() as connection:
                record_event(connection, client_id=client, kind="optout.created", at=world.clock.now(), data={})
                # Held open for a while, so that another which began later commits before it.
                threading.Event().wait(random.random() * 0.01)

    def keep_numbering():
        while not done.is_set():
            relay(world)

    with ThreadPoolExecutor(writers + 4) as threads:
        readers = [threads.submit(read_until, caller, done) for _ in range(2)]
        relays = [threads.submit(keep_numbering) for _ in range(2)]
        for each in [threads.submit(keep_writing, number) for number in range(writers)]:
            each.result()
        relay(world)
        while relay(world) or _unnumbered(world):
            pass
        done.set()
        for each in relays:
            each.result()
        first, second = (each.result() for each in readers)
    assert len(first) == len(set(first)) == writers * each_writes
    assert first == second == _all_in_order(world)


def read_until(caller, done):
    """Go on reading from where the last page ended, until that is done and nothing more comes."""
    found, after = [], None
    while True:
        was_done = done.is_set()
        page = read(caller, after, limit=7).get_json()
        found += [each["id"] for each in page["data"]]
        after = page["next_cursor"]
        if was_done and not page["data"]:
            return found


def _unnumbered(world):
    with world.database.read() as connection:
        return connection.execute(select(func.count()).where(events.c.seq.is_(None))).scalar_one()


def _all_in_order(world):
    with world.database.read() as connection:
        return [
            show_id("evt", each) for each in connection.execute(select(events.c.id).order_by(events.c.seq)).scalars()
        ]


@pytest.fixture
def listed(app, caller):
    ids = [show_id("evt", write(app, caller, number=number)) for number in range(5)]
    relay(world_of(app))
    return ids


def test_pages_go_on_where_the_last_one_ended_and_the_end_can_be_asked_again(app, caller, listed):
    assert read(caller).get_json()["data"][0]["data"] == {"number": 0}
    page = read(caller, limit=2).get_json()
    assert [each["id"] for each in page["data"]] == listed[:2]
    assert page["next_cursor"] == listed[1]
    rest = read(caller, page["next_cursor"]).get_json()
    assert [each["id"] for each in rest["data"]] == listed[2:]
    end = read(caller, rest["next_cursor"]).get_json()
    assert end == {"data": [], "next_cursor": listed[4]}
    later = write(app, caller)
    relay(world_of(app))
    assert [each["id"] for each in read(caller, end["next_cursor"]).get_json()["data"]] == [show_id("evt", later)]


def test_without_any_event_there_is_no_cursor(caller):
    assert read(caller).get_json() == {"data": [], "next_cursor": None}


def test_an_event_that_has_no_place_yet_is_no_reason_to_start_again(app, caller):
    early = show_id("evt", write(app, caller))
    assert read(caller, early).get_json() == {"data": [], "next_cursor": early}


@pytest.mark.parametrize("after", ["x", "evt_1", "msg_" + "0" * 32, "EVT_" + "0" * 32, ""])
def test_what_is_no_id_of_an_event_is_422(caller, after):
    assert read(caller, after).status_code == 422


def test_an_event_that_is_not_kept_or_is_anothers_is_410(app, caller, listed):
    stranger = new_caller(app, name="stranger")
    assert read(caller, "evt_" + "0" * 32).status_code == 410
    problem = read(stranger, listed[0])
    assert (problem.status_code, problem.get_json()["code"]) == (410, "events_expired")


def test_a_test_key_reads_test_events_only(app, caller):
    write(app, caller)
    marked = show_id("evt", write(app, caller, test=True))
    relay(world_of(app))
    shown = caller.post("/v1/api-keys", {"name": "t", "mode": "test", "scopes": ["webhooks"]}).get_json()["key"]
    seen = caller.app.test_client().get("/v1/events", headers={"X-API-Key": shown}).get_json()["data"]
    assert [(each["id"], each["test"]) for each in seen] == [(marked, True)]
    assert len(read(caller).get_json()["data"]) == 2


def test_it_needs_the_scope(app):
    assert read(new_caller(app, scopes=("messages:read",))).status_code == 403


def test_old_events_are_forgotten_and_whoever_stood_there_is_told_so(make_app):
    clock = clock_at_present()
    app = make_app({"clock": clock}, event_days=2)
    caller = new_caller(app)
    old = [show_id("evt", write(app, caller)) for _ in range(3)]
    clock.advance(86400)
    young = show_id("evt", write(app, caller))
    relay(world_of(app))
    clock.advance(86401)
    assert forget_old_events(world_of(app), lambda: False) == 3
    assert read(caller, old[0]).status_code == 410
    assert [each["id"] for each in read(caller).get_json()["data"]] == [young]

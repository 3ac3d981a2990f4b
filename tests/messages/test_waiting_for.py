"""A message or a batch that stands still says what it waits for, to its caller and to whoever watches it."""

from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, PAUSE, close_gate, open_gate
from tests.conftest import eventually
from tests.support.batching import queue_batch
from tests.support.command import called
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.heartbeats import beat
from tests.support.providers import Scripted, taken

CLOSED = {PAUSE: "pause", f"{PAUSE}:transactional": "pause", ACCOUNT: "account", CIRCUIT: "circuit"}


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def app(make_app, clock):
    return make_app({"clock": clock, "provider": Scripted(taken())})


def close(app, key):
    world = world_of(app)
    detail = {"open": True, "reason": "credit", "since": "2026-11-30T12:00:00Z"}
    with world.database.transaction() as connection:
        close_gate(world.database, connection, key, detail)


def reopen(app, key):
    with world_of(app).database.transaction() as connection:
        open_gate(connection, key)


def waiting_for(caller, message):
    return caller.message(message["id"])["waiting_for"]


def test_a_message_waits_for_whoever_sends_and_then_for_nothing_but_its_turn(app, caller, clock):
    message = caller.send(headers=ASYNC).get_json()
    # For a few seconds it may just be a restart.
    assert waiting_for(caller, message) is None
    clock.advance(10)
    # What is known of the queue is remembered for a moment.
    eventually(lambda: waiting_for(caller, message) == "worker")
    beat(world_of(app))
    eventually(lambda: waiting_for(caller, message) is None)
    clock.advance(60)
    eventually(lambda: waiting_for(caller, message) == "worker")
    run_due(world_of(app))
    assert waiting_for(caller, message) is None


@pytest.mark.parametrize("gate", CLOSED)
def test_a_message_says_which_gate_holds_it(app, caller, make_caller, gate):
    beat(world_of(app))
    message = caller.send(headers=ASYNC).get_json()
    rehearsal = make_caller(app, mode="test", name="rehearsal")
    rehearsed = rehearsal.send(headers=ASYNC).get_json()
    close(app, gate)
    assert waiting_for(caller, message) == CLOSED[gate]
    # Nothing stops a test key's messages, for nobody is texted.
    assert waiting_for(rehearsal, rehearsed) is None
    reopen(app, gate)
    assert waiting_for(caller, message) is None


def test_the_pause_of_another_lane_holds_nothing(app, caller):
    beat(world_of(app))
    message = caller.send(headers=ASYNC).get_json()
    close(app, f"{PAUSE}:marketing")
    assert waiting_for(caller, message) is None


def test_a_scheduled_message_waits_for_its_time_as_its_status_says(app, caller, clock):
    later = (clock.now() + timedelta(hours=1)).isoformat()
    message = caller.send(send_at=later).get_json()
    close(app, PAUSE)
    assert waiting_for(caller, message) is None
    assert message["status"] == "scheduled"
    clock.advance(3610)
    assert waiting_for(caller, message) == "pause"
    reopen(app, PAUSE)
    assert waiting_for(caller, message) == "worker"


def test_a_batch_says_what_it_waits_for_where_it_is_shown_listed_and_watched(app, caller, clock):
    batch_id = queue_batch(caller, ["+14155550123", "+14155550124"])[0]
    beat(world_of(app))
    clock.advance(3)
    shown = caller.get("/v1/batches").get_json()["data"][0]
    assert shown["waiting_for"] is None
    close(app, PAUSE)
    shown = caller.get("/v1/batches").get_json()["data"][0]
    assert (shown["waiting_for"], shown["expected_end_at"]) == ("pause", None)
    assert caller.get(f"/v1/batches/{shown['id']}").get_json()["waiting_for"] == "pause"
    assert batch_id is not None
    reopen(app, PAUSE)
    run_due(world_of(app))
    run_due(world_of(app))
    close(app, PAUSE)
    assert caller.get(f"/v1/batches/{shown['id']}").get_json()["waiting_for"] is None


def test_a_batch_of_a_later_time_waits_for_it_and_then_for_who_sends(app, caller, clock):
    later = (clock.now() + timedelta(hours=1)).isoformat()
    order = {"text": "Hello", "recipients": [{"to": "+14155550123"}], "send_at": later}
    taken_ = caller.post("/v1/batches", order).get_json()
    path = f"/v1/batches/{taken_['id']}"
    assert (taken_["waiting_for"], caller.get(path).get_json()["waiting_for"]) == (None, None)
    clock.advance(3610)
    assert caller.get(path).get_json()["waiting_for"] == "worker"
    close(app, PAUSE)
    assert caller.get(path).get_json()["waiting_for"] == "pause"


def test_what_it_waits_for_needs_no_second_connection(make_app, make_caller, clock):
    app = make_app({"clock": clock}, database_pool_size=1)
    caller = make_caller(app)
    message, _ = caller.send(headers=ASYNC).get_json(), queue_batch(caller, ["+14155550124"])
    batch = caller.get("/v1/batches").get_json()["data"][0]
    clock.advance(10)
    for path in (f"/v1/messages/{message['id']}", f"/v1/batches/{batch['id']}"):
        assert caller.get(path).get_json()["waiting_for"] == "worker"


def test_the_command_says_it_too(live, database_url):
    service = live(dispatch_threads=1)
    address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": service.key}
    assert called("queue", "pause", SMSAPI_DATABASE_URL=database_url).exit_code == 0
    order = {"text": "Hello", "recipients": [{"to": "+14155550123"}]}
    batch_id = service.request("POST", "/v1/batches", json=order).json()["id"]
    ended = called("batch", "show", batch_id, **address)
    assert ended.exit_code == 0, ended.output
    assert "waiting      paused by an operator\n" in ended.stdout

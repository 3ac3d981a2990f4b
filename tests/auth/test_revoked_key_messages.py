"""What becomes of the messages of a revoked key: they are sent, or called off with it where that is asked for."""

from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock
from smsapi.plivo.outcomes import Unknown
from tests.conftest import new_caller
from tests.support.batching import numbers, statuses_of
from tests.support.command import called
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.providers import Scripted, taken
from tests.support.staged import tend_all

HOUR = 3600


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def scene(make_app, clock):
    """An app, the owner of a client, and one more key of it, with which all is sent."""
    provider = Scripted(taken())
    app = make_app({"clock": clock, "provider": provider}, pace_long_code=100.0, breaker_failures=1000)
    owner = new_caller(app)
    order = {"name": "leaked", "mode": "live", "scopes": ["messages:send", "messages:read"]}
    made = owner.post("/v1/api-keys", order).get_json()
    leaked = type(owner)(app, made["key"], owner.client_id, made["id"])
    return world_of(app), owner, leaked, provider


def accept(owner, leaked, clock):
    later = (clock.now() + timedelta(seconds=HOUR)).isoformat()
    single = leaked.send(send_at=later).get_json()
    queued = leaked.send(headers=ASYNC).get_json()
    rows = {"text": "Hello", "recipients": [{"to": each} for each in numbers(3)], "send_at": later}
    batch = leaked.post("/v1/batches", rows).get_json()
    mine = owner.send("+14155557777", send_at=later).get_json()
    return single, queued, batch, mine


def revoke_by_http(world, owner, leaked):
    for _ in range(2):
        answer = owner.request("DELETE", f"/v1/api-keys/{leaked.key_id}?cancel_scheduled=true")
        assert answer.status_code == 204, answer.text


def revoke_by_command(world, owner, leaked):
    url = world.database.url.render_as_string(hide_password=False)
    done = called("keys", "revoke", "--cancel-scheduled", leaked.key_id, SMSAPI_DATABASE_URL=url)
    assert (done.exit_code, done.exception) == (0, None), done.output


@pytest.mark.parametrize("revoke", [revoke_by_http, revoke_by_command])
def test_all_that_waits_of_a_revoked_key_is_called_off_where_that_is_asked_for(scene, clock, revoke):
    world, owner, leaked, provider = scene
    single, queued, batch, mine = accept(owner, leaked, clock)
    revoke(world, owner, leaked)
    assert leaked.get("/v1/messages").status_code == 401
    assert {owner.message(each["id"])["status"] for each in (single, queued)} == {"canceled"}
    assert owner.events(single["id"])[-1]["data"]["reason"] == "key_revoked"
    clock.advance(HOUR)
    tend_all(owner)
    run_due(world)
    assert statuses_of(world, batch["id"]) == {"canceled": 3}
    assert [each.to for each in provider.asked] == [mine["to"]]


def test_without_it_what_was_accepted_is_sent(scene, clock):
    world, owner, leaked, _ = scene
    single, queued, batch, mine = accept(owner, leaked, clock)
    assert owner.request("DELETE", f"/v1/api-keys/{leaked.key_id}").status_code == 204
    clock.advance(HOUR)
    tend_all(owner)
    for _ in range(3):
        run_due(world)
        clock.advance(1)
    assert {owner.message(each["id"])["status"] for each in (single, queued, mine)} == {"sent"}
    assert statuses_of(world, batch["id"]) == {"sent": 3}


def test_what_may_have_been_taken_is_held_and_not_canceled(scene, clock):
    world, owner, leaked, provider = scene
    provider._outcomes = [Unknown("no answer")]
    message = leaked.send(headers=ASYNC, on_unknown="resend").get_json()
    run_due(world)
    revoke_by_http(world, owner, leaked)
    assert owner.message(message["id"])["status"] == "unknown"
    clock.advance(HOUR)
    run_due(world)
    assert len(provider.asked) == 1


def test_another_client_s_key_is_not_found_and_nothing_of_it_is_called_off(scene, clock, make_caller):
    _, owner, leaked, _ = scene
    single, *_ = accept(owner, leaked, clock)
    stranger = make_caller(owner.app)
    answer = stranger.request("DELETE", f"/v1/api-keys/{leaked.key_id}?cancel_scheduled=true")
    assert answer.status_code == 404
    assert owner.message(single["id"])["status"] == "scheduled"


@pytest.mark.parametrize("value", ["yes", "1", "", "TRUE"])
def test_only_true_and_false_are_taken(scene, value):
    _, owner, leaked, _ = scene
    answer = owner.request("DELETE", f"/v1/api-keys/{leaked.key_id}?cancel_scheduled={value}")
    assert answer.status_code == 422
    assert leaked.get("/v1/messages").status_code == 200

"""Old events are forgotten while others tell them, and whoever missed nothing reads on from where it stood."""

from datetime import timedelta

import pytest
from sqlalchemy import func, insert, select

from smsapi.events.models import events
from smsapi.ids import new_id, show_id
from smsapi.webhooks.housekeeping import forget_old_events
from smsapi.webhooks.models import webhook_attempts, webhook_deliveries
from smsapi.webhooks.postman import deliver_due
from smsapi.webhooks.relay import relay
from tests.conftest import new_caller
from tests.support.dispatching import uuid_of, world_of
from tests.webhooks.conftest import endpoint_of, pull

DAY = 86_400


@pytest.fixture
def app(telling):
    return telling(event_days=2)


@pytest.fixture
def caller(app):
    return new_caller(app)


def forget(app):
    return forget_old_events(world_of(app), lambda: False)


def read(caller, after):
    return caller.get(f"/v1/events?after={after}")


def kept(app, table):
    with world_of(app).database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_client_that_was_quiet_reads_on_from_where_it_stood_and_others_are_told_that_they_missed_something(
    app, caller, clock
):
    caller.send()
    relay(world_of(app))
    first, last = (each["id"] for each in pull(caller))
    clock.advance(3 * DAY)
    assert forget(app) == 2
    assert read(caller, last).get_json() == {"data": [], "next_cursor": last}
    assert (read(caller, first).status_code, read(new_caller(app), last).status_code) == (410, 410)
    caller.send()
    relay(world_of(app))
    assert [each["type"] for each in read(caller, last).get_json()["data"]] == ["message.queued", "message.sent"]
    clock.advance(3 * DAY)
    assert forget(app) == 2
    assert read(caller, last).status_code == 410


def test_a_test_key_reads_on_behind_the_last_test_event_whatever_else_was_forgotten_since(app, caller, clock):
    key = caller.post("/v1/api-keys", {"name": "t", "mode": "test", "scopes": ["webhooks", "messages:send"]})
    tester = type(caller)(app, key.get_json()["key"], caller.client_id, "")
    tester.send("+14155550001")
    relay(world_of(app))
    last = pull(tester)[-1]["id"]
    caller.send()
    relay(world_of(app))
    clock.advance(3 * DAY)
    assert forget(app) > 2
    assert read(tester, last).get_json() == {"data": [], "next_cursor": last}
    assert read(caller, last).status_code == 410


def test_a_number_is_never_given_twice_though_every_event_was_forgotten(app, caller, clock):
    caller.send()
    relay(world_of(app))
    clock.advance(3 * DAY)
    forget(app)
    assert kept(app, events) == 0
    caller.send()
    relay(world_of(app))
    with world_of(app).database.read() as connection:
        assert list(connection.execute(select(events.c.seq).order_by(events.c.seq)).scalars()) == [3, 4]


def test_what_is_forgotten_while_an_endpoint_is_being_told_of_it_leaves_nothing_behind(telling, receiver, clock):
    def forget_it(step):
        if step == "webhook.answered" and old:
            clock.advance(old.pop())
            assert forget(app) == 2

    old = []
    app = telling(event_days=2, replacements={"checkpoint": forget_it})
    caller = new_caller(app)
    endpoint_of(caller, receiver, events=["message.sent"])
    caller.send()
    old.append(3 * DAY)
    deliver_due(world_of(app))
    assert len(receiver.taken) == 1
    assert [kept(app, each) for each in (events, webhook_deliveries, webhook_attempts)] == [0, 0, 0]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_another_process_settles_at_this_moment_is_left_for_the_next_time(app, caller, receiver, clock):
    endpoint_of(caller, receiver, events=["message.sent"])
    caller.send()
    deliver_due(world_of(app))
    clock.advance(3 * DAY)
    with world_of(app).database.transaction() as settling:
        (held,) = settling.execute(select(webhook_deliveries).with_for_update()).all()
        attempt = {"id": new_id(), "delivery_id": held.id, "endpoint_id": held.endpoint_id, "event_id": held.event_id}
        settling.execute(
            insert(webhook_attempts), attempt | {"number": 2, "started_at": clock.now(), "milliseconds": 1}
        )
        assert forget(app) == 1
    assert kept(app, webhook_attempts) == 2
    assert forget(app) == 1
    assert [kept(app, each) for each in (events, webhook_deliveries, webhook_attempts)] == [0, 0, 0]


def test_what_happened_first_is_told_first_whichever_machines_clock_its_id_is_from(app, caller):
    world, message = world_of(app), caller.send().get_json()
    while relay(world):
        pass
    client, at = uuid_of({"id": caller.client_id.removeprefix("cli_")}), world.clock.now() + timedelta(seconds=1)
    early_id, ids = new_id(), [new_id() for _ in range(600)]
    late_id = new_id()
    like = {"client_id": client, "test": False, "data": {}, "message_id": None, "type": "optout.created", "at": at}
    of_message = {**like, "message_id": uuid_of(message)}
    with world.database.transaction() as connection:
        # The machine that learned of the delivery is behind: its id is the smaller one.
        late = {**of_message, "id": early_id, "type": "message.delivered", "at": at + timedelta(seconds=2)}
        early = {**of_message, "id": late_id, "type": "message.updated", "at": at - timedelta(seconds=0.5)}
        connection.execute(insert(events), [late, *({**like, "id": each} for each in ids), early])
    while relay(world):
        pass
    wanted = ["message.queued", "message.sent", "message.updated", "message.delivered"]
    assert [each["type"] for each in pull(caller) if each["data"].get("message_id") == message["id"]] == wanted
    assert [each["type"] for each in caller.events(message["id"])] == wanted
    assert caller.events(message["id"])[-1]["id"] == show_id("evt", early_id)

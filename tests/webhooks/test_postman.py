"""The postman's threads: a slow receiver delays nobody, and few are out to one endpoint at once."""

import threading

import pytest
from sqlalchemy import select

from smsapi.webhooks.deliveries import claim, find_due
from smsapi.webhooks.models import webhook_deliveries
from smsapi.webhooks.relay import relay
from tests.conftest import eventually, new_caller
from tests.support.auth import at_once
from tests.support.dispatching import world_of
from tests.webhooks.conftest import ALLOWED, endpoint_of
from tests.webhooks.receiver import Receiver


def test_a_receiver_that_does_not_answer_delays_neither_the_others_nor_the_sending(make_app, dispatching, receiver):
    app = make_app(webhook_threads=6, webhook_at_once=4, **ALLOWED)
    caller = new_caller(app)
    released, most, out = threading.Event(), [], []

    def hang(delivery):
        out.append(delivery)
        most.append(len(out))
        released.wait(20)
        out.remove(delivery)
        return 200

    with Receiver(answer=hang) as hanging:
        endpoint_of(caller, hanging, events=["message.sent"])
        endpoint_of(caller, receiver, events=["message.sent"])
        dispatching(app)
        sent = [caller.send().get_json()["status"] for _ in range(12)]
        assert set(sent) <= {"sent", "delivered"}
        eventually(lambda: len(receiver.taken) == 12)
        assert hanging.taken == []
        released.set()
        eventually(lambda: len(hanging.taken) == 12)
    assert max(most) <= 4


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_processes_together_have_no_more_out_than_one_endpoint_may_get(telling, receiver, clock):
    app = telling()
    caller, world = new_caller(app), world_of(app)
    endpoint_of(caller, receiver, events=["message.sent"])
    for _ in range(12):
        caller.send()
    relay(world)
    with world.database.read() as connection:
        (endpoint,) = find_due(connection, clock.now())

    def take(_):
        with world.database.transaction() as connection:
            return claim(connection, clock.now(), endpoint.id, at_once=4, limit=4, lease_seconds=60)

    taken = [each.id for claimed in at_once(take, 6) for each in claimed]
    taken += [each.id for each in take(0)]
    assert len(taken) == len(set(taken)) == 4
    with world.database.read() as connection:
        out = select(webhook_deliveries.c.id).where(webhook_deliveries.c.status == "sending")
        assert set(connection.execute(out).scalars()) == set(taken)


def test_the_whole_service_tells_of_what_becomes_of_a_message(live, receiver):
    caller = live(**ALLOWED)
    made = caller.request("POST", "/v1/webhook-endpoints", json={"url": receiver.url}).json()
    message = caller.send(to="+14155550001").json()

    def told():
        return [each["type"] for each in receiver.events() if each["data"]["message_id"] == message["id"]]

    eventually(lambda: len(told()) == 3)
    assert told() == ["message.queued", "message.sent", "message.delivered"]
    for each in receiver.taken:
        each.verified_by(made["secret"])
    listed = caller.request("GET", "/v1/events").json()["data"]
    assert [each["type"] for each in listed] == ["message.queued", "message.sent", "message.delivered"]

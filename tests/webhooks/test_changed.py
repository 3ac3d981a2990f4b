"""What an endpoint's owner changes while it fails or is told, and what it missed: told soon, at the right URL."""

from datetime import timedelta

import pytest
from sqlalchemy import event, select

from smsapi.events.store import record_event
from smsapi.webhooks.models import webhook_deliveries
from smsapi.webhooks.postman import deliver_due
from tests.conftest import new_caller
from tests.support.dispatching import uuid_of, world_of
from tests.support.examples import sized
from tests.webhooks.conftest import endpoint_of, record

pytestmark = pytest.mark.both_stores

HOUR = 3600.0

# More than are taken in one transaction.
EVENTS = sized(600, 1100)


@pytest.fixture
def app(telling):
    return telling()


@pytest.fixture
def caller(app):
    return new_caller(app)


def patch(caller, endpoint, **changes):
    answer = caller.request("PATCH", f"/v1/webhook-endpoints/{endpoint['id']}", changes)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


@pytest.fixture
def failing(app, caller, receiver, clock):
    """An endpoint that has failed for hours: what it missed is due in some hours more."""
    endpoint = endpoint_of(caller, receiver, events=["message.sent"])
    receiver.answer = lambda _: 503
    for _ in range(3):
        caller.send()
    for wait in (0, 6, 340, 2000, 8000, 20000):
        clock.advance(wait)
        deliver_due(world_of(app))
    receiver.answer = lambda _: 204
    return endpoint


def test_a_change_of_its_description_does_not_hide_that_it_was_away(app, caller, receiver, failing, clock):
    assert patch(caller, failing, description="mended")["failing_since"] is not None
    clock.advance(30)
    caller.send()
    deliver_due(world_of(app))
    assert len(receiver.taken) == 4


@pytest.mark.parametrize("what", ["url", "enabled"])
def test_whoever_moves_it_or_enables_it_is_told_at_once_what_waits(app, caller, receiver, failing, what):
    changed = patch(caller, failing, **{what: {"url": f"{receiver.url}&new", "enabled": True}[what]})
    assert changed["failing_since"] is None
    deliver_due(world_of(app))
    assert len(receiver.taken) == 3


@pytest.mark.parametrize("status", [410, 500])
def test_what_the_old_url_refuses_while_the_endpoint_moves_is_told_at_the_new_one(app, caller, receiver, clock, status):
    endpoint = endpoint_of(caller, receiver, events=["message.sent"])

    def answer(delivery):
        if delivery.path.endswith("/new"):
            return 204
        patch(caller, endpoint, url=receiver.url.replace("/hooks?of=sms", "/new"))
        return status

    receiver.answer = answer
    caller.send()
    deliver_due(world_of(app))
    assert [each.path for each in receiver.asked] == ["/hooks?of=sms", "/new"]
    stands = caller.get(f"/v1/webhook-endpoints/{endpoint['id']}").get_json()
    assert (stands["enabled"], stands["failing_since"]) == (True, None)


def test_who_stood_still_past_the_lease_tells_nothing(telling, receiver, clock):
    def stand_still(step):
        if step == "webhook.before" and asleep:
            clock.advance(asleep.pop())

    asleep = []
    app = telling(replacements={"checkpoint": stand_still})
    caller = new_caller(app)
    endpoint_of(caller, receiver, events=["message.sent"])
    caller.send()
    asleep.append(46)
    deliver_due(world_of(app))
    assert receiver.asked == []
    clock.advance(15)
    deliver_due(world_of(app))
    assert len(receiver.taken) == 1


def recover(caller, endpoint, since, **headers):
    path = f"/v1/webhook-endpoints/{endpoint['id']}/recover"
    return caller.post(path, {"since": since.isoformat()}, **headers)


def test_what_was_given_up_and_what_was_never_queued_are_recovered_in_the_order_of_their_message(
    app, caller, receiver, clock
):
    endpoint = endpoint_of(caller, receiver, events=["message.*"])
    since = clock.now() - timedelta(seconds=1)
    receiver.answer = lambda _: 500
    message = caller.send().get_json()
    for _ in range(6):
        deliver_due(world_of(app))
        clock.advance(24 * HOUR)
    patch(caller, endpoint, enabled=False)
    record(app, message, "message.delivered")
    deliver_due(world_of(app))
    receiver.answer = lambda _: 200
    patch(caller, endpoint, enabled=True)
    recovered = recover(caller, endpoint, since).get_json()
    assert recovered == {"recovered": 3, "complete": True}
    deliver_due(world_of(app))
    assert [each["type"] for each in receiver.events()] == ["message.queued", "message.sent", "message.delivered"]


@pytest.fixture
def statements(app):
    """How many statements each transaction ran, in their order."""
    engine, counted = world_of(app).database.engine, [0]

    def count(*_):
        counted[-1] += 1

    def end(_):
        counted.append(0)

    event.listen(engine, "before_cursor_execute", count)
    event.listen(engine, "commit", end)
    yield counted
    event.remove(engine, "before_cursor_execute", count)
    event.remove(engine, "commit", end)


def test_hundreds_of_events_are_recovered_in_short_transactions(app, caller, receiver, clock, statements):
    endpoint = endpoint_of(caller, receiver, events=["message.updated"])
    since = clock.now() - timedelta(seconds=1)
    patch(caller, endpoint, enabled=False)
    message = caller.send().get_json()
    record(app, message, *["message.updated"] * EVENTS)
    deliver_due(world_of(app))
    patch(caller, endpoint, enabled=True)
    statements[:] = [0]
    answer = recover(caller, endpoint, since, Idempotency_Key="once")
    assert answer.get_json() == {"recovered": EVENTS, "complete": True}
    assert max(statements) <= 12
    assert sum(statements) <= 40
    assert recover(caller, endpoint, since, Idempotency_Key="once").get_json() == answer.get_json()
    assert recover(caller, endpoint, since).get_json() == {"recovered": 0, "complete": True}
    with world_of(app).database.read() as connection:
        stand = list(
            connection.execute(select(webhook_deliveries.c.status).order_by(webhook_deliveries.c.seq)).scalars()
        )
    assert stand == ["waiting", *["behind"] * (EVENTS - 1)]


def test_recovering_for_an_endpoint_that_is_not_there_is_404_and_not_kept(app, caller, clock):
    answers = [recover(caller, {"id": "whe_" + "0" * 32}, clock.now(), Idempotency_Key="k") for _ in range(2)]
    assert [each.status_code for each in answers] == [404, 404]
    assert not any("Idempotent-Replayed" in each.headers for each in answers)


def test_an_inbound_text_that_is_too_large_is_told_without_its_largest_part(app, caller, receiver):
    endpoint_of(caller, receiver, events=["message.received"])
    data = {"id": "inb_1", "from": "+14155550123", "to": "+14155550100", "text": "Hello", "media": ["a" * 9000]}
    world, client = world_of(app), uuid_of({"id": caller.client_id.removeprefix("cli_")})
    with world.database.transaction() as connection:
        told = {**data, "provider": {"extra": {"x": "b" * 19_000}}}
        record_event(connection, client_id=client, kind="message.received", at=world.clock.now(), data=told)
    deliver_due(world)
    assert len(receiver.taken[0].body) <= 20_000
    assert receiver.events()[0]["data"] == {**data, "truncated": True}

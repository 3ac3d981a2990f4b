"""Webhooks as a receiver gets them: signed, once, in order per message, again until it takes them."""

from datetime import timedelta
from email.utils import format_datetime

import pytest
from structlog.testing import capture_logs

from smsapi.webhooks.postman import deliver_due
from smsapi.webhooks.schedule import WAITS_SECONDS
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.webhooks.conftest import endpoint_of, pull, record

HOUR = 3600.0


@pytest.fixture
def app(telling):
    return telling()


@pytest.fixture
def caller(app):
    return new_caller(app)


def attempts_at(caller, endpoint):
    return caller.get(f"/v1/webhook-endpoints/{endpoint['id']}/attempts?limit=100").get_json()["data"]


def get(caller, endpoint):
    return caller.get(f"/v1/webhook-endpoints/{endpoint['id']}").get_json()


def kinds(events, message):
    return [each["type"] for each in events if each["data"].get("message_id") == message["id"]]


def test_the_official_library_verifies_what_a_receiver_gets(app, caller, receiver):
    secret = endpoint_of(caller, receiver)["secret"]
    message = caller.send(text="Grüße ☺", reference="order-1", metadata={"shop": "Köln"}).get_json()
    assert deliver_due(world_of(app)) == 2
    payloads = [each.verified_by(secret) for each in receiver.taken]
    assert [each["type"] for each in payloads] == ["message.queued", "message.sent"]
    assert [each.headers["webhook-id"] for each in receiver.taken] == [each["id"] for each in payloads]
    told = payloads[1]["data"]
    assert (told["message_id"], told["status"], told["to"]) == (message["id"], "sent", message["to"])
    assert (told["reference"], told["metadata"]) == ("order-1", {"shop": "Köln"})
    assert "text" not in told
    assert receiver.taken[0].path == "/hooks?of=sms"
    assert receiver.taken[0].headers["host"] == f"127.0.0.1:{receiver.port}"
    assert pull(caller) == payloads


def test_a_receiver_that_was_down_for_three_hours_gets_every_event_once_in_order_per_message(
    app, caller, receiver, clock
):
    endpoint_of(caller, receiver)
    receiver.answer = lambda _: 503
    messages = []
    for _ in range(6):
        message = caller.send(headers=ASYNC).get_json()
        deliver_due(world_of(app))
        run_due(world_of(app))
        record(app, message, "message.delivered")
        deliver_due(world_of(app))
        messages.append(message)
        clock.advance(HOUR / 2)
        deliver_due(world_of(app))
    assert receiver.taken == []
    receiver.answer = lambda _: 200
    messages.append(caller.send().get_json())
    deliver_due(world_of(app))
    # What is due within a minute is not hastened.
    clock.advance(60)
    deliver_due(world_of(app))
    listed = pull(caller)
    assert len(listed) == 6 * 3 + 2
    assert sorted(each["id"] for each in receiver.events()) == sorted(each["id"] for each in listed)
    for message in messages[:6]:
        assert kinds(receiver.events(), message) == ["message.queued", "message.sent", "message.delivered"]
        assert kinds(listed, message) == ["message.queued", "message.sent", "message.delivered"]
    clock.advance(100 * HOUR)
    assert deliver_due(world_of(app)) == 0


def test_a_receiver_that_is_back_and_hears_of_nothing_new_gets_all_of_it_at_the_next_try(app, caller, receiver, clock):
    endpoint_of(caller, receiver)
    receiver.answer = lambda _: 503
    caller.send()
    for _ in range(3 * 12):
        deliver_due(world_of(app))
        clock.advance(300)
    receiver.answer = lambda _: 200
    clock.advance(6 * HOUR)
    deliver_due(world_of(app))
    assert [each["type"] for each in receiver.events()] == ["message.queued", "message.sent"]


def test_an_event_is_not_told_while_an_earlier_one_of_its_message_is_untold(app, caller, receiver, clock):
    endpoint_of(caller, receiver)
    receiver.answer = lambda delivery: 500 if delivery.event["type"] == "message.queued" else 200
    message, other = caller.send().get_json(), caller.send().get_json()
    deliver_due(world_of(app))
    assert receiver.events() == []
    assert len(receiver.asked) == 2
    receiver.answer = lambda _: 200
    clock.advance(10)
    deliver_due(world_of(app))
    for each in (message, other):
        assert kinds(receiver.events(), each) == ["message.queued", "message.sent"]


def test_it_is_tried_ten_times_within_at_least_75_hours_and_the_next_event_is_told_then(app, caller, receiver, clock):
    endpoint = endpoint_of(caller, receiver)
    receiver.answer = lambda delivery: 500 if delivery.event["type"] == "message.queued" else 200
    caller.send()
    deliver_due(world_of(app))
    for wait in WAITS_SECONDS:
        clock.advance(wait - 1)
        assert deliver_due(world_of(app)) == 0
        clock.advance(wait * 0.1 + 2)
        assert deliver_due(world_of(app)) > 0
    tried = [each for each in attempts_at(caller, endpoint) if each["event_type"] == "message.queued"]
    assert [each["number"] for each in reversed(tried)] == list(range(1, 11))
    assert {(each["status"], each["error"], each["delivery_status"]) for each in tried} == {
        (500, "answered 500", "failed")
    }
    assert sum(WAITS_SECONDS) >= 75 * HOUR
    assert [each["type"] for each in receiver.events()] == ["message.sent"]


def test_every_try_has_the_same_id_and_a_signature_of_its_time(app, caller, receiver, clock):
    secret = endpoint_of(caller, receiver, events=["message.sent"])["secret"]
    receiver.answer = lambda _: 500
    caller.send()
    deliver_due(world_of(app))
    clock.advance(10)
    deliver_due(world_of(app))
    first, second = receiver.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 10
    assert first.verified_by(secret) == second.verified_by(secret)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_a_failure_and_nobody_goes_there(app, caller, receiver, status):
    endpoint = endpoint_of(caller, receiver, events=["message.sent"])
    receiver.answer = lambda _: (status, {"Location": receiver.url})
    caller.send()
    deliver_due(world_of(app))
    assert len(receiver.asked) == 1
    assert attempts_at(caller, endpoint)[0]["error"] == f"answered {status}"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(app, caller, receiver, clock, form):
    endpoint_of(caller, receiver, events=["message.sent"])
    # A date has no fraction of a second.
    until = format_datetime(clock.now() + timedelta(seconds=7200), usegmt=True)
    receiver.answer = lambda _: (429, {"Retry-After": "7200" if form == "seconds" else until})
    caller.send()
    deliver_due(world_of(app))
    clock.advance(7100)
    assert deliver_due(world_of(app)) == 0
    clock.advance(101)
    assert deliver_due(world_of(app)) == 1


def test_410_disables_the_endpoint_and_the_others_hear_of_it(app, caller, receiver):
    leaving = endpoint_of(caller, receiver, events=["message.*"])
    endpoint_of(caller, receiver, events=["webhook.*"])
    receiver.answer = lambda delivery: 410 if delivery.event["type"].startswith("message.") else 200
    caller.send()
    deliver_due(world_of(app))
    stands = get(caller, leaving)
    assert (stands["enabled"], stands["disabled_reason"]) == (False, "gone")
    told = receiver.events()
    assert [each["type"] for each in told] == ["webhook.disabled"]
    assert told[0]["data"] == {"endpoint_id": leaving["id"], "url": receiver.url, "reason": "gone"}
    asked = len(receiver.asked)
    caller.send()
    deliver_due(world_of(app))
    assert len(receiver.asked) == asked


def test_five_days_of_nothing_but_failure_disable_the_endpoint(app, caller, receiver, clock):
    endpoint = endpoint_of(caller, receiver)
    receiver.answer = lambda _: 500
    for _ in range(11):
        caller.send()
        deliver_due(world_of(app))
        assert get(caller, endpoint)["enabled"] is True
        clock.advance(11 * HOUR)
    caller.send()
    with capture_logs() as logs:
        deliver_due(world_of(app))
    stands = get(caller, endpoint)
    assert (stands["enabled"], stands["disabled_reason"]) == (False, "failing")
    assert [each["endpoint_id"] for each in logs if each["event"] == "webhook_disabled"] == [endpoint["id"]]
    assert pull(caller)[-1]["type"] == "webhook.disabled"


def test_one_success_within_the_five_days_keeps_it(app, caller, receiver, clock):
    endpoint = endpoint_of(caller, receiver)
    for day in range(8):
        receiver.answer = (lambda _: 200) if day == 4 else (lambda _: 500)
        caller.send()
        deliver_due(world_of(app))
        clock.advance(24 * HOUR)
    assert get(caller, endpoint)["enabled"] is True


def test_one_event_that_is_refused_keeps_its_tries_while_others_are_taken(app, caller, receiver, clock):
    endpoint = endpoint_of(caller, receiver, events=["message.sent"])
    poison = caller.send(reference="poison").get_json()
    receiver.answer = lambda delivery: 500 if delivery.event["data"]["reference"] == "poison" else 200
    for _ in range(20):
        caller.send()
        deliver_due(world_of(app))
        clock.advance(300)
    newest = next(each for each in attempts_at(caller, endpoint) if each["status"] == 500)
    assert newest["delivery_status"] == "waiting"
    receiver.answer = lambda _: 200
    clock.advance(6 * HOUR)
    deliver_due(world_of(app))
    assert kinds(receiver.events(), poison) == ["message.sent"]


def test_what_was_given_up_is_recovered_in_order_and_one_is_resent(app, caller, receiver, clock):
    endpoint = endpoint_of(caller, receiver)
    since = clock.now() - timedelta(seconds=1)
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    caller.request("PATCH", path, {"enabled": False})
    message = caller.send().get_json()
    assert deliver_due(world_of(app)) == 0
    caller.request("PATCH", path, {"enabled": True})
    assert deliver_due(world_of(app)) == 0
    recovered = caller.post(f"{path}/recover", {"since": since.isoformat()})
    assert (recovered.status_code, recovered.get_json()) == (202, {"recovered": 2, "complete": True})
    deliver_due(world_of(app))
    assert kinds(receiver.events(), message) == ["message.queued", "message.sent"]
    assert caller.post(f"{path}/recover", {"since": since.isoformat()}).get_json()["recovered"] == 0
    again = caller.post(f"{path}/events/{receiver.events()[1]['id']}/resend")
    assert again.status_code == 202
    deliver_due(world_of(app))
    assert [each["type"] for each in receiver.events()] == ["message.queued", "message.sent", "message.sent"]
    assert receiver.taken[1].headers["webhook-id"] == receiver.taken[2].headers["webhook-id"]


def test_what_waits_for_a_later_try_is_tried_now_when_it_is_resent(app, caller, receiver, clock):
    endpoint = endpoint_of(caller, receiver, events=["message.sent"])
    receiver.answer = lambda _: 500
    caller.send()
    for _ in range(4):
        deliver_due(world_of(app))
        clock.advance(HOUR)
    receiver.answer = lambda _: 204
    assert deliver_due(world_of(app)) == 0
    event = receiver.asked[0].event["id"]
    assert caller.post(f"/v1/webhook-endpoints/{endpoint['id']}/events/{event}/resend").status_code == 202
    assert deliver_due(world_of(app)) == 1
    assert [each["id"] for each in receiver.events()] == [event]


def test_filters_choose_what_an_endpoint_is_told(app, caller, receiver):
    endpoint_of(caller, receiver, events=["message.sent", "optout.*"])
    caller.send()
    deliver_due(world_of(app))
    assert [each["type"] for each in receiver.events()] == ["message.sent"]


def test_another_clients_events_are_told_to_nobody_else(app, caller, receiver):
    endpoint_of(caller, receiver)
    stranger = new_caller(app, name="stranger")
    stranger.send()
    assert deliver_due(world_of(app)) == 0
    assert pull(caller) == []
    assert len(pull(stranger)) == 2


def test_test_events_are_marked_and_a_test_keys_endpoint_hears_of_nothing_else(app, caller, receiver):
    tester = new_caller(app, mode="test", name="tester")
    made = endpoint_of(tester, receiver)
    assert made["test"] is True
    tester.send()
    deliver_due(world_of(app))
    assert {each["test"] for each in receiver.events()} == {True}
    assert len(receiver.events()) >= 2


def test_a_test_event_goes_to_one_endpoint_whatever_its_filters(app, caller, receiver):
    wanted = endpoint_of(caller, receiver, events=["optout.created"])
    endpoint_of(caller, receiver)
    sent = caller.post(f"/v1/webhook-endpoints/{wanted['id']}/test").get_json()
    deliver_due(world_of(app))
    assert [each["id"] for each in receiver.events()] == [sent["event_id"]]
    receiver.taken[0].verified_by(wanted["secret"])


def test_both_secrets_verify_for_a_day_after_a_rotation(app, caller, receiver, clock):
    made = endpoint_of(caller, receiver, events=["message.sent"])
    rotated = caller.post(f"/v1/webhook-endpoints/{made['id']}/rotate-secret").get_json()
    assert rotated["secret"] != made["secret"]
    caller.send()
    deliver_due(world_of(app))
    receiver.taken[0].verified_by(made["secret"])
    receiver.taken[0].verified_by(rotated["secret"])
    clock.advance(24 * HOUR)
    caller.send()
    deliver_due(world_of(app))
    assert len(receiver.taken[1].headers["webhook-signature"].split()) == 1


def test_what_a_dead_postman_had_out_is_told_when_its_lease_is_over(telling, receiver, clock):
    class Killed(BaseException):
        pass

    def die(step):
        if step == "webhook.before" and armed:
            armed.clear()
            raise Killed

    armed = [True]
    app = telling(replacements={"checkpoint": die})
    caller = new_caller(app)
    endpoint_of(caller, receiver, events=["message.sent"])
    caller.send()
    with pytest.raises(Killed):
        deliver_due(world_of(app))
    assert deliver_due(world_of(app)) == 0
    clock.advance(61)
    assert deliver_due(world_of(app)) == 1
    assert len(receiver.taken) == 1


def test_a_payload_has_no_more_than_20_kilobytes_and_says_what_was_left_out(app, caller, receiver):
    endpoint_of(caller, receiver, events=["message.sent"])
    caller.send(metadata={f"key{number}": "😀" * 400 for number in range(20)})
    deliver_due(world_of(app))
    assert len(receiver.taken[0].body) <= 20_000
    assert receiver.events()[0]["data"]["truncated"] is True

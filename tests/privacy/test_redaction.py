"""A message's text and number are erased for good at its caller's wish, and what is counted stays."""

import json
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from sqlalchemy import select, text

from smsapi.clock import ManualClock
from smsapi.db import metadata
from smsapi.plivo.outcomes import Rejected, Unknown
from smsapi.webhooks.postman import deliver_due
from tests.conftest import AUTH_TOKEN, new_caller
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken
from tests.webhooks.conftest import endpoint_of, pull
from tests.webhooks.receiver import Receiver

TO, TEXT = "+14155556001", "The secret word is xylophone"
PERSONAL = ("4155556001", "xylophone", "order-77", "Anna")
BODY = {"to": TO, "text": TEXT, "reference": "order-77", "metadata": {"name": "Anna"}}


@pytest.fixture
def make(make_app):
    def build(*outcomes, **settings):
        provider = Scripted(*(outcomes or (taken(),)))
        replaced = {"provider": provider, "clock": ManualClock(datetime.now(UTC))}
        app = make_app(replaced, public_url=PUBLIC_URL, **settings)
        return app, new_caller(app)

    return build


def redact(caller, message, **headers):
    return caller.post(f"/v1/messages/{message['id']}/redact", **headers)


def everything_stored(app):
    """Return the whole store as text."""
    with world_of(app).database.read() as connection:
        rows = [connection.execute(select(table)).all() for table in metadata.sorted_tables]
    return repr(rows)


def test_what_is_redacted_is_nowhere_in_the_store_and_the_counts_stay(make):
    app, caller = make()
    message = caller.post("/v1/messages", BODY, Idempotency_Key="k1").get_json()
    assert (
        report(app, message["id"], {"Status": "delivered", "TotalAmount": "0.011"}, token=AUTH_TOKEN).status_code == 200
    )
    before = caller.message(message["id"])
    assert all(word in everything_stored(app) for word in PERSONAL)
    answer = redact(caller, message, Idempotency_Key="k2")
    assert answer.status_code == 200
    seen = caller.message(message["id"])
    assert answer.get_json() == seen
    erased = {"to": "", "text": "", "reference": None, "metadata": {}, "updated_at": seen["updated_at"]}
    assert seen == before | erased
    assert not any(word in everything_stored(app) for word in PERSONAL)
    assert caller.get("/v1/messages?to=%2B14155556001").get_json()["data"] == []
    event = caller.events(message["id"])[-1]
    assert (event["type"], event["data"]) == ("message.redacted", {"by": "caller", "key_id": caller.key_id})


def test_what_is_redacted_is_told_no_more_by_webhook_nor_in_the_list_of_events(make):
    app, caller = make(webhook_allow_networks=(ip_network("127.0.0.0/8"),), webhook_ports=((1, 65_535),))
    world = world_of(app)
    with Receiver() as receiver:
        endpoint = endpoint_of(caller, receiver)
        message = caller.post("/v1/messages", BODY).get_json()
        deliver_due(world)
        told = receiver.events()
        assert {each["type"] for each in told} >= {"message.queued", "message.sent"}
        assert all(word in str(told) for word in ("4155556001", "order-77", "Anna"))
        assert redact(caller, message).status_code == 200
        deliver_due(world)
        receiver.taken.clear()
        for each in pull(caller):
            again = caller.post(f"/v1/webhook-endpoints/{endpoint['id']}/events/{each['id']}/resend")
            assert again.status_code == 202, again.text
        deliver_due(world)
        sent = receiver.events()
    assert [each["id"] for each in sent] == [each["id"] for each in pull(caller)]
    assert len(sent) == len(told) + 1
    # By what came, and by what anybody reads instead.
    for known in (sent, pull(caller)):
        assert {each["data"]["message_id"] for each in known} == {message["id"]}
        assert not any(word in str(known) for word in PERSONAL)
        assert {str(each["data"]["metadata"]) for each in known} == {"{}"}


def test_the_first_answer_is_repeated_without_what_was_erased(make):
    _, caller = make()
    first = caller.post("/v1/messages", BODY, Idempotency_Key="k1")
    redact(caller, first.get_json())
    again = caller.post("/v1/messages", BODY, Idempotency_Key="k1")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert again.get_json() == first.get_json() | {"to": "", "text": "", "reference": None, "metadata": {}}


def test_twice_is_the_same_as_once(make):
    _, caller = make()
    message = caller.post("/v1/messages", BODY).get_json()
    first, second = redact(caller, message), redact(caller, message)
    assert (second.status_code, second.get_json()) == (200, first.get_json())
    assert [event["type"] for event in caller.events(message["id"])].count("message.redacted") == 1


def test_what_still_has_to_be_sent_or_looked_for_is_409(make):
    app, caller = make(Unknown("no answer"))
    waiting = caller.post("/v1/messages", BODY, **ASYNC).get_json()
    answer = redact(caller, waiting)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "too_early")
    assert caller.message(waiting["id"])["text"] == TEXT
    run_due(world_of(app))
    assert caller.message(waiting["id"])["status"] == "unknown"
    assert redact(caller, waiting).status_code == 409
    canceled = caller.post("/v1/messages", BODY, **ASYNC).get_json()
    assert caller.post(f"/v1/messages/{canceled['id']}/cancel").status_code == 200
    assert redact(caller, canceled).get_json()["text"] == ""


def test_what_plivo_said_of_a_refused_message_goes_too(make):
    app, caller = make(Rejected("message", "xylophone is not allowed", 400))
    answer = caller.post("/v1/messages", BODY)
    message = caller.get("/v1/messages").get_json()["data"][0]
    assert (answer.status_code, message["status"]) == (422, "failed")
    seen = redact(caller, message).get_json()
    assert seen["error"]["code"] == "rejected_by_provider"
    assert not any(word in everything_stored(app) for word in PERSONAL)


def test_a_report_after_the_redaction_still_counts(make):
    app, caller = make()
    message = caller.post("/v1/messages", BODY).get_json()
    redact(caller, message)
    assert report(app, message["id"], {"Status": "delivered", "To": TO}, token=AUTH_TOKEN).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"
    assert TO not in everything_stored(app)


def test_another_clients_message_is_404_and_stays(make):
    app, caller = make()
    message = caller.post("/v1/messages", BODY).get_json()
    answer = redact(new_caller(app, name="another"), message)
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    assert redact(new_caller(app, mode="test"), message).status_code == 404
    assert caller.message(message["id"])["text"] == TEXT
    assert redact(caller, {"id": "msg_0"}).status_code == 404


def test_a_field_that_is_not_known_is_422(make):
    _, caller = make()
    message = caller.post("/v1/messages", BODY).get_json()
    assert caller.post(f"/v1/messages/{message['id']}/redact", {"why": "so"}).status_code == 422


def test_a_test_keys_message_is_redacted_while_its_reports_are_still_to_come(make):
    app, _ = make()
    caller = new_caller(app, mode="test")
    message = caller.send(to="+14155550001").get_json()
    assert redact(caller, message).get_json()["status"] == "sent"
    world_of(app).clock.advance(5)
    assert run_due(world_of(app)) == 0
    with world_of(app).database.read() as connection:
        stored = connection.execute(text("SELECT body FROM idempotency_keys")).scalars().all()
    assert [json.loads(body) for body in stored] == []

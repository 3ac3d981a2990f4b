"""Whatever happens is told at once: nobody waits for a sweep, which here comes every ten minutes."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.inbound import text_us
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.webhooks.conftest import ALLOWED, endpoint_of, pull

SELDOM = 600.0
IN_AN_HOUR = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.fixture
def app(make_app, dispatching, receiver):
    app = make_app(dispatch_sweep_seconds=SELDOM, public_url=PUBLIC_URL, **ALLOWED)
    dispatching(app)
    return app


@pytest.fixture
def caller(app):
    return new_caller(app)


@pytest.fixture
def told(caller, receiver):
    endpoint_of(caller, receiver, events=["*"])
    return lambda kind: eventually(lambda: [each for each in receiver.events() if each["type"] == kind])


def test_of_a_message_that_its_caller_waits_for(caller, told):
    message = caller.send().get_json()
    assert told("message.sent")[0]["data"]["message_id"] == message["id"]


def test_of_a_report_an_inbound_text_an_opt_out_and_a_cancel(app, caller, told):
    message = caller.send().get_json()
    report(app, message["id"], {"Status": "delivered"}, token=AUTH_TOKEN)
    told("message.delivered")
    text_us(app, "STOP")
    told("message.received")
    told("optout.created")
    later = caller.send(to="+14155550177", send_at=IN_AN_HOUR).get_json()
    caller.post(f"/v1/messages/{later['id']}/cancel", {})
    told("message.canceled")


def test_of_what_is_resent_or_recovered_or_waited_for_an_endpoint_that_is_back(caller, receiver):
    made = endpoint_of(caller, receiver, events=["message.sent"])
    path = f"/v1/webhook-endpoints/{made['id']}"
    caller.send()
    (event,) = eventually(receiver.events)
    assert caller.post(f"{path}/events/{event['id']}/resend").status_code == 202
    eventually(lambda: len(receiver.events()) == 2)
    caller.request("PATCH", path, {"enabled": False})
    caller.send()
    # Told of from the moment when they are numbered, which is after it was stored.
    eventually(lambda: [event["type"] for event in pull(caller)].count("message.sent") == 2)
    since = datetime.now(UTC) - timedelta(minutes=1)
    caller.request("PATCH", path, {"enabled": True})
    assert caller.post(f"{path}/recover", {"since": since.isoformat()}).get_json()["recovered"] == 1
    eventually(lambda: len(receiver.events()) == 3)

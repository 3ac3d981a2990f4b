"""The main job through the front door: a key, a token, a message that Plivo takes, and what became of it."""

from tests.conftest import eventually
from tests.support.api import SENT_OR_REPORTED, UNREPORTED


def test_a_message_is_sent_and_ends_delivered(live, simulator):
    caller = live()
    sent = caller.send(to="+14155550001", text="Hello")
    assert sent.status_code == 201
    message = sent.json()
    assert message["status"] in SENT_OR_REPORTED
    assert sent.headers["Location"] == f"/v1/messages/{message['id']}"
    assert simulator.store.count() == 1
    delivered = eventually(lambda: (m := caller.message(message["id"]))["status"] == "delivered" and m)
    assert delivered["delivered_at"] is not None
    assert delivered["price"]["estimated"] is False
    assert simulator.store.count() == 1


def test_a_message_without_a_receipt_is_answered_as_sent_and_stays_so(live, simulator):
    caller = live()
    sent = caller.send(to=UNREPORTED)
    assert (sent.status_code, sent.json()["status"]) == (201, "sent")
    assert simulator.settle(5)
    assert caller.message(sent.json()["id"])["status"] == "sent"


def test_a_message_that_nobody_waits_for_is_sent_in_the_background(live, simulator):
    caller = live()
    taken = caller.send(to="+14155550001", headers={"Prefer": "respond-async"})
    assert taken.status_code == 202
    assert taken.headers["Preference-Applied"] == "respond-async"
    assert taken.json()["status"] == "queued"
    eventually(lambda: caller.message(taken.json()["id"])["status"] == "delivered")
    assert simulator.store.count() == 1

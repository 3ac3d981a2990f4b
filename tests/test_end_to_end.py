"""The main job through the front door: a key, a token, a message that Plivo takes, and what became of it."""

from tests.conftest import eventually


def test_a_message_is_sent_and_ends_delivered(live, simulator):
    caller = live()
    sent = caller.send(to="+14155550001", text="Hello")
    assert sent.status_code == 201
    message = sent.json()
    assert message["status"] == "sent"
    assert sent.headers["Location"] == f"/v1/messages/{message['id']}"
    assert simulator.store.count() == 1
    delivered = eventually(lambda: (m := caller.message(message["id"]))["status"] == "delivered" and m)
    assert delivered["delivered_at"] is not None
    assert delivered["price"]["estimated"] is False
    assert simulator.store.count() == 1


def test_a_message_that_nobody_waits_for_is_sent_in_the_background(live, simulator):
    caller = live()
    taken = caller.send(to="+14155550001", headers={"Prefer": "respond-async"})
    assert taken.status_code == 202
    assert taken.headers["Preference-Applied"] == "respond-async"
    assert taken.json()["status"] == "queued"
    eventually(lambda: caller.message(taken.json()["id"])["status"] == "delivered")
    assert simulator.store.count() == 1

"""The magic numbers: the same outcomes with a test key, which reaches nobody, and over HTTP against the simulator."""

from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock
from tests.conftest import eventually
from tests.support.api import TO


def _number(end):
    return f"+1415555{end}"


def _ended(caller, message_id, status):
    """Return the message and the types of its events, once it has that status."""
    return eventually(lambda: (found := caller.message(message_id))["status"] == status and found)


@pytest.fixture
def database_url(postgres_url):
    """Played on one store: the steps are those of every other send, which are held on both."""
    return postgres_url


@pytest.fixture
def rehearsal(make_app, make_caller, dispatching):
    """A test key's caller, with a dispatcher, and a clock that the test moves."""
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"clock": clock})
    caller = make_caller(app, mode="test")
    dispatching(app)
    return caller, clock


def test_a_test_key_is_told_what_becomes_of_each_number(rehearsal, simulator):
    caller, clock = rehearsal
    ends = {"0001": "delivered", "0002": "undelivered", "0004": "failed", "0010": "delivered", "0123": "delivered"}
    sent = {end: caller.send(to=_number(end)) for end in ends}
    for answer in sent.values():
        message = answer.get_json()
        assert (answer.status_code, message["status"], message["test"]) == (201, "sent", True)
    clock.advance(2)
    for end, status in ends.items():
        ended = _ended(caller, sent[end].get_json()["id"], status)
        assert ended["provider"]["error_code"] == {"0002": "30", "0004": "200"}.get(end)
        assert (ended["provider"]["name"], ended["test"]) == ("test", True)
    clock.advance(5)
    for end, status in ends.items():
        message_id = sent[end].get_json()["id"]
        events = ["message.queued", "message.sent", f"message.{status}"]
        assert [event["type"] for event in caller.events(message_id)] == events
        assert caller.message(message_id)["status"] == status
    assert simulator.store.count() == 0


def test_a_test_key_is_refused_as_plivo_would(rehearsal, simulator):
    caller, _ = rehearsal
    for end, status, code in (("0003", 422, "rejected_by_provider"), ("0011", 502, "provider_account")):
        refused = caller.send(to=_number(end))
        assert (refused.status_code, refused.get_json()["code"]) == (status, code)
        message = caller.message(refused.get_json()["message_id"])
        assert (message["status"], message["error"]["code"], message["test"]) == ("failed", code, True)
    assert simulator.store.count() == 0


def test_a_test_key_is_throttled_twice_and_then_served(rehearsal, simulator):
    caller, clock = rehearsal
    sent = caller.send(to=_number("0005"))
    assert (sent.status_code, sent.get_json()["attempts"]) == (201, 3)
    clock.advance(2)
    assert _ended(caller, sent.get_json()["id"], "delivered")["attempts"] == 3
    assert simulator.store.count() == 0


def test_a_test_key_meets_outcomes_that_are_not_known(rehearsal, simulator):
    caller, clock = rehearsal
    taken = {end: caller.send(to=_number(end)) for end in ("0006", "0007", "0008")}
    ids = {end: answer.get_json()["id"] for end, answer in taken.items()}
    assert {answer.status_code for answer in taken.values()} == {202}
    assert {answer.get_json()["status"] for answer in taken.values()} == {"unknown"}
    clock.advance(2)
    delivered = _ended(caller, ids["0007"], "delivered")
    assert delivered["error"] is None
    assert [event["type"] for event in caller.events(ids["0007"])][:2] == ["message.queued", "message.unknown"]
    clock.advance(60)
    assert {caller.message(ids[end])["status"] for end in ("0006", "0008")} == {"unknown"}
    assert simulator.store.count() == 0


def test_a_message_without_receipts_stays_sent(rehearsal, simulator):
    caller, clock = rehearsal
    silent, other = (caller.send(to=_number(end)).get_json()["id"] for end in ("0009", "0001"))
    clock.advance(3600)
    _ended(caller, other, "delivered")
    assert caller.message(silent)["status"] == "sent"
    assert simulator.store.count() == 0


def test_a_test_key_that_does_not_wait_is_served_in_the_background(rehearsal, simulator):
    caller, clock = rehearsal
    taken = caller.send(to=TO, headers={"Prefer": "respond-async"})
    assert (taken.status_code, taken.get_json()["test"]) == (202, True)
    _ended(caller, taken.get_json()["id"], "sent")
    clock.advance(2)
    _ended(caller, taken.get_json()["id"], "delivered")
    assert simulator.store.count() == 0


def test_a_live_key_meets_the_same_on_the_wire(live, simulator):
    remote = live()
    ends = {"0001": "delivered", "0002": "undelivered", "0004": "failed", "0005": "delivered", "0010": "delivered"}
    sent = {end: remote.send(to=_number(end)) for end in (*ends, "0009")}
    assert {end: answer.status_code for end, answer in sent.items()} == dict.fromkeys(sent, 201)
    for end, status in ends.items():
        message_id = sent[end].json()["id"]
        ended = eventually(
            lambda at=message_id, wanted=status: (found := remote.message(at))["status"] == wanted and found
        )
        assert ended["test"] is False
        assert ended["provider"]["name"] == "plivo"
        assert ended["provider"]["error_code"] == {"0002": "30", "0004": "200"}.get(end)
    assert sent["0005"].json()["attempts"] == 3
    assert simulator.settle(5)
    assert remote.message(sent["0009"].json()["id"])["status"] == "sent"
    refused = {end: remote.send(to=_number(end)) for end in ("0003", "0011")}
    assert [answer.status_code for answer in refused.values()] == [422, 502]
    assert "redit" not in refused["0011"].text
    assert simulator.store.texts_by_number() == {_number(end)[1:]: 1 for end in sent}


def test_a_live_key_meets_outcomes_that_are_not_known(live, simulator):
    remote = live(plivo_read_timeout_seconds=0.3, breaker_failures=100)
    taken = {end: remote.send(to=_number(end)) for end in ("0006", "0007", "0008")}
    assert {answer.status_code for answer in taken.values()} == {202}
    ids = {end: answer.json()["id"] for end, answer in taken.items()}
    eventually(lambda: remote.message(ids["0007"])["status"] == "delivered")
    assert {remote.message(ids[end])["status"] for end in ("0006", "0008")} == {"unknown"}
    assert simulator.store.texts_by_number() == {_number("0007")[1:]: 1}

"""The simulator's own routes: faults to order, and what was taken."""

from datetime import UTC, datetime

import pytest
import requests

from smsapi.clock import ManualClock
from smsapi.plivo.simulator import Simulator

AUTH = ("MAXXXXXXXXXXXXXXXXXX", "the-token")
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
def simulator(clock):
    with Simulator(
        auth_id=AUTH[0], auth_token=AUTH[1], requests_per_5s=None, lists_per_minute=None, hang_seconds=60, clock=clock
    ) as running:
        yield running


@pytest.fixture
def call(simulator):
    with requests.Session() as session:
        session.trust_env = False

        def call(method, path, **options):
            return session.request(method, simulator.url + path, timeout=5, **options)

        yield call


@pytest.fixture
def send(call):
    def send(dst="14155550001", timeout=5, **fields):
        body = {"src": "14150000000", "dst": dst, "text": "Hello"} | fields
        return call("POST", f"/v1/Account/{AUTH[0]}/Message/", json=body, auth=AUTH)

    return send


@pytest.mark.parametrize(
    "fault",
    [
        ({"kind": "429"}, 429, "1", 0),
        ({"kind": "429", "retry_after": 7}, 429, "7", 0),
        ({"kind": "503"}, 503, None, 0),
        ({"kind": "503", "retry_after": 2}, 503, "2", 0),
        ({"kind": "503", "taken": True}, 503, None, 1),
        ({"kind": "500"}, 500, None, 0),
        ({"kind": "500", "taken": True}, 500, None, 1),
        ({"kind": "html_200"}, 200, None, 0),
        ({"kind": "html_200", "taken": True}, 200, None, 1),
        ({"kind": "wrong_json"}, 200, None, 1),
        ({"kind": "wrong_json", "taken": False}, 200, None, 0),
        ({"kind": "slow", "seconds": 0.01}, 202, None, 1),
    ],
)
def test_a_fault_spoils_the_answer_and_says_whether_the_text_was_taken(simulator, call, send, fault):
    rule, status, retry_after, taken = fault
    assert call("POST", "/_faults", json=[rule]).status_code == 200

    answer = send()

    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert simulator.store.count() == taken
    if status == 200:
        assert "message_uuid" not in answer.text


@pytest.mark.parametrize(("kind", "taken"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_comes_before_or_after_taking(simulator, call, send, kind, taken):
    call("POST", "/_faults", json=[{"kind": kind}])

    with pytest.raises(requests.ConnectionError):
        send()

    assert simulator.store.count() == taken


@pytest.mark.parametrize("taken", [False, True])
def test_a_hang_ends_in_a_reset(simulator, call, send, taken):
    call("POST", "/_faults", json=[{"kind": "hang", "seconds": 0.05, "taken": taken}])

    with pytest.raises(requests.ConnectionError):
        send()

    assert simulator.store.count() == int(taken)


def test_a_fault_strikes_as_often_as_it_says_then_the_next_rule_does(call, send):
    call("POST", "/_faults", json=[{"kind": "500", "count": 2}, {"kind": "429", "count": 1}])

    assert [send().status_code for _ in range(4)] == [500, 500, 429, 202]
    assert [rule["count"] for rule in call("GET", "/_faults").json()] == [0, 0]


def test_a_fault_strikes_with_its_probability(call, send):
    call("POST", "/_faults", json=[{"kind": "500", "probability": 0.5}])
    statuses = [send().status_code for _ in range(100)]
    call("POST", "/_faults", json=[{"kind": "500", "probability": 0}])
    never = {send().status_code for _ in range(20)}

    assert 15 < statuses.count(500) < 85
    assert never == {202}


def test_clearing_the_faults_ends_them(call, send):
    call("POST", "/_faults", json=[{"kind": "500"}])

    assert call("DELETE", "/_faults").json() == []
    assert send().status_code == 202


@pytest.mark.parametrize(
    "rules",
    [
        {},
        [[]],
        [{"kind": "earthquake"}],
        [{}],
        [{"kind": "500", "colour": "red"}],
        [{"kind": "500", "probability": 2}],
        [{"kind": "500", "probability": "often"}],
        [{"kind": "500", "count": -1}],
        [{"kind": "500", "count": True}],
        [{"kind": "slow", "seconds": -1}],
        [{"kind": "429", "taken": True}],
        [{"kind": "500", "taken": "yes"}],
    ],
)
def test_a_rule_that_makes_no_sense_is_400_and_changes_nothing(call, send, rules):
    call("POST", "/_faults", json=[{"kind": "500"}])

    assert call("POST", "/_faults", json=rules).status_code == 400
    assert call("POST", "/_faults", data="{").status_code == 400
    assert send().status_code == 500


def test_what_was_taken_can_be_read_counted_and_forgotten(simulator, call, clock, send):
    (first,) = send("14155550001", url="http://127.0.0.1:9/status").json()["message_uuid"]
    clock.advance(2)
    send("14155550002", text="я" * 71)
    send("14155550002")

    everything = call("GET", "/_taken").json()
    assert everything["count"] == 3
    assert everything["texts_by_number"] == {"14155550001": 1, "14155550002": 2}
    assert everything["messages"][0] == {
        "message_uuid": first,
        "from": "14150000000",
        "to": "14155550001",
        "text": "Hello",
        "url": "http://127.0.0.1:9/status",
        "taken_at": "2026-05-04T12:00:00.000Z",
        "state": "delivered",
        "error_code": None,
        "units": 1,
    }
    assert [message["units"] for message in everything["messages"]] == [1, 2, 1]
    assert call("GET", "/_taken?to=%2B14155550002").json()["count"] == 2
    assert call("GET", "/_taken?since=2026-05-04T12:00:01Z").json()["count"] == 2
    assert call("GET", "/_taken?since=2026-05-04T14:00:01+02:00").json()["count"] == 2
    assert call("GET", "/_taken?since=lately").status_code == 400
    assert call("GET", "/_taken?count=1").json() == {"count": 3, "numbers": 2, "numbers_texted_twice": 1}
    assert call("GET", "/_taken?count=1&to=14155550001").json()["count"] == 1

    assert call("DELETE", "/_taken").status_code == 200
    assert call("GET", "/_taken").json() == {"count": 0, "messages": [], "texts_by_number": {}}
    # One may just be on its way, and nobody is there to take it.
    assert simulator.settle(30)
    assert simulator.pending_callbacks == 0


def test_an_answer_delay_comes_after_taking():
    with Simulator(auth_id=AUTH[0], auth_token=AUTH[1], answer_delay_seconds=60) as slow:
        body = {"src": "ACME", "dst": "14155550001", "text": "Hello"}
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"{slow.url}/v1/Account/{AUTH[0]}/Message/", json=body, auth=AUTH, timeout=0.2)

        assert slow.store.count() == 1

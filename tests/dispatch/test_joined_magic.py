"""Joined calls on the wire: the simulator's magic numbers within one, the dispatcher at work, receipts and all."""

import pytest

from smsapi.plivo.simulator import Simulator
from smsapi.plivo.simulator.faults import Rule
from tests.conftest import AUTH_ID, AUTH_TOKEN, eventually, free_port, listening, new_caller
from tests.support.batching import chunks_of, queue_batch, rows_of, statuses_of
from tests.support.dispatching import world_of
from tests.support.examples import sized

ORDINARY = ["+14155561101", "+14155561102", "+14155561103"]


@pytest.fixture
def database_url(sqlite_url):
    """The wire is asked here; joined calls on both stores are tested beside it."""
    return sqlite_url


@pytest.fixture
def simulator():
    with Simulator(
        auth_id=AUTH_ID, auth_token=AUTH_TOKEN, requests_per_5s=None, lists_per_minute=None, receipt_scale=0.05
    ) as playing:
        yield playing


@pytest.fixture
def serve(make_app, dispatching):
    """Serve an app on a port, where reports reach it; its caller and a function that starts to dispatch."""
    port = free_port()
    app = make_app(
        public_url=f"http://127.0.0.1:{port}",
        reconcile_after_seconds=0.5,
        plivo_list_per_minute=6000,
        account_probe_seconds=0.2,
        breaker_failures=1000,
        lease_seconds=15,
    )
    with listening(app, port):
        yield new_caller(app), lambda: dispatching(app)


def settle(serve, numbers, expected, **values):
    """Send a batch to these numbers and wait until it stands so; return its caller, its id, its messages."""
    caller, dispatch = serve
    batch, ids = queue_batch(caller, numbers, **values)
    dispatch()
    eventually(lambda: statuses_of(world_of(caller.app), batch) == expected)
    return caller, batch, ids


def texts(simulator, numbers):
    found = simulator.store.texts_by_number()
    return [found.get(number.removeprefix("+"), 0) for number in numbers]


def test_each_of_a_call_comes_to_its_own_end(serve, simulator):
    numbers = [*ORDINARY, "+14155560002", "+14155560003", "+14155560004", "+14155560010", "+14155560009"]
    expected = {"delivered": 4, "undelivered": 1, "failed": 2, "sent": 1}
    caller, batch, ids = settle(serve, numbers, expected)
    seen = {number: caller.message(each) for number, each in zip(numbers, ids, strict=True)}
    assert seen["+14155560002"]["provider"]["error_code"] == "30"
    assert seen["+14155560003"]["error"]["code"] == "rejected_by_provider"
    assert seen["+14155560004"]["provider"]["error_code"] == "200"
    assert seen["+14155560009"]["provider"]["message_uuid"] is None
    (rows,) = chunks_of(world_of(caller.app), batch).values()
    assert len(rows) == len(numbers)
    # Each has the id of the text that its number got.
    taken = {f"+{message.to}": message.message_uuid for message in simulator.store.taken()}
    for number in ORDINARY:
        assert seen[number]["provider"]["message_uuid"] == taken[number]
    assert texts(simulator, numbers) == [1, 1, 1, 1, 0, 1, 1, 1]


def test_a_call_that_is_throttled_twice_goes_out_the_third_time(serve, simulator):
    numbers = [*ORDINARY, "+14155560005"]
    caller, _, ids = settle(serve, numbers, {"delivered": 4})
    assert texts(simulator, numbers) == [1, 1, 1, 1]
    assert {caller.message(each)["attempts"] for each in ids} == {3}


def test_a_call_that_meets_a_server_error_is_looked_for_and_then_sent_again(serve, simulator):
    numbers = [*ORDINARY, "+14155560006"]
    caller, _, ids = settle(serve, numbers, {"delivered": 4})
    assert texts(simulator, numbers) == [1, 1, 1, 1]
    types = [event["type"] for event in caller.events(ids[3])]
    # Once with the others, and alone, on a URL of its own, twice more.
    assert types.count("message.unknown") == 3


def test_a_call_whose_answer_is_lost_is_not_made_again(serve, simulator):
    numbers = [*ORDINARY, "+14155560007"]
    caller, batch, _ = settle(serve, numbers, {"delivered": 4})
    assert texts(simulator, numbers) == [1, 1, 1, 1]
    assert all(row.provider_uuid for row in rows_of(world_of(caller.app), batch).values())


def test_without_receipts_a_lost_answer_is_settled_by_the_list(serve, simulator):
    numbers = [f"+1415556{1100 + place}" for place in range(45)]
    simulator.faults.replace([Rule("reset_after", count=1), Rule("wrong_json", count=1)])
    settle(serve, numbers, {"delivered": 45}, joined=30)
    assert set(texts(simulator, numbers)) == {1}


def test_one_for_whom_there_is_no_credit_does_not_fail_the_others(serve, simulator):
    caller, dispatch = serve
    numbers = [*ORDINARY, "+14155560011"]
    batch, ids = queue_batch(caller, numbers)
    dispatch()
    eventually(lambda: statuses_of(world_of(caller.app), batch).get("delivered") == 3)
    # Alone it waits for the account like any other, until others are taken between two of its refusals.
    eventually(lambda: caller.send(to="+14155561199") and statuses_of(world_of(caller.app), batch).get("failed"))
    assert caller.message(ids[3])["error"]["code"] == "provider_account"
    assert texts(simulator, numbers) == [1, 1, 1, 0]


def test_where_all_are_invalid_each_is_refused_and_nobody_waits(serve, simulator):
    numbers = [f"+141555{place}0003" for place in range(61, 66)]
    caller, _, ids = settle(serve, numbers, {"failed": 5})
    assert {caller.message(each)["error"]["code"] for each in ids} == {"rejected_by_provider"}
    assert simulator.store.count() == 0


def test_many_at_once_reach_each_number_once(serve, simulator):
    count = sized(100, 250)
    numbers = [f"+1415{5560000 + 1000 + place}" for place in range(count)]
    caller, batch, _ = settle(serve, numbers, {"delivered": count}, joined=count // 5)
    assert set(texts(simulator, numbers)) == {1}
    assert sorted(len(rows) for rows in chunks_of(world_of(caller.app), batch).values()) == [count // 5] * 5

"""Claiming, on both stores: never the same row to two, longest due first, and back when the lease ends."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from smsapi.clock import ManualClock
from smsapi.messages.flows import Work, find_work
from smsapi.plivo.outcomes import Accepted, Outcome, Outgoing, Rejected, Unavailable, Unknown
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, attempts_of, claim, row_of, run_due, uuid_of, world_of
from tests.support.providers import Died, Scripted, taken

pytestmark = pytest.mark.both_stores

CLAIMER = """
import sys
from smsapi.app import build_deps
from smsapi.dispatch.claims import claim_to_send
from smsapi.messages.flows import find_work
from smsapi.settings import read_settings

world = build_deps(
    read_settings(
        {},
        database_url=sys.argv[1],
        plivo_auth_id="MATESTTESTTESTTEST00",
        plivo_auth_token="token",
        jwt_secret="-" * 32,
        plivo_requests_per_5s=0.0,
        plivo_url="http://127.0.0.1:9",
    )
)
def claim():
    now = world.clock.now()
    with world.database.transaction() as connection:
        for flow in find_work(connection, now).flows:
            return claim_to_send(world, connection, flow, now, limit=3).begun
    return []
with world.database.read() as connection:
    connection.exec_driver_sql("SELECT 1")
print("ready", flush=True)
sys.stdin.readline()
while begun := claim():
    for each in begun:
        print(each.message.id.hex, flush=True)
"""


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


def queued(app, count, caller=None):
    caller = caller or new_caller(app)
    return [caller.send(to=f"+1415555{2000 + n}", headers=ASYNC).get_json() for n in range(count)]


def test_four_threads_never_get_the_same_message(app):
    world = world_of(app)
    expected = {uuid_of(message) for message in queued(app, 40)}
    together = Barrier(4)

    def claim_all(_):
        together.wait()
        found = []
        while claims := claim(world, limit=3):
            found += [each.message.id for each in claims]
        return found

    with ThreadPoolExecutor(4) as threads:
        found = [each for part in threads.map(claim_all, range(4)) for each in part]
    assert len(found) == 40
    assert set(found) == expected


def test_two_processes_never_get_the_same_message(app, database_url):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    expected = sorted(uuid_of(message).hex for message in queued(app, 30))
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [line for process in processes for line in process.communicate(timeout=30)[0].split()]
    assert sorted(found) == expected


def test_a_batch_comes_longest_due_first_however_old_its_messages_are(make_app, clock):
    provider = Scripted(Unavailable("throttled", 429, retry_after_seconds=50), taken())
    app = make_app({"clock": clock, "provider": provider})
    world, caller = world_of(app), new_caller(app)
    (first,) = queued(app, 1, caller)
    assert run_due(world) == 1  # it has to wait for 50 seconds
    clock.advance(1)
    second, third = queued(app, 2, caller)
    clock.advance(60)
    (fourth,) = queued(app, 1, caller)
    order = [each.message.id for each in claim(world)]
    assert order == [uuid_of(each) for each in (second, third, first, fourth)]


def test_a_claim_takes_no_more_than_its_limit_and_nothing_that_is_not_due(make_app, clock):
    app = make_app({"clock": clock})
    world = world_of(app)
    queued(app, 5)
    assert len(claim(world, limit=2)) == 2
    assert len(claim(world, limit=2)) == 2
    assert len(claim(world, limit=2)) == 1
    assert claim(world, limit=2) == []
    with world.database.read() as connection:
        assert find_work(connection, clock.now()) == Work([], chores=False)


def test_what_a_dead_worker_had_begun_is_not_claimed_again_but_looked_into(make_app, clock, simulator):
    app = make_app({"clock": clock}, lease_seconds=30)
    world = world_of(app)
    (message,) = queued(app, 1)
    (first,) = claim(world)  # by somebody who dies here
    clock.advance(29)
    assert run_due(world) == 0
    clock.advance(2)
    assert claim(world) == []
    assert run_due(world) == 1
    assert row_of(world, message).status == "unknown"
    assert row_of(world, message).epoch > first.message.epoch
    clock.advance(61)
    assert run_due(world) == 1  # Plivo's list does not have it, so it is queued again
    assert run_due(world) == 1
    assert row_of(world, message).status == "sent"
    assert simulator.store.count() == 1


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Rejected("message", "no", 400), "failed"),
        (Rejected("account", "no", 403), "failed"),
        (Unavailable("throttled", 429), "queued"),
        (Unknown("no answer"), "unknown"),
        (taken(), "sent"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Outcome) else value,
)
def test_a_worker_that_lost_its_lease_in_the_call_still_says_what_it_learnt(make_app, clock, outcome, status):
    def lose(_: Outgoing) -> None:
        clock.advance(31)
        assert run_due(world) == 1

    app = make_app({"clock": clock, "provider": Scripted(outcome, before=lose)}, lease_seconds=30)
    world = world_of(app)
    caller = new_caller(app)
    message = caller.send(headers=ASYNC).get_json()
    assert run_due(world) == 1
    seen = caller.message(message["id"])
    assert seen["status"] == status
    assert (seen["error"] or {}).get("code") == {
        "unknown": "outcome_unknown",
        "failed": "rejected_by_provider" if outcome == Rejected("message", "no", 400) else "provider_account",
    }.get(status)
    told = ["message.queued", "message.unknown"]
    ends = {"sent": ["message.sent"], "failed": ["message.failed"]}
    assert [event["type"] for event in caller.events(message["id"])] == told + ends.get(status, [])
    if isinstance(outcome, Accepted):
        assert seen["provider"] == {"name": "plivo", "message_uuid": outcome.message_uuid, "error_code": None}


def test_a_message_whose_sender_died_within_the_attempt_is_unknown_until_plivos_list_is_asked(make_app, clock):
    def die(_: Outgoing) -> None:
        raise Died

    provider = Scripted(taken(), before=die)
    app = make_app({"clock": clock, "provider": provider}, lease_seconds=30)
    world = world_of(app)
    caller = new_caller(app)
    message = caller.send(headers=ASYNC).get_json()
    with pytest.raises(Died):
        run_due(world)
    assert caller.message(message["id"])["status"] == "sending"
    clock.advance(31)
    assert run_due(world) == 1
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"]["code"], seen["attempts"]) == ("unknown", "outcome_unknown", 1)
    assert seen["provider"]["name"] == "plivo"
    event = caller.events(message["id"])[-1]
    assert event["type"] == "message.unknown"
    assert event["data"]["reason"] == "the sender died within the attempt"
    (attempt,) = attempts_of(world, message)
    assert (attempt.number, attempt.outcome, attempt.finished_at) == (1, None, None)
    assert row_of(world, message).due_at == clock.now() + timedelta(seconds=60)
    assert run_due(world) == 0
    assert len(provider.asked) == 1

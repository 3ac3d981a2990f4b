"""What each outcome of a call makes of the message, seen by whoever sent it."""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import text

from smsapi.clock import ManualClock
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from tests.conftest import eventually, new_caller
from tests.support.dispatching import ASYNC, attempts_of, row_of, run_due, world_of
from tests.support.providers import Scripted, taken

THROTTLED = Unavailable("throttled", 429)


class Longest(Random):
    """Chance that always draws the upper bound."""

    def uniform(self, _low: float, high: float) -> float:
        return high


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def scripted(make_app, clock):
    """Make an app whose provider gives these outcomes, and a caller of it."""

    def make(*outcomes, before=lambda _: None, **settings):
        provider = Scripted(*outcomes, before=before)
        app = make_app({"clock": clock, "provider": provider, "random": Longest()}, **settings)
        return world_of(app), provider, new_caller(app)

    return make


def types_of(caller, message_id):
    return [event["type"] for event in caller.events(message_id)]


def test_a_message_that_plivo_refuses_is_422_and_stays_readable_as_failed(scripted):
    world, provider, caller = scripted(Rejected("message", "the destination is not valid", 400, "110"))
    refused = caller.send()
    assert (refused.status_code, refused.get_json()["code"]) == (422, "rejected_by_provider")
    assert refused.get_json()["detail"] == "the destination is not valid"
    message = caller.message(refused.get_json()["message_id"])
    assert (message["status"], message["error"]["code"]) == ("failed", "rejected_by_provider")
    assert message["provider"] == {"name": "plivo", "message_uuid": None, "error_code": "110"}
    assert types_of(caller, message["id"]) == ["message.queued", "message.failed"]
    assert run_due(world) == 0
    assert len(provider.asked) == 1


def test_a_refusal_of_our_account_is_502_and_none_of_plivos_words_get_out(scripted):
    _, _, caller = scripted(Rejected("account", "auth_id MA123 is suspended for fraud", 401))
    refused = caller.send()
    assert (refused.status_code, refused.get_json()["code"]) == (502, "provider_account")
    message_id = refused.get_json()["message_id"]
    everything = [refused.get_data(as_text=True), str(caller.message(message_id)), str(caller.events(message_id))]
    assert not any("MA123" in said or "fraud" in said for said in everything)
    assert caller.message(message_id)["status"] == "failed"


def test_an_unknown_outcome_is_202_and_is_not_sent_again_before_plivos_list_was_asked(scripted, clock):
    world, provider, caller = scripted(Unknown("server error", 500), taken())
    answer = caller.send()
    assert (answer.status_code, answer.get_json()["status"]) == (202, "unknown")
    assert answer.get_json()["error"]["code"] == "outcome_unknown"
    assert types_of(caller, answer.get_json()["id"]) == ["message.queued", "message.unknown"]
    clock.advance(59)
    assert run_due(world) == 0
    assert len(provider.asked) == 1


def test_a_caller_who_waits_long_enough_sees_the_retries_through(scripted, clock):
    started = clock.now()
    asked_at = []
    world, _, caller = scripted(
        Unavailable("throttled", 429, retry_after_seconds=7),
        THROTTLED,
        taken(),
        before=lambda _: asked_at.append((clock.now() - started).total_seconds()),
    )
    answer = caller.send()
    assert (answer.status_code, answer.get_json()["status"], answer.get_json()["attempts"]) == (201, "sent", 3)
    # 0.05 is the base of the jitter, and doubles; what Plivo asks for comes on top of it.
    assert asked_at == pytest.approx([0, 7.05, 7.15])
    assert [row.outcome for row in attempts_of(world, answer.get_json())] == ["unavailable", "unavailable", "accepted"]


def test_a_retry_after_beyond_the_callers_patience_is_202_and_is_kept_to(scripted, clock):
    world, provider, caller = scripted(Unavailable("throttled", 429, retry_after_seconds=60), taken())
    answer = caller.send(headers={"Prefer": "wait=2"})
    assert (answer.status_code, answer.get_json()["status"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=2"
    clock.advance(59.9)
    assert run_due(world) == 0
    clock.advance(0.2)
    assert run_due(world) == 1
    assert caller.message(answer.get_json()["id"])["status"] == "sent"
    assert len(provider.asked) == 2


def test_each_stay_in_the_queue_is_longer_than_the_one_before_up_to_the_cap(scripted, clock):
    world, _, caller = scripted(THROTTLED, retry_base_seconds=1.0, retry_cap_seconds=5.0)
    message = caller.send(headers=ASYNC).get_json()
    waits = []
    for _ in range(5):
        assert run_due(world) == 1
        waits.append((row_of(world, message).due_at - clock.now()).total_seconds())
        clock.advance(waits[-1])
    assert waits == pytest.approx([1, 2, 4, 5, 5])
    assert caller.message(message["id"])["attempts"] == 5


def test_a_message_that_expires_in_the_queue_is_expired_and_not_sent(scripted, clock):
    world, provider, caller = scripted(THROTTLED, retry_base_seconds=20.0)
    message = caller.send(headers=ASYNC, expires_in=30).get_json()
    assert run_due(world) == 1
    clock.advance(20)
    assert run_due(world) == 1
    # It would be due again after its end: it is looked at when it ends.
    assert row_of(world, message).due_at == row_of(world, message).expires_at
    clock.advance(10)
    run_due(world)
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"]["code"]) == ("expired", "expired")
    assert types_of(caller, message["id"]) == ["message.queued", "message.expired"]
    assert [sent.expires_in_seconds for sent in provider.asked] == [30, 10]
    assert run_due(world) == 0


def test_a_message_is_given_up_at_the_end_of_the_horizon(scripted, clock):
    world, provider, caller = scripted(
        THROTTLED, retry_base_seconds=40.0, retry_cap_seconds=80.0, retry_horizon_seconds=100.0
    )
    message = caller.send(headers=ASYNC).get_json()
    assert run_due(world) == 1
    clock.advance(40)
    assert run_due(world) == 1
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"]["code"]) == ("failed", "provider_unavailable")
    assert types_of(caller, message["id"]) == ["message.queued", "message.failed"]
    assert len(provider.asked) == 2
    clock.advance(3600)
    assert run_due(world) == 0


def test_what_waited_long_for_its_turn_is_not_given_up_at_its_first_refusal(scripted, clock):
    world, _, caller = scripted(THROTTLED, taken(), retry_horizon_seconds=100.0)
    message = caller.send(headers=ASYNC).get_json()
    clock.advance(3600)  # behind a campaign, or a pause
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "queued"
    clock.advance(10)
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "sent"


def test_each_attempt_is_written_down_before_its_call(scripted):
    seen = []

    def look(outgoing):
        rows = attempts_of(world, {"id": outgoing.message_id})
        seen.append((outgoing.attempt, [row.number for row in rows], rows[-1].outcome, rows[-1].finished_at))

    world, _, caller = scripted(THROTTLED, THROTTLED, taken(), before=look)
    message = caller.send().get_json()
    assert seen == [(1, [1], None, None), (2, [1, 2], None, None), (3, [1, 2, 3], None, None)]
    rows = attempts_of(world, message)
    assert all(row.finished_at is not None for row in rows)
    assert [row.provider_status for row in rows] == [429, 429, None]


def test_no_transaction_is_open_while_plivo_is_asked(scripted, database_url):
    looked = []

    def look(_):
        if database_url.startswith("sqlite"):
            path = database_url.removeprefix("sqlite:///")
            with sqlite3.connect(path, timeout=0) as other:
                other.execute("BEGIN IMMEDIATE")
                looked.append(other.execute("UPDATE messages SET reference = 'written within the call'").rowcount)
            other.close()
            return
        with world.database.read() as connection:
            query = text(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'smsapi' AND xact_start IS NOT NULL "
                "AND pid <> pg_backend_pid()"
            )
            looked.append(1 + connection.execute(query).scalar_one())

    world, _, caller = scripted(taken(), taken(), before=look)
    assert caller.send().status_code == 201
    message = caller.send(headers=ASYNC).get_json()
    run_due(world)
    assert caller.message(message["id"])["status"] == "sent"
    assert looked == ([1, 2] if database_url.startswith("sqlite") else [1, 1])


def test_a_call_that_outlasts_its_caller_is_202_and_goes_on(make_app):
    answering = threading.Event()
    provider = Scripted(taken(), before=lambda _: answering.wait(20))
    app = make_app({"provider": provider})
    caller = new_caller(app)
    try:
        answer = caller.send(headers={"Prefer": "wait=0"})
        assert answer.status_code == 202
        assert answer.get_json()["status"] in {"queued", "sending"}
    finally:
        answering.set()
    eventually(lambda: caller.message(answer.get_json()["id"])["status"] == "sent")
    assert len(provider.asked) == 1


def test_the_lease_is_longer_than_what_is_left_of_the_wait_so_nobody_else_sends_it_meanwhile(scripted, clock):
    world, provider, caller = scripted(taken(), before=lambda _: clock.advance(20), lease_seconds=60.0)
    message = caller.send(headers=ASYNC).get_json()
    held = []
    provider._before = lambda _: held.append(row_of(world, message).due_at - clock.now())
    run_due(world)
    assert held == [timedelta(seconds=60)]

"""The end of a message after any history of attempts: never as if unsent, where one of them may have been taken."""

from collections import Counter
from itertools import product

import pytest

from smsapi.dispatch.chores import run_chore
from smsapi.dispatch.claims import Chore, claim_chores
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from smsapi.privacy.service import erase_number
from tests.support.batching import call_off, numbers, queue_batch, rows_of
from tests.support.dispatching import ASYNC, attempts_of, row_of, run_due
from tests.support.providers import Died, taken

DOUBT, DOWN, DEATH = "no-answer", "unreachable", "death"
OUTCOMES = {DOUBT: Unknown("no answer"), DOWN: Unavailable("throttled", 429)}
HISTORIES = [each for length in (1, 2) for each in product((DOUBT, DOWN, DEATH), repeat=length)]
NOTHING_SENT = {
    "horizon": ("failed", "provider_unavailable"),
    "expiry": ("expired", "expired"),
    "canceled": ("canceled", "canceled"),
    "batch-canceled": ("canceled", "canceled"),
    "opted-out": ("failed", "recipient_opted_out"),
    "refused": ("failed", "rejected_by_provider"),
    "account": ("failed", "provider_account"),
}
LEASE = 30


def live_through(world, clock, provider, history):
    """Let one attempt after the other come to this; what was attempted then waits for the next one."""
    for each in history:
        clock.advance(LEASE + 1)
        provider._outcomes = [OUTCOMES.get(each)]
        provider._before = die if each == DEATH else (lambda _: None)
        if each == DEATH:
            with pytest.raises(Died):
                run_due(world)
            clock.advance(LEASE + 1)
            run_chores(world)
        else:
            run_due(world)
    provider._before = lambda _: None
    provider._outcomes = [taken()]


def die(_):
    raise Died


def run_chores(world):
    """Have what a dead sender left behind looked at, and begin nothing."""
    from_now = world.clock.now()
    with world.database.transaction() as connection:
        found = claim_chores(connection, from_now, Chore.OTHER, lease_seconds=LEASE, limit=100)
    for each in found:
        run_chore(world, each)


def end(ending, world, caller, message, batch):
    clock, provider = world.clock, world.provider
    clock.advance(LEASE + 1)
    match ending:
        case "horizon":
            clock.advance(3600)
            provider._outcomes = [OUTCOMES[DOWN]]
        case "expiry":
            clock.advance(10_800)
        case "canceled":
            answer = caller.post(f"/v1/messages/{message['id']}/cancel")
            assert answer.status_code == 200
            assert answer.get_json()["status"] == caller.message(message["id"])["status"]
        case "batch-canceled":
            call_off(world, batch)
        case "opted-out":
            assert caller.request("PUT", f"/v1/opt-outs/{message['to']}").status_code == 200
        case "refused":
            provider._outcomes = [Rejected("message", "no", 400)]
        case "account":
            provider._outcomes = [Rejected("account", "not enabled", 403)]
    run_due(world)


@pytest.mark.parametrize("ending", NOTHING_SENT)
def test_a_message_that_may_have_been_taken_never_ends_as_if_it_had_not(scripted, clock, ending):
    world, caller, provider = scripted(breaker_failures=1000, retry_cap_seconds=1.0, retry_horizon_seconds=1000)
    for history in HISTORIES:
        batch = None
        if ending == "batch-canceled":
            batch, (only,) = queue_batch(caller, numbers(1), joined=None, on_unknown="resend")
            message = caller.message(only)
        else:
            lasts = {"expires_in": 3600} if ending == "expiry" else {}
            message = caller.send("+14155551234", headers=ASYNC, on_unknown="resend", **lasts).get_json()
        live_through(world, clock, provider, history)
        before = len(provider.asked)
        assert row_of(world, message).status == "queued", history
        end(ending, world, caller, message, batch)
        check_end(world, caller, message, history, ending)
        calls = 1 if ending in {"horizon", "refused", "account"} else 0
        assert len(provider.asked) == before + calls, history
        # However long it is left alone, nobody sends it.
        clock.advance(100_000)
        provider._outcomes = [taken()]
        run_due(world)
        assert len(provider.asked) == before + calls, history
        if ending == "opted-out":
            assert caller.request("DELETE", f"/v1/opt-outs/{message['to']}").status_code == 204


def check_end(world, caller, message, history, ending):
    seen, last, row = caller.message(message["id"]), caller.events(message["id"])[-1], row_of(world, message)
    status, code = NOTHING_SENT[ending]
    if DOUBT not in history and DEATH not in history:
        assert seen["status"] == status, history
        return
    assert (seen["status"], seen["error"]["code"], row.due_at) == ("unknown", "outcome_unknown", None), history
    assert "may have reached Plivo" in seen["error"]["message"]
    assert "nothing was sent" not in str(seen) + str(last)
    assert last["type"] == "message.unknown"
    assert last["data"]["decision"] == "hold"
    assert last["data"]["instead_of"] == {"status": status, "code": code}


@pytest.mark.parametrize("ending", ["horizon", "canceled", "batch-canceled", "refused"])
def test_those_of_a_joined_call_that_may_have_been_taken_are_held_and_the_others_end(scripted, clock, ending):
    world, caller, provider = scripted(breaker_failures=1000, retry_cap_seconds=1.0, retry_horizon_seconds=1000)
    batch, ids = queue_batch(caller, numbers(40), joined=40, on_unknown="resend")
    live_through(world, clock, provider, [DOUBT])
    later, fresh = queue_batch(caller, numbers(40, first=2000), joined=40, on_unknown="resend")
    live_through(world, clock, provider, [DOWN])
    clock.advance(LEASE + 1)
    if ending == "canceled":
        for each in (*ids, *fresh):
            assert caller.post(f"/v1/messages/{each}/cancel").status_code == 200
    elif ending == "batch-canceled":
        for each in (batch, later):
            assert caller.post(f"/v1/batches/{each}/cancel").status_code == 200
    elif ending == "horizon":
        clock.advance(3600)
        provider._outcomes = [OUTCOMES[DOWN]]
    else:
        provider._outcomes = [Rejected("message", "no", 400)]
    for _ in range(60):
        run_due(world)
    status = NOTHING_SENT[ending][0]
    assert Counter(row.status for row in rows_of(world, batch).values()) == {"unknown": 40}
    assert {row.due_at for row in rows_of(world, batch).values()} == {None}
    assert Counter(row.status for row in rows_of(world, later).values()) == {status: 40}
    for each in (ids[0], ids[-1]):
        assert caller.events(each)[-1]["data"]["instead_of"]["status"] == status


def test_what_the_list_shows_not_to_have_been_taken_may_end_so(scripted, clock):
    world, caller, _ = scripted(Unknown("no answer"), Unavailable("throttled", 429))
    message = caller.send(headers=ASYNC, expires_in=3600).get_json()
    run_due(world)
    clock.advance(61)
    run_due(world)  # not in the list
    assert row_of(world, message).status == "queued"
    assert [row.ruled_out_at is not None for row in attempts_of(world, message)] == [True]
    assert caller.post(f"/v1/messages/{message['id']}/cancel").get_json()["status"] == "canceled"


def test_a_person_who_says_that_it_was_not_taken_is_believed(scripted, clock):
    world, caller, _ = scripted(Unknown("no answer"))
    message = caller.send(headers=ASYNC, on_unknown="resend").get_json()
    run_due(world)
    clock.advance(5)
    assert caller.post(f"/v1/messages/{message['id']}/cancel").get_json()["status"] == "unknown"
    failed = caller.post(f"/v1/messages/{message['id']}/resolve", {"outcome": "failed"}).get_json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "resolved_failed")


@pytest.mark.parametrize("late", [Unavailable("throttled", 429), Rejected("message", "no", 400), Unknown("no answer")])
def test_a_late_answer_does_not_bring_back_what_was_called_off_meanwhile(scripted, clock, late):
    def call_it_off(_):
        clock.advance(LEASE + 1)
        run_chores(world)
        answer = caller.post(f"/v1/messages/{message['id']}/cancel")
        assert answer.get_json()["status"] == "unknown"

    world, caller, provider = scripted(late, taken(), before=call_it_off)
    message = caller.send(headers=ASYNC, on_unknown="resend").get_json()
    run_due(world)
    provider._before = lambda _: None
    clock.advance(100_000)
    run_due(world)
    assert len(provider.asked) == 1
    assert caller.message(message["id"])["status"] == "unknown"


def test_a_late_answer_that_it_was_taken_is_a_fact_all_the_same(scripted, clock):
    def call_it_off(_):
        clock.advance(LEASE + 1)
        run_chores(world)
        caller.post(f"/v1/messages/{message['id']}/cancel")

    world, caller, _ = scripted(taken(), before=call_it_off)
    message = caller.send(headers=ASYNC, on_unknown="resend").get_json()
    run_due(world)
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"]) == ("sent", None)


def test_a_number_that_is_held_is_not_forgotten_before_it_is_settled(scripted, clock):
    world, caller, _ = scripted(Unknown("no answer"))
    message = caller.send(headers=ASYNC, on_unknown="resend").get_json()
    run_due(world)
    erased = erase_number(world, message["to"])
    assert (erased.canceled, erased.left) == (0, 1)
    assert row_of(world, message).to_number == message["to"]
    assert row_of(world, message).status == "unknown"

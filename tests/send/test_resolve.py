"""Settling by hand what became of a message whose outcome nobody knows."""

from datetime import UTC, datetime, timedelta

import pytest

from smsapi.bell import Bell
from smsapi.clock import ManualClock, rfc3339
from smsapi.dispatch.claims import Chore, claim_chores
from smsapi.messages.store import hold_message
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from smsapi.send.after import resolve
from tests.conftest import AUTH_TOKEN
from tests.support.auth import at_once
from tests.support.dispatching import attempts_of, row_of, run_due, uuid_of, world_of
from tests.support.far_side import count_rows
from tests.support.limits import policies
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken

HOUR = 3600
DOUBT = Unknown("no answer in time")
OUTCOMES = ("sent", "resend", "failed")


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def rings():
    return []


@pytest.fixture
def calling(make_app, make_caller, clock, rings):
    """Make a caller of an app whose provider gives these outcomes."""
    bell = Bell()
    bell.answer_with(lambda: rings.append(clock.now()))

    def make(*outcomes, before=lambda _: None, mode="live", **settings):
        provider = Scripted(*outcomes, before=before)
        app = make_app({"clock": clock, "provider": provider, "bell": bell}, public_url=PUBLIC_URL, **settings)
        return make_caller(app, mode=mode), provider

    return make


@pytest.fixture
def doubtful(calling):
    """A caller, and its message of which nobody knows whether Plivo took it; after it, Plivo takes all."""
    caller, provider = calling(DOUBT, taken())
    message = caller.send(on_unknown="hold").get_json()
    assert message["status"] == "unknown"
    return caller, message, provider


def settle(caller, message, outcome, **headers):
    return caller.post(f"/v1/messages/{message['id']}/resolve", {"outcome": outcome}, **headers)


def types_of(caller, message):
    return [event["type"] for event in caller.events(message["id"])]


def assert_known(answer, status):
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (409, "not_unknown"), answer.text
    assert problem["detail"] == f"The message is {status}; only an unknown one can be resolved."


def test_what_was_sent_after_all_is_sent_since_its_last_attempt_began(calling, clock):
    caller, provider = calling(Unavailable("throttled", 429), DOUBT, before=lambda _: clock.advance(3))
    message = caller.send(on_unknown="hold").get_json()
    world = world_of(caller.app)
    started_at = attempts_of(world, message)[-1].started_at
    clock.advance(HOUR)
    settled = settle(caller, message, "sent")
    assert settled.status_code == 200
    shown = settled.get_json()
    assert (shown["status"], shown["error"], shown["attempts"]) == ("sent", None, 2)
    assert shown["sent_at"] == rfc3339(started_at) < rfc3339(clock.now()) == shown["updated_at"]
    assert shown.items() <= caller.message(message["id"]).items()
    assert types_of(caller, message) == ["message.queued", "message.unknown", "message.sent"]
    by_caller = {"decision": "sent", "by": "caller", "key_id": caller.key_id}
    assert caller.events(message["id"])[-1]["data"] == by_caller
    # A report is waited for, and then asked for.
    assert row_of(world, message).due_at > clock.now() + timedelta(seconds=HOUR)
    clock.advance(HOUR)
    assert run_due(world) == 0
    assert len(provider.asked) == 2


def test_what_is_to_be_sent_again_is_due_now_and_a_dispatcher_is_rung_for(doubtful, clock, rings):
    caller, message, provider = doubtful
    world = world_of(caller.app)
    del rings[:]
    settled = settle(caller, message, "resend")
    assert (settled.status_code, settled.get_json()["status"]) == (200, "queued")
    assert (settled.get_json()["error"], rings) == (None, [clock.now()])
    assert run_due(world) == 1
    shown = caller.message(message["id"])
    assert (shown["status"], shown["attempts"]) == ("sent", 2)
    assert [row.outcome for row in attempts_of(world, message)] == ["unknown", "accepted"]
    events = caller.events(message["id"])
    assert [event["type"] for event in events[1:]] == ["message.unknown", "message.queued", "message.sent"]
    assert events[2]["data"] == {"decision": "resend", "by": "caller", "key_id": caller.key_id}
    assert len(provider.asked) == 2


def test_a_person_may_have_it_sent_again_long_after_it_would_have_been_given_up(doubtful, clock):
    caller, message, _ = doubtful
    world = world_of(caller.app)
    # Over a night, while the horizon of what retries by itself is four hours.
    clock.advance(16 * HOUR)
    assert run_due(world) == 0
    assert settle(caller, message, "resend").get_json()["status"] == "queued"
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "sent"


def test_what_was_not_sent_and_is_not_to_be_is_failed(doubtful, clock):
    caller, message, provider = doubtful
    world = world_of(caller.app)
    shown = settle(caller, message, "failed").get_json()
    assert (shown["status"], shown["error"]["code"], shown["sent_at"]) == ("failed", "resolved_failed", None)
    event = caller.events(message["id"])[-1]
    assert event["type"] == "message.failed"
    assert event["data"] == {
        "error": shown["error"],
        "decision": "failed",
        "by": "caller",
        "key_id": caller.key_id,
    }
    clock.advance(24 * HOUR)
    assert run_due(world) == 0
    assert len(provider.asked) == 1


@pytest.mark.parametrize(("outcome", "then"), [("sent", "delivered"), ("failed", "failed")])
def test_a_report_that_comes_after_the_decision_moves_it_forward_or_not_at_all(doubtful, outcome, then):
    caller, message, _ = doubtful
    settle(caller, message, outcome)
    fields = {"Status": "delivered", "MessageUUID": "0f5c4f4e-0000-4000-8000-000000000000"}
    assert report(caller.app, message["id"], fields, token=AUTH_TOKEN).status_code == 200
    assert caller.message(message["id"])["status"] == then


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_is_known_cannot_be_resolved_and_nothing_is_resolved_twice(doubtful, clock, outcome):
    caller, message, provider = doubtful
    sent = caller.send(to="+14155550124").get_json()
    later = (clock.now() + timedelta(hours=1)).isoformat()
    scheduled = caller.send(send_at=later).get_json()
    for known, status in ((sent, "sent"), (scheduled, "scheduled")):
        assert_known(settle(caller, known, outcome), status)
        assert known.items() <= caller.message(known["id"]).items()
    decided = settle(caller, message, outcome).get_json()
    assert_known(settle(caller, message, "failed"), decided["status"])
    assert decided.items() <= caller.message(message["id"]).items()
    assert len(provider.asked) == 2


def test_of_two_who_decide_at_once_one_does(calling):
    caller, provider = calling(DOUBT)
    for number in range(5):
        message = caller.send(to=f"+1415555{2000 + number}", on_unknown="hold").get_json()
        answers = at_once(lambda n, m=message: settle(caller, m, ("resend", "sent")[n]), 2)
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert len(caller.events(message["id"])) == 3
    assert len(provider.asked) == 5


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_whoever_looks_for_it_meanwhile_finds_that_it_was_decided(calling, clock, outcome):
    caller, _ = calling(DOUBT)
    message = caller.send(on_unknown="reconcile").get_json()
    world = world_of(caller.app)
    clock.advance(world.settings.reconcile_after_seconds)
    with world.database.transaction() as connection:
        (looking,) = claim_chores(connection, clock.now(), Chore.DOUBT, lease_seconds=60, limit=9)
    assert looking.message_id == uuid_of(message)
    assert settle(caller, message, outcome).status_code == 200
    assert row_of(world, message).epoch > looking.epoch


def test_a_repeated_request_gets_the_first_answer_and_sends_no_second_time(doubtful):
    caller, message, provider = doubtful
    first, second = (settle(caller, message, "resend", Idempotency_Key="one") for _ in range(2))
    assert run_due(world_of(caller.app)) == 1
    third = settle(caller, message, "resend", Idempotency_Key="one")
    assert "Idempotent-Replayed" not in first.headers
    for again in (second, third):
        assert (again.status_code, again.data) == (200, first.data)
        assert again.headers["Idempotent-Replayed"] == "true"
    reused = settle(caller, message, "sent", Idempotency_Key="one")
    assert (reused.status_code, reused.get_json()["code"]) == (422, "idempotency_key_reused")
    assert len(provider.asked) == 2


def test_an_outcome_that_is_none_is_refused_and_decides_nothing(doubtful):
    caller, message, _ = doubtful
    path = f"/v1/messages/{message['id']}/resolve"
    for body, pointers in (
        ({}, ["/outcome"]),
        ({"outcome": "delivered"}, ["/outcome"]),
        ({"outcome": None}, ["/outcome"]),
        ({"outcome": "sent", "note": "x"}, ["/note"]),
    ):
        refused = caller.post(path, body)
        assert refused.status_code == 422
        assert [error["pointer"] for error in refused.get_json()["errors"]] == pointers
    assert caller.post(path).status_code == 415
    assert message.items() <= caller.message(message["id"]).items()


def test_only_the_client_that_sent_it_decides_and_only_with_the_scope(doubtful, make_caller):
    caller, message, _ = doubtful
    other = make_caller(caller.app, name="other")
    order = {"name": "k", "mode": "test", "scopes": ["messages:send"]}
    rehearsal = caller.post("/v1/api-keys", order).get_json()["key"]
    reader = caller.post("/v1/api-keys", {**order, "mode": "live", "scopes": ["messages:read"]}).get_json()["key"]
    for who, what, headers, status in (
        (other, message, {}, 404),
        (caller, message, {"X_API_Key": rehearsal}, 404),
        (caller, {"id": f"msg_{0:032}"}, {}, 404),
        (caller, message, {"X_API_Key": reader}, 403),
    ):
        assert settle(who, what, "sent", Idempotency_Key="one", **headers).status_code == status
    assert message.items() <= caller.message(message["id"]).items()
    assert count_rows(world_of(caller.app).database, "idempotency_keys") == 0
    decided = settle(caller, message, "sent", Idempotency_Key="one")
    assert (decided.status_code, set(policies(decided))) == (200, {"api"})


def test_a_test_key_rehearses_it_and_what_was_sent_gets_its_reports(calling, clock):
    caller, provider = calling(Rejected("message", "never asked", 400), mode="test")
    world = world_of(caller.app)
    # Its first two attempts are answered with 500, and reports would come after that.
    message = caller.send(to="+14155550006").get_json()
    assert message["status"] == "unknown"
    assert settle(caller, message, "sent").get_json()["status"] == "sent"
    clock.advance(2)
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "delivered"
    assert row_of(world, message).due_at is None
    assert provider.asked == []


def test_an_operator_decides_by_the_same_function_under_a_name_of_its_own(doubtful):
    caller, message, _ = doubtful
    world = world_of(caller.app)
    with world.database.transaction() as connection:
        resolve(world, connection, hold_message(connection, uuid_of(message)), "failed", by={"by": "operator"})
    event = caller.events(message["id"])[-1]
    assert (event["data"]["decision"], event["data"]["by"]) == ("failed", "operator")
    assert caller.message(message["id"])["status"] == "failed"

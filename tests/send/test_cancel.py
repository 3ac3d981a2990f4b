"""Calling a message off: before it leaves it is never sent, and after that it is too late; never both."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock
from smsapi.pacing.gates import CIRCUIT, close_gate
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from smsapi.send.deliver import run
from tests.support.auth import at_once
from tests.support.dispatching import ASYNC, claim, counts_by_status, multiply, row_of, run_due, world_of
from tests.support.far_side import FailingDatabase, count_rows
from tests.support.limits import policies
from tests.support.providers import Scripted, taken

HOUR = 3600
PLENTY = dict.fromkeys(("limit_send", "limit_key", "limit_number", "limit_api"), "99999 per minute")


class EventfulClock(ManualClock):
    """A clock that lets something happen whenever somebody would sleep."""

    def __init__(self):
        super().__init__(datetime.now(UTC))
        self.happen = lambda: None

    def sleep(self, seconds):
        self.happen()
        super().sleep(seconds)


@pytest.fixture
def clock():
    return EventfulClock()


@pytest.fixture
def calling(make_app, make_caller, clock):
    """Make a caller of an app whose provider gives these outcomes."""

    def make(*outcomes, before=lambda _: None, mode="live", **replacements):
        provider = Scripted(*(outcomes or [taken()]), before=before)
        app = make_app({"clock": clock, "provider": provider, **replacements}, **PLENTY)
        return make_caller(app, mode=mode), provider

    return make


def cancel(caller, message, **headers):
    return caller.post(f"/v1/messages/{message['id']}/cancel", **headers)


def types_of(caller, message):
    return [event["type"] for event in caller.events(message["id"])]


def later(clock, seconds=HOUR):
    return (clock.now() + timedelta(seconds=seconds)).isoformat()


def assert_too_late(answer, status):
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (409, "too_late"), answer.text
    assert problem["detail"] == f"The message is {status}; only a scheduled or queued one can be canceled."


@pytest.mark.parametrize("first", ["scheduled", "queued"])
def test_what_waits_is_called_off_for_good_however_often_it_is_asked(calling, clock, first):
    caller, provider = calling()
    world = world_of(caller.app)
    message = caller.send(headers=ASYNC, send_at=later(clock) if first == "scheduled" else None).get_json()
    assert message["status"] == first
    clock.advance(1)
    canceled = cancel(caller, message)
    assert canceled.status_code == 200
    shown = canceled.get_json()
    assert shown == {**message, "status": "canceled", "updated_at": shown["updated_at"]}
    assert shown["updated_at"] > message["updated_at"]
    assert cancel(caller, message).get_json() == shown
    assert shown.items() <= caller.message(message["id"]).items()
    assert types_of(caller, message) == [f"message.{first}", "message.canceled"]
    assert caller.events(message["id"])[-1]["data"] == {"by": "caller", "key_id": caller.key_id}
    row = row_of(world, message)
    assert (row.due_at, row.epoch) == (None, 1)
    clock.advance(2 * HOUR)
    assert run_due(world) == 0
    assert provider.asked == []
    metrics = caller.get("/metrics").get_data(as_text=True)
    assert 'smsapi_messages_total{mode="live",status="canceled"} 1.0' in metrics


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(taken(), "sent"), (Rejected("message", "no", 400), "failed"), (Unknown("no answer"), "unknown")],
    ids=["sent", "failed", "unknown"],
)
def test_what_has_left_or_may_have_left_cannot_be_called_off(calling, outcome, status):
    seen = []
    caller, _ = calling(outcome, before=lambda asked: seen.append(cancel(caller, {"id": asked.message_id})))
    message = caller.send(headers=ASYNC).get_json()
    assert run_due(world_of(caller.app)) == 1
    (on_its_way,) = seen
    assert_too_late(on_its_way, "sending")
    before = caller.message(message["id"])
    assert before["status"] == status
    assert_too_late(cancel(caller, message), status)
    assert caller.message(message["id"]) == before
    assert "message.canceled" not in types_of(caller, message)


def test_a_message_that_waits_for_its_next_attempt_is_called_off(calling, clock):
    caller, provider = calling(Unavailable("throttled", 429, retry_after_seconds=60), taken())
    message = caller.send(headers=ASYNC).get_json()
    world = world_of(caller.app)
    assert run_due(world) == 1
    assert cancel(caller, message).get_json()["attempts"] == 1
    clock.advance(HOUR)
    assert run_due(world) == 0
    assert len(provider.asked) == 1


def in_another_thread(act):
    thread = threading.Thread(target=act)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("waits_for", ["a retry", "a gate"])
def test_a_caller_who_waits_for_it_is_told_that_it_was_called_off(calling, clock, waits_for):
    caller, provider = calling(Unavailable("throttled", 429, retry_after_seconds=3), taken())
    world = world_of(caller.app)
    canceled = []

    def call_off():
        if not canceled:
            (waiting,) = caller.get("/v1/messages?status=queued").get_json()["data"]
            canceled.append(cancel(caller, waiting))

    clock.happen = lambda: in_another_thread(call_off)
    if waits_for == "a gate":
        with world.database.transaction() as connection:
            opens_at = clock.now() + timedelta(seconds=3)
            close_gate(world.database, connection, CIRCUIT, {"open": True}, opens_at=opens_at)
    answer = caller.send(headers={"Prefer": "wait=20", "Idempotency-Key": "one"})
    assert [each.status_code for each in canceled] == [200]
    assert (answer.status_code, answer.get_json()["status"]) == (202, "canceled")
    again = caller.send(headers={"Idempotency-Key": "one"})
    assert (again.data, again.headers["Idempotent-Replayed"]) == (answer.data, "true")
    clock.advance(HOUR)
    assert run_due(world) == 0
    assert len(provider.asked) == (1 if waits_for == "a retry" else 0)


def test_only_the_client_that_sent_it_calls_it_off_and_only_with_the_scope(calling, make_caller, clock):
    caller, _ = calling()
    message = caller.send(send_at=later(clock)).get_json()
    other = make_caller(caller.app, name="other")
    reader = caller.post("/v1/api-keys", {"name": "r", "mode": "live", "scopes": ["messages:read"]}).get_json()["key"]
    unknown = {"id": f"msg_{0:032}"}
    for who, what in ((other, message), (caller, unknown), (caller, {"id": "x"}), (caller, {"id": caller.key_id})):
        assert cancel(who, what, Idempotency_Key="one").status_code == 404
    assert cancel(caller, message, X_API_Key=reader).status_code == 403
    assert caller.message(message["id"])["status"] == "scheduled"
    assert count_rows(world_of(caller.app).database, "idempotency_keys") == 0


def test_a_test_key_calls_off_test_messages_only_and_takes_no_answer_from_the_live_keys(calling, clock):
    caller, _ = calling()
    order = {"name": "t", "mode": "test", "scopes": ["messages:send", "messages:read"]}
    rehearsal = {"X_API_Key": caller.post("/v1/api-keys", order).get_json()["key"]}
    live = caller.send(send_at=later(clock)).get_json()
    test = caller.send(send_at=later(clock), headers=rehearsal).get_json()
    assert (live["test"], test["test"]) == (False, True)
    assert cancel(caller, live, Idempotency_Key="one", **rehearsal).status_code == 404
    assert cancel(caller, test, Idempotency_Key="one", **rehearsal).status_code == 200
    assert cancel(caller, live, Idempotency_Key="one").get_json()["status"] == "canceled"


def test_a_repeated_request_gets_the_first_answer_whatever_it_was(calling, clock):
    caller, _ = calling()
    scheduled, sent = caller.send(send_at=later(clock)).get_json(), caller.send().get_json()
    for message, status in ((scheduled, 200), (sent, 409)):
        first, second = (cancel(caller, message, Idempotency_Key="one") for _ in range(2))
        assert (first.status_code, "Idempotent-Replayed" in first.headers) == (status, False)
        assert (second.status_code, second.data) == (status, first.data)
        assert second.headers["Idempotent-Replayed"] == "true"
    reused = caller.post(f"/v1/messages/{sent['id']}/cancel", {}, Idempotency_Key="one")
    assert (reused.status_code, reused.get_json()["code"]) == (422, "idempotency_key_reused")


def test_it_takes_no_body_but_an_empty_object_and_costs_a_request(calling, clock):
    caller, _ = calling()
    message = caller.send(send_at=later(clock)).get_json()
    path = f"/v1/messages/{message['id']}/cancel"
    for body, pointer in (({"reason": "x"}, "/reason"), ([], "")):
        refused = caller.post(path, body)
        assert refused.status_code == 422
        assert [error["pointer"] for error in refused.get_json()["errors"]] == [pointer]
    assert caller.post(f"{path}?force=true").status_code == 422
    canceled = caller.post(path, {})
    assert canceled.status_code == 200
    assert set(policies(canceled)) == {"api"}


def test_a_store_that_is_lost_while_it_is_called_off_leaves_it_as_it_was(calling, clock, database_url):
    database = FailingDatabase(database_url)
    caller, provider = calling(database=database)
    message = caller.send(send_at=later(clock)).get_json()
    database.fail(1)
    lost = cancel(caller, message, Idempotency_Key="one")
    assert (lost.status_code, lost.get_json()["code"]) == (503, "store_unavailable")
    assert message.items() <= caller.message(message["id"]).items()
    assert cancel(caller, message, Idempotency_Key="one").status_code == 200
    clock.advance(2 * HOUR)
    assert run_due(world_of(caller.app)) == 0
    assert provider.asked == []


def test_of_calling_off_and_sending_at_once_one_wins_for_each_message(calling):
    caller, provider = calling()
    world = world_of(caller.app)
    multiply(world, caller.send(headers=ASYNC).get_json(), 119)
    page = caller.get("/v1/messages?limit=100").get_json()
    rest = caller.get(f"/v1/messages?limit=100&cursor={page['next_cursor']}").get_json()
    # Newest first, while the oldest is sent first: they meet in the middle.
    newest_first = page["data"] + rest["data"]
    assert len(newest_first) == 120
    answers = {}

    def call_off(number):
        for message in newest_first[number::2]:
            answers[message["id"]] = cancel(caller, message)

    def send_two():
        begun = claim(world, limit=2)
        for each in begun:
            run(world, each, wait_until=world.clock.now())
        return begun

    def send(_):
        while send_two():
            pass

    # Whoever is quicker, there is something of both.
    send_two()
    assert cancel(caller, newest_first[0]).status_code == 200
    at_once(lambda number: (call_off if number < 2 else send)(number), 4)
    run_due(world)
    canceled = {message_id for message_id, answer in answers.items() if answer.status_code == 200}
    assert {answer.status_code for answer in answers.values()} == {200, 409}
    sent = [message.message_id for message in provider.asked]
    assert len(sent) == len(set(sent))
    assert canceled.isdisjoint(sent)
    assert len(canceled) + len(sent) == 120
    assert counts_by_status(world) == {"canceled": len(canceled), "sent": len(sent)}

"""Messages for later: taken at once, sent at their time and not before, whatever becomes of the app and the clock."""

from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest

from smsapi.clock import ManualClock, rfc3339
from tests.conftest import eventually
from tests.support.dispatching import row_of, run_due, world_of
from tests.support.far_side import ScriptedProvider, count_rows

HOUR = 3600
PLENTY = {"limit_send": "9999 per minute", "limit_key": "9999 per minute"}


class NotingProvider(ScriptedProvider):
    """Takes every message, and notes when it was asked."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock
        self.asked_at = {}

    def send(self, message):
        assert message.to not in self.asked_at, "asked twice"
        self.asked_at[message.to] = self._clock.now()
        return super().send(message)


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def provider(clock):
    return NotingProvider(clock)


@pytest.fixture
def start(make_app, clock, provider):
    """Start an app on this test's store and clock; a second one is the first after a restart."""
    return lambda **settings: make_app({"clock": clock, "provider": provider}, **{**PLENTY, **settings})


@pytest.fixture
def caller(start, make_caller):
    return make_caller(start())


@pytest.fixture
def world(caller):
    return world_of(caller.app)


@pytest.fixture
def later(clock):
    """The moment after so many seconds, as callers write it."""
    return lambda seconds: (clock.now() + timedelta(seconds=seconds)).isoformat()


def types_of(caller, message):
    return [event["type"] for event in caller.events(message["id"])]


@pytest.mark.parametrize(("prefer", "applied"), [("", None), ("wait=30", None), ("respond-async", "respond-async")])
def test_a_message_for_later_is_202_scheduled_at_once(caller, clock, provider, prefer, applied):
    at = clock.now() + timedelta(hours=1)
    answer = caller.send(send_at=at.isoformat(), headers={"Prefer": prefer})
    message = answer.get_json()
    assert (answer.status_code, message["status"]) == (202, "scheduled")
    assert (message["send_at"], message["sent_at"], message["attempts"]) == (rfc3339(at), None, 0)
    assert answer.headers["Location"] == f"/v1/messages/{message['id']}"
    assert answer.headers.get("Preference-Applied") == applied
    assert message.items() <= caller.message(message["id"]).items()
    assert types_of(caller, message) == ["message.scheduled"]
    assert [each["id"] for each in caller.get("/v1/messages?status=scheduled").get_json()["data"]] == [message["id"]]
    assert provider.calls == []


def test_a_time_is_told_in_any_zone_and_shown_in_utc(caller, clock):
    at = clock.now() + timedelta(hours=1)
    for hours in (-11, 0, 2, 5.5):
        there = at.astimezone(timezone(timedelta(hours=hours)))
        assert caller.send(send_at=there.isoformat()).get_json()["send_at"] == rfc3339(at)


def test_a_time_that_is_over_too_far_or_of_no_zone_is_refused_and_stores_nothing(caller, clock, later):
    month = 30 * 24 * HOUR
    naive = (clock.now() + timedelta(hours=1)).replace(tzinfo=None).isoformat()
    bad = (later(0), later(-1), later(-month), later(month + 1), naive, later(HOUR)[:10], "tomorrow", "", 1893456000)
    for send_at in bad:
        for path in ("/v1/messages", "/v1/messages/preview"):
            refused = caller.post(path, {"to": "+14155550123", "text": "x", "send_at": send_at})
            assert refused.status_code == 422, (send_at, refused.text)
            assert [error["pointer"] for error in refused.get_json()["errors"]] == ["/send_at"]
    assert count_rows(world_of(caller.app).database, "messages") == 0
    for send_at in (later(0.001), later(month), None):
        body = {"to": "+14155550123", "text": "x", "send_at": send_at}
        assert caller.post("/v1/messages/preview", body).get_json()["would_send"] is True
        assert caller.post("/v1/messages", body).status_code == (201 if send_at is None else 202)


def test_a_repeated_request_shows_the_same_answer_before_its_time_and_after_it(caller, clock, later, world, provider):
    send_at = later(HOUR)
    first, second = (caller.send(send_at=send_at, headers={"Idempotency-Key": "one"}) for _ in range(2))
    clock.advance(HOUR)
    assert run_due(world) == 1
    third = caller.send(send_at=send_at, headers={"Idempotency-Key": "one", "Prefer": "wait=5"})
    for again in (second, third):
        assert (again.status_code, again.data) == (202, first.data)
        assert again.headers["Location"] == first.headers["Location"]
        assert again.headers["Idempotent-Replayed"] == "true"
    assert len(provider.calls) == 1


def test_nothing_happens_before_its_time_and_then_it_is_queued_and_sent(caller, clock, later, world, provider):
    scheduled_at = clock.now()
    message = caller.send(send_at=later(HOUR)).get_json()
    clock.advance(HOUR - 0.001)
    assert run_due(world) == 0
    assert message.items() <= caller.message(message["id"]).items()
    clock.advance(0.001)
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "sent"
    assert len(provider.calls) == 1
    events = caller.events(message["id"])
    assert [event["type"] for event in events] == ["message.scheduled", "message.queued", "message.sent"]
    sent_at = scheduled_at + timedelta(seconds=HOUR)
    assert [event["at"] for event in events] == [rfc3339(scheduled_at), rfc3339(sent_at), rfc3339(sent_at)]
    assert run_due(world) == 0


def test_seconds_to_its_expiry_count_from_its_time(caller, clock, later, world, provider):
    caller.send(to="+14155552001", send_at=later(HOUR), expires_in=60)
    late = caller.send(to="+14155552002", send_at=later(2 * HOUR), expires_in=60).get_json()
    clock.advance(HOUR)
    assert run_due(world) == 1
    assert [(each.to, each.expires_in_seconds) for each in provider.calls] == [("+14155552001", 60)]
    clock.advance(HOUR + 60)
    run_due(world)
    seen = caller.message(late["id"])
    assert (seen["status"], seen["error"]["code"], seen["sent_at"]) == ("expired", "expired", None)
    assert types_of(caller, late) == ["message.scheduled", "message.expired"]
    assert len(provider.calls) == 1


def test_each_goes_out_at_its_time_across_restarts_and_a_clock_that_is_set_back_and_forth(
    start, make_caller, clock, provider
):
    random = Random(4711)
    caller = make_caller(start())
    begun = clock.now()
    due = {f"+1415555{3000 + n}": begun + timedelta(seconds=random.randint(1, 600)) for n in range(30)}
    for number, at in due.items():
        assert caller.send(to=number, send_at=at.isoformat()).status_code == 202
    world, latest = world_of(caller.app), begun
    while len(provider.asked_at) < len(due):
        # Forward on the whole, and now and then back; sometimes to the very second at which one is due.
        clock.advance(random.choice([-45, -1, 1, 20, 60, 120]))
        if random.random() < 0.2:
            world = world_of(start())
        run_due(world)
        latest = max(latest, clock.now())
        assert provider.asked_at.keys() == {number for number, at in due.items() if at <= latest}
    assert all(due[number] <= asked_at for number, asked_at in provider.asked_at.items())


def test_a_running_dispatcher_sends_it_when_the_time_comes_without_being_rung(
    caller, dispatching, clock, provider, later
):
    dispatching(caller.app)
    soon = caller.send(to="+14155552001", send_at=later(9)).get_json()
    after = caller.send(to="+14155552002", send_at=later(10)).get_json()
    due = clock.now() + timedelta(seconds=9)
    clock.advance(9)
    eventually(lambda: caller.message(soon["id"])["status"] == "sent")
    assert provider.asked_at == {"+14155552001": due}
    assert caller.message(after["id"])["status"] == "scheduled"
    clock.advance(1)
    eventually(lambda: caller.message(after["id"])["status"] == "sent")


def test_a_test_key_s_message_waits_for_its_time_too(start, make_caller, clock, later, provider):
    caller = make_caller(start(), mode="test")
    world = world_of(caller.app)
    message = caller.send(to="+14155550001", send_at=later(HOUR)).get_json()
    assert (message["status"], message["test"]) == ("scheduled", True)
    clock.advance(HOUR - 1)
    assert run_due(world) == 0
    for seconds in (1, 2):
        clock.advance(seconds)
        run_due(world)
    assert caller.message(message["id"])["status"] == "delivered"
    assert row_of(world, message).due_at is None
    assert provider.calls == []

"""When a message that waits will probably be sent, as its caller reads it."""

from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock, rfc3339
from smsapi.pacing.gates import close_gate, open_gate
from smsapi.plivo.outcomes import Unavailable
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.providers import Scripted, taken

SHORT_CODE = "12345"


@pytest.fixture
def clock():
    now = datetime.now(UTC)
    return ManualClock(now.replace(microsecond=now.microsecond // 1000 * 1000))


def seconds_to(caller, message, clock):
    expected = caller.message(message["id"])["estimated_send_at"]
    return None if expected is None else (datetime.fromisoformat(expected) - clock.now()).total_seconds()


def test_it_is_what_is_ahead_at_the_pace_of_the_sender(make_app, clock):
    app = make_app({"clock": clock}, pace_short_code=2.0)
    caller = new_caller(app, allowed_senders=[SHORT_CODE])
    text = "a" * 161  # two segments
    messages = [caller.send(headers=ASYNC, sender=SHORT_CODE, text=text).get_json() for _ in range(5)]
    assert [seconds_to(caller, message, clock) for message in messages] == pytest.approx([0, 1, 2, 3, 4], abs=0.001)


def test_others_of_the_lane_get_their_shares(make_app, clock):
    app = make_app({"clock": clock}, pace_account=1.0)
    caller, other = new_caller(app), new_caller(app)
    messages = [caller.send(headers=ASYNC).get_json() for _ in range(3)]
    other.send(headers=ASYNC)
    assert seconds_to(caller, messages[2], clock) == pytest.approx(4, abs=0.001)
    # In another lane nobody is ahead.
    code = caller.send(headers=ASYNC, category="otp").get_json()
    assert seconds_to(caller, code, clock) == pytest.approx(0, abs=0.001)


def test_a_scheduled_one_is_expected_at_its_time_and_one_that_failed_at_its_next_attempt(make_app, clock):
    provider = Scripted(Unavailable("throttled", 429, retry_after_seconds=50), taken())
    app = make_app({"clock": clock, "provider": provider}, retry_base_seconds=0.0)
    caller = new_caller(app)
    waiting = caller.send(headers=ASYNC).get_json()
    run_due(world_of(app))
    assert seconds_to(caller, waiting, clock) == pytest.approx(50, abs=0.001)
    later = rfc3339(clock.now() + timedelta(hours=1))
    assert caller.message(caller.send(send_at=later).get_json()["id"])["estimated_send_at"] == later


def test_it_is_not_known_while_an_operator_has_paused_and_not_told_once_it_is_sent(make_app, clock):
    app = make_app({"clock": clock})
    world, caller = world_of(app), new_caller(app)
    message = caller.send(headers=ASYNC).get_json()
    for key in ("pause", "pause:transactional"):
        with world.database.transaction() as connection:
            close_gate(world.database, connection, key, {})
        assert seconds_to(caller, message, clock) is None
        with world.database.transaction() as connection:
            open_gate(connection, key)
    assert seconds_to(caller, message, clock) == pytest.approx(0, abs=0.001)
    run_due(world)
    assert caller.message(message["id"])["status"] == "sent"
    assert "estimated_send_at" not in caller.message(message["id"])


def test_it_waits_for_a_gate_that_opens_by_itself(make_app, clock):
    app = make_app({"clock": clock})
    world, caller = world_of(app), new_caller(app)
    with world.database.transaction() as connection:
        detail = {"open": True, "failures": 5}
        close_gate(world.database, connection, "circuit", detail, opens_at=clock.now() + timedelta(seconds=9))
    message = caller.send(headers=ASYNC).get_json()
    assert seconds_to(caller, message, clock) == pytest.approx(9, abs=0.001)

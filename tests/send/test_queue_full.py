"""Back-pressure: past a depth or an age further sends are refused at once, but for codes and repetitions."""

from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, counts_by_status, multiply, world_of


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


def filled(app, count, **message):
    """Fill the queue behind the back of the app, which has not looked at it yet."""
    world, caller = world_of(app), new_caller(app)
    first = caller.send(headers={**ASYNC, "Idempotency_Key": "first"}, **message).get_json()
    multiply(world, first, count - 1)
    return caller, first


def refused(answer):
    return (answer.status_code, answer.get_json()["code"], answer.headers["Retry-After"]) == (503, "queue_full", "10")


def test_a_lane_with_as_many_due_as_it_may_hold_takes_no_more(make_app):
    filled(make_app(), 4)
    app = make_app(queue_max_depth=4)
    caller = new_caller(app)
    assert refused(caller.send(headers=ASYNC))
    assert refused(caller.send())
    assert counts_by_status(world_of(app)) == {"queued": 4}
    # Another lane is not full.
    assert caller.send(headers=ASYNC, category="marketing").status_code == 202


def test_one_less_than_the_depth_is_taken(make_app):
    filled(make_app(), 3)
    caller = new_caller(make_app(queue_max_depth=4))
    assert caller.send(headers=ASYNC).status_code == 202


def test_codes_and_test_messages_are_taken_whatever_waits(make_app):
    filled(make_app(), 4, category="otp")
    app = make_app(queue_max_depth=4)
    assert new_caller(app).send(headers=ASYNC, category="otp").status_code == 202
    assert new_caller(app, mode="test").send(headers=ASYNC).status_code == 202


def test_the_age_of_the_longest_due_closes_the_lane_too(make_app, clock):
    filled(make_app({"clock": clock}), 1)
    clock.advance(59)
    young = make_app({"clock": clock}, queue_max_age_seconds=60)
    assert new_caller(young).send(headers=ASYNC).status_code == 202
    clock.advance(2)
    old = make_app({"clock": clock}, queue_max_age_seconds=60)
    assert refused(new_caller(old).send(headers=ASYNC))


def test_a_repetition_gets_its_answer_however_full_the_queue_is(make_app):
    caller, first = filled(make_app(), 4)
    caller.app = make_app(queue_max_depth=4)
    again = caller.send(headers={**ASYNC, "Idempotency_Key": "first"})
    assert (again.status_code, again.get_json()) == (202, first)
    assert again.headers["Idempotent-Replayed"] == "true"
    # A refusal for want of room is not remembered.
    assert refused(caller.send(headers={**ASYNC, "Idempotency_Key": "second"}))
    caller.app = make_app()
    assert caller.send(headers={**ASYNC, "Idempotency_Key": "second"}).status_code == 202


def test_what_is_scheduled_for_later_fills_nothing(make_app, clock):
    later = datetime.fromtimestamp(clock.now().timestamp() + 3600, UTC).isoformat()
    filled(make_app({"clock": clock}), 10, send_at=later)
    caller = new_caller(make_app({"clock": clock}, queue_max_depth=4))
    assert caller.send(headers=ASYNC).status_code == 202


def test_zero_means_no_bound(make_app, clock):
    filled(make_app({"clock": clock}), 10)
    clock.advance(86400)
    caller = new_caller(make_app({"clock": clock}, queue_max_depth=0, queue_max_age_seconds=0.0))
    assert caller.send(headers=ASYNC).status_code == 202

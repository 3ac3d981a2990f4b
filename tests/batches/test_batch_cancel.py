"""Calling a batch off: nothing more of it is begun, what had left is told apart, and each row is counted once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from smsapi.batches.maker import tend_due
from smsapi.clock import ManualClock, rfc3339
from smsapi.plivo.outcomes import Unknown
from smsapi.send.deliver import run
from tests.support.auth import at_once
from tests.support.dispatching import claim, run_due, world_of
from tests.support.providers import Died, Scripted, taken
from tests.support.staged import counted, counts, get_batch, move, stage, tend_all

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock():
    return ManualClock(NOW)


@pytest.fixture
def calling(make_app, make_caller, clock):
    """Make a caller of an app whose provider gives these outcomes."""

    def make(*outcomes, **replacements):
        provider = Scripted(*(outcomes or [taken()]))
        return make_caller(make_app({"clock": clock, "provider": provider, **replacements}))

    return make


def cancel(caller, batch_id, **headers):
    return caller.post(f"/v1/batches/{batch_id}/cancel", **headers)


def asked(caller):
    return len(world_of(caller.app).provider.asked)


def test_a_canceled_batch_is_not_sent_and_its_rows_are_canceled_messages(calling, clock):
    caller = calling()
    batch_id = stage(caller, 30, made=10)
    shown = cancel(caller, batch_id).get_json()
    assert (shown["status"], shown["canceled_at"]) == ("canceled", rfc3339(clock.now()))
    # So few are all canceled by the time of the answer.
    assert (shown["counts"]["canceled"], shown["finished_at"]) == (30, rfc3339(clock.now()))
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"canceled": 30}
    assert run_due(world_of(caller.app)) == 0
    assert asked(caller) == 0
    messages = caller.get(f"/v1/batches/{batch_id}/messages?limit=100").get_json()["data"]
    types = [[event["type"] for event in caller.events(message["id"])] for message in messages]
    assert sorted(types) == [["message.canceled"]] * 20 + [["message.queued", "message.canceled"]] * 10


def test_what_had_left_stays_and_what_had_not_is_canceled(calling, clock):
    caller = calling()
    batch_id = stage(caller, 20, made=10)
    move(caller, batch_id, "queued", "delivered", 3)
    move(caller, batch_id, "queued", "sent", 2)
    shown = cancel(caller, batch_id).get_json()
    expected = {"delivered": 3, "sent": 2, "canceled": 15}
    assert {status: rows for status, rows in shown["counts"].items() if rows} == expected
    assert counts(caller, batch_id) == counted(caller, batch_id) == expected


def test_of_a_large_one_a_thousand_are_canceled_at_once_and_the_others_afterwards(calling, clock):
    caller = calling()
    batch_id = stage(caller, 4000)
    tend_due(world_of(caller.app), lambda: False)
    shown = cancel(caller, batch_id).get_json()
    assert shown["status"] == "canceled"
    assert 1000 <= shown["counts"]["canceled"] <= 2000
    assert shown["finished_at"] is None
    while get_batch(caller, batch_id)["finished_at"] is None:
        assert sum(get_batch(caller, batch_id)["counts"].values()) == 4000
        tend_due(world_of(caller.app), lambda: False)
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"canceled": 4000}
    assert get_batch(caller, batch_id)["status"] == "canceled"
    assert asked(caller) == 0


def test_twice_is_the_same_as_once(calling, clock):
    caller = calling()
    batch_id = stage(caller, 3)
    first = cancel(caller, batch_id).get_json()
    clock.advance(60)
    again = cancel(caller, batch_id)
    assert (again.status_code, again.get_json()) == (200, first)


def test_with_a_key_the_answer_is_given_again(calling, clock):
    caller = calling()
    batch_id = stage(caller, 2500)
    first = cancel(caller, batch_id, Idempotency_Key="stop")
    tend_all(caller)
    again = cancel(caller, batch_id, Idempotency_Key="stop")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.get_json() == first.get_json()


@pytest.mark.parametrize("status", ["finished", "rejected", "checked", "receiving"])
def test_one_that_is_over_or_was_never_accepted_cannot_be_canceled(calling, status):
    caller = calling()
    batch_id = stage(caller, 0, status=status)
    answer = cancel(caller, batch_id)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "too_late")
    assert get_batch(caller, batch_id)["status"] == status


def test_it_is_too_late_once_the_last_has_left_even_before_that_was_noticed(calling):
    caller = calling()
    batch_id = stage(caller, 2, made=2)
    move(caller, batch_id, "queued", "sent", 2)
    assert get_batch(caller, batch_id)["status"] == "queued"
    assert cancel(caller, batch_id).status_code == 409
    tend_all(caller)
    assert get_batch(caller, batch_id)["status"] == "finished"


def test_a_strangers_batch_is_not_there_and_a_reader_may_not_cancel(calling, make_caller):
    caller = calling()
    batch_id = stage(caller, 1)
    assert cancel(make_caller(caller.app, name="other"), batch_id).status_code == 404
    assert cancel(make_caller(caller.app, scopes=("messages:read",)), batch_id).status_code == 403
    assert cancel(make_caller(caller.app, mode="test"), batch_id).status_code == 404
    assert get_batch(caller, batch_id)["status"] == "queued"


def test_what_is_in_a_call_is_sent_and_counted_as_sent(calling, clock):
    caller = calling()
    batch_id = stage(caller, 5, made=2)
    world = world_of(caller.app)
    begun = claim(world)
    assert len(begun) == 2
    shown = cancel(caller, batch_id).get_json()
    assert (shown["counts"]["sending"], shown["counts"]["canceled"]) == (2, 3)
    assert shown["finished_at"] is None
    for each in begun:
        run(world, each, wait_until=clock.now())
    clock.advance(5)
    tend_all(caller)
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"sent": 2, "canceled": 3}
    assert get_batch(caller, batch_id)["finished_at"] is not None


def test_what_is_in_doubt_when_it_is_canceled_is_not_sent_again(calling, clock):
    caller = calling(Unknown("no answer"))
    batch_id = stage(caller, 3, made=1)
    world = world_of(caller.app)
    run_due(world)
    cancel(caller, batch_id)
    assert counts(caller, batch_id) == {"unknown": 1, "canceled": 2}
    # Plivo's list does not have it, so that it goes back to its lane, and is called off there.
    for _ in range(5):
        clock.advance(120)
        tend_all(caller)
        run_due(world)
    tend_all(caller)
    assert asked(caller) == 1
    assert counts(caller, batch_id) == {"canceled": 3}


def test_a_scheduled_batch_is_canceled_before_its_time(calling, clock):
    caller = calling()
    batch_id = stage(caller, 1500, made=800, send_at=clock.now() + timedelta(hours=1))
    cancel(caller, batch_id)
    tend_all(caller)
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"canceled": 1500}
    clock.advance(7200)
    assert run_due(world_of(caller.app)) == 0


def test_a_large_scheduled_batch_is_canceled_with_the_rows_that_are_not_made_yet(calling, clock):
    caller = calling()
    batch_id = stage(caller, 6500, send_at=clock.now() + timedelta(hours=1))
    tend_all(caller)
    cancel(caller, batch_id)
    tend_all(caller)
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"canceled": 6500}
    assert get_batch(caller, batch_id)["finished_at"] == rfc3339(clock.now())


def test_one_of_it_that_was_changed_to_go_elsewhere_is_canceled_too(calling, clock):
    caller = calling()
    batch_id = stage(caller, 2, made=2, send_at=clock.now() + timedelta(hours=1))
    message = caller.get(f"/v1/batches/{batch_id}/messages").get_json()["data"][0]
    changed = {"category": "transactional"}
    assert caller.request("PATCH", f"/v1/messages/{message['id']}", changed).status_code == 200
    cancel(caller, batch_id)
    for _ in range(3):
        clock.advance(5)
        tend_all(caller)
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"canceled": 2}


def test_a_message_of_a_batch_is_canceled_by_itself_and_counted(calling):
    caller = calling()
    batch_id = stage(caller, 3, made=3)
    message = caller.get(f"/v1/batches/{batch_id}/messages").get_json()["data"][0]
    assert caller.post(f"/v1/messages/{message['id']}/cancel").status_code == 200
    assert counts(caller, batch_id) == {"queued": 2, "canceled": 1}


def test_canceling_and_sending_at_once_counts_each_row_once(make_app, make_caller):
    provider = Scripted(taken(), before=lambda _: begins.set())
    caller = make_caller(make_app({"provider": provider}))
    batch_id = stage(caller, 900, made=300)
    world, begins = world_of(caller.app), threading.Event()

    def act(number):
        if number == 0:
            begins.wait(5)
            assert cancel(caller, batch_id).status_code == 200
        elif number == 1:
            while get_batch(caller, batch_id)["finished_at"] is None:
                tend_due(world, lambda: False)
        else:
            while run_due(world):
                pass

    at_once(act, 4)
    tend_all(caller)
    found = counts(caller, batch_id)
    assert found == counted(caller, batch_id)
    assert found.keys() == {"sent", "canceled"}
    assert found["sent"] == len(provider.asked) == len({outgoing.to for outgoing in provider.asked})


@pytest.mark.parametrize("point", ["batch.folded", "batch.made", "batch.finished"])
def test_one_that_dies_while_it_cancels_has_canceled_nothing_or_all(calling, point):
    def die(name):
        if name == point and not died:
            died.append(name)
            raise Died

    died = []
    caller = calling(checkpoint=die)
    batch_id = stage(caller, 30, made=10)
    with pytest.raises(Died):
        cancel(caller, batch_id)
    assert get_batch(caller, batch_id)["status"] == "queued"
    assert counts(caller, batch_id) == {"queued": 30}
    assert cancel(caller, batch_id).status_code == 200
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"canceled": 30}

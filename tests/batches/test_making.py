"""Staged rows become messages: each once, in their order, and no more of them than will soon leave."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, event, func, insert, select, update

from smsapi.batches.maker import tend_due
from smsapi.batches.models import batch_changes, batch_rows, batches
from smsapi.clock import ManualClock, rfc3339
from smsapi.messages.models import messages
from tests.conftest import eventually
from tests.support.auth import at_once
from tests.support.dispatching import world_of
from tests.support.providers import Died
from tests.support.staged import counted, counts, get_batch, move, number_of, stage, tend_all, uuid_of_batch

pytestmark = pytest.mark.both_stores


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC))


@pytest.fixture
def calling(make_app, make_caller, clock):
    """Make a caller of an app whose clock stands still."""

    def make(mode="live", **replacements):
        return make_caller(make_app({"clock": clock, **replacements}), mode=mode)

    return make


def rows_of(caller, table):
    with world_of(caller.app).database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def made_of(caller, batch_id):
    query = select(batches.c.made, batches.c.made_through, batches.c.due_at).where(
        batches.c.id == uuid_of_batch(batch_id)
    )
    with world_of(caller.app).database.read() as connection:
        return connection.execute(query).one()


def all_messages(caller, batch_id):
    query = select(messages).where(messages.c.batch_id == uuid_of_batch(batch_id)).order_by(messages.c.id)
    with world_of(caller.app).database.read() as connection:
        return list(connection.execute(query))


def test_a_row_becomes_the_message_that_a_single_send_would_have_been(calling, clock):
    caller = calling()
    batch_id = stage(caller, 2, row={"text": None, "joined": 200})
    accepted_at = clock.now()
    clock.advance(5)
    tend_all(caller)
    first = caller.get(f"/v1/batches/{batch_id}/messages").get_json()["data"][-1]
    single = caller.send(number_of(2), "Hello", category="marketing").get_json()
    same = ("client_id", "from", "text", "category", "encoding", "segments", "test")
    assert {name: first[name] for name in same} == {name: single[name] for name in same}
    assert first["to"] == number_of(2)
    assert first["reference"] == "row-2"
    assert first["metadata"] == {"campaign": "spring"}
    assert first["batch_id"] == batch_id
    assert first["price"] == {"amount": "0.00550", "currency": "USD", "estimated": True}
    # As of the acceptance, to the millisecond that is shown.
    assert first["created_at"] == rfc3339(accepted_at)
    (row, _) = all_messages(caller, batch_id)
    assert row.created_at.microsecond == 123000
    assert (row.due_at, row.joined, row.attempts, row.epoch) == (clock.now(), 200, 0, 0)


def test_the_text_of_a_row_goes_before_the_batchs_own(calling):
    caller = calling()
    batch_id = stage(caller, 1, template="Hi {{name}}", text=None, row={"text": "Hi Ann"})
    tend_all(caller)
    assert all_messages(caller, batch_id)[0].text == "Hi Ann"
    assert get_batch(caller, batch_id)["text"] == "Hi {{name}}"


def test_each_message_has_its_first_event_before_any_later_one(calling):
    caller = calling()
    batch_id = stage(caller, 3)
    tend_all(caller)
    for message in caller.get(f"/v1/batches/{batch_id}/messages").get_json()["data"]:
        (event_of_it,) = caller.events(message["id"])
        assert event_of_it["type"] == "message.queued"
        assert event_of_it["id"].removeprefix("evt_") == message["id"].removeprefix("msg_")
        caller.post(f"/v1/messages/{message['id']}/cancel")
        assert [each["type"] for each in caller.events(message["id"])] == ["message.queued", "message.canceled"]


def test_rows_are_made_in_their_order_and_are_staged_no_more(calling):
    caller = calling()
    batch_id = stage(caller, 2500)
    made = []
    while made_of(caller, batch_id).made < 2500:
        before = made_of(caller, batch_id).made
        tend_due(world_of(caller.app), lambda: False)
        made.append(made_of(caller, batch_id).made - before)
    assert made == [1000, 1000, 500]
    assert [row.to_number for row in all_messages(caller, batch_id)] == [number_of(row) for row in range(2, 2502)]
    assert rows_of(caller, batch_rows) == 0
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"queued": 2500}


def test_making_changes_no_count(calling):
    caller = calling()
    batch_id = stage(caller, 1500)
    assert counts(caller, batch_id) == {"queued": 1500}
    tend_due(world_of(caller.app), lambda: False)
    assert made_of(caller, batch_id).made == 1000
    assert counts(caller, batch_id) == {"queued": 1500}


def test_no_more_than_five_thousand_wait_and_the_next_are_made_as_those_leave(calling, clock):
    caller = calling()
    batch_id = stage(caller, 7000)
    tend_all(caller)
    assert made_of(caller, batch_id).made == 5000
    move(caller, batch_id, "queued", "sent", 999)
    clock.advance(5)
    tend_all(caller)
    assert made_of(caller, batch_id).made == 5000
    move(caller, batch_id, "queued", "sent", 1)
    clock.advance(5)
    tend_all(caller)
    assert made_of(caller, batch_id).made == 6000
    assert counts(caller, batch_id) == {"queued": 6000, "sent": 1000}


def test_what_is_scheduled_is_made_up_to_five_thousand_and_goes_on_at_its_time(calling, clock):
    caller = calling()
    send_at = clock.now() + timedelta(minutes=10)
    batch_id = stage(caller, 7000, made=1000, send_at=send_at)
    tend_all(caller)
    found = all_messages(caller, batch_id)
    assert len(found) == 5000
    assert {(row.status, row.due_at, row.send_at) for row in found} == {("scheduled", send_at, send_at)}
    # What a change to the message would be held to.
    assert found[0].bounds == {"max_segments": 2}
    assert counts(caller, batch_id) == {"scheduled": 7000}
    clock.advance(599)
    tend_all(caller)
    assert made_of(caller, batch_id).made == 5000
    assert made_of(caller, batch_id).due_at == send_at
    assert get_batch(caller, batch_id)["status"] == "scheduled"
    clock.advance(2)
    move(caller, batch_id, "scheduled", "sent", 1000)
    tend_all(caller)
    late = all_messages(caller, batch_id)[5000:]
    assert len(late) == 1000
    # Behind what others were told to send since then, in its turn.
    assert {(row.status, row.due_at, row.send_at) for row in late} == {("scheduled", clock.now(), send_at)}
    assert counts(caller, batch_id) == {"scheduled": 6000, "sent": 1000}
    shown = get_batch(caller, batch_id)
    assert (shown["status"], shown["started_at"]) == ("sending", rfc3339(clock.now()))


def test_what_of_a_scheduled_batch_was_put_off_keeps_the_rest_of_it_from_nothing(calling, clock):
    caller = calling()
    send_at, later = clock.now() + timedelta(minutes=10), clock.now() + timedelta(days=3)
    batch_id = stage(caller, 5500, send_at=send_at)
    tend_all(caller)
    put_off = {"send_at": later, "due_at": later}
    with world_of(caller.app).database.transaction() as connection:
        connection.execute(update(messages).where(messages.c.batch_id == uuid_of_batch(batch_id)).values(**put_off))
    clock.advance(600)
    tend_all(caller)
    assert made_of(caller, batch_id).made == 5500
    assert len([row for row in all_messages(caller, batch_id) if row.due_at <= clock.now()]) == 500


def test_a_batch_of_a_test_key_waits_in_the_lane_of_tests(calling):
    caller = calling("test")
    batch_id = stage(caller, 1, test=True)
    tend_all(caller)
    (row,) = all_messages(caller, batch_id)
    assert (row.test, row.lane) == (True, 3)


def test_makers_at_once_make_each_row_once(make_app, make_caller):
    caller = make_caller(make_app())
    found = [stage(caller, 1800) for _ in range(3)]

    def tend(_):
        while any(made_of(caller, batch_id).made < 1800 for batch_id in found):
            tend_due(world_of(caller.app), lambda: False)

    at_once(tend, 3)
    for batch_id in found:
        assert counted(caller, batch_id) == {"queued": 1800}
        assert counts(caller, batch_id) == {"queued": 1800}
        assert made_of(caller, batch_id).made_through == 1801


@pytest.mark.parametrize("point", ["batch.folded", "batch.made", "batch.tended", "batch.committed"])
def test_a_maker_that_dies_on_the_way_leaves_all_of_a_step_or_nothing_of_it(calling, point):
    def die(name):
        if name == point and not died:
            died.append(name)
            raise Died

    died = []
    caller = calling(checkpoint=die)
    batch_id = stage(caller, 1500, made=10)
    move(caller, batch_id, "queued", "sent", 5)
    with pytest.raises(Died):
        tend_due(world_of(caller.app), lambda: False)
    done = 1010 if point == "batch.committed" else 10
    assert made_of(caller, batch_id).made == len(all_messages(caller, batch_id)) == done
    assert rows_of(caller, batch_rows) == 1500 - done
    assert counts(caller, batch_id) == {"queued": 1495, "sent": 5}
    tend_all(caller)
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"queued": 1495, "sent": 5}
    assert rows_of(caller, batch_changes) == 0


def test_a_batch_that_cannot_be_made_keeps_no_other_from_going_on(calling, clock):
    caller = calling()
    taken = caller.send().get_json()["id"].removeprefix("msg_")
    broken = stage(caller, 1, row={"message_id": uuid_of_batch(f"bat_{taken}")})
    sound = stage(caller, 1)
    tend_due(world_of(caller.app), lambda: False)
    assert counted(caller, sound) == {"queued": 1}
    assert counted(caller, broken) == {}
    # It is not tried over and over, and not given up either.
    assert made_of(caller, broken).due_at == clock.now() + timedelta(minutes=1)
    assert counts(caller, broken) == {"queued": 1}


def test_with_nothing_to_do_one_question_is_asked_and_nothing_written(app, caller):
    done = stage(caller, 1)
    with world_of(app).database.transaction() as connection:
        connection.execute(delete(batch_rows))
        connection.execute(update(batches).values(due_at=None, status="finished"))
    asked = []
    event.listen(world_of(app).database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert tend_due(world_of(app), lambda: False) == math.inf
    assert len(asked) == 1, done


def test_a_dispatcher_makes_and_sends_what_was_accepted_without_being_asked(make_app, make_caller, dispatching):
    app = make_app()
    caller = make_caller(app, mode="test")
    batch_id = stage(caller, 30, test=True)
    dispatching(app)
    eventually(lambda: get_batch(caller, batch_id)["status"] == "finished")
    assert counts(caller, batch_id).keys() <= {"sent", "delivered"}


def test_rows_that_were_put_in_while_others_left_are_not_skipped(calling):
    caller = calling()
    batch_id = stage(caller, 3)
    with world_of(caller.app).database.transaction() as connection:
        # A hole, as of a row that was refused.
        gone = connection.execute(delete(batch_rows).where(batch_rows.c.row == 3).returning(*batch_rows.c)).one()
        connection.execute(insert(batch_rows), [{**gone._mapping, "row": 90_000}])
    tend_all(caller)
    assert [row.to_number for row in all_messages(caller, batch_id)] == [number_of(2), number_of(3), number_of(4)]
    assert made_of(caller, batch_id).made_through == 90_000

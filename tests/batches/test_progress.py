"""How a batch stands is exact at any moment, costs the same whatever its size, and says when it ends."""

import math
import random
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import event, func, select

from smsapi.batches.maker import tend_due
from smsapi.batches.models import batch_changes, batches
from smsapi.clock import ManualClock, rfc3339
from smsapi.events.models import events
from smsapi.messages.statuses import STATUSES
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, close_gate, open_gate
from smsapi.plivo.outcomes import Unknown
from tests.conftest import eventually
from tests.support.auth import at_once
from tests.support.batching import queue_batch
from tests.support.dispatching import run_due, world_of
from tests.support.providers import Died, Scripted, taken
from tests.support.staged import counted, counts, get_batch, move, number_of, stage, tend_all

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock():
    return ManualClock(NOW)


@pytest.fixture
def caller(make_app, make_caller, clock):
    """A caller of an app whose clock stands still and whose Plivo takes everything."""
    return make_caller(make_app({"clock": clock, "provider": Scripted(taken())}))


def finished_events(caller):
    told = caller.get("/v1/events?limit=100").get_json()["data"]
    return [each["data"] for each in told if each["type"] == "batch.finished"]


def changes_of(caller):
    with world_of(caller.app).database.read() as connection:
        return connection.execute(select(func.count()).select_from(batch_changes)).scalar_one()


def pass_time(caller, clock, seconds, *, left=0, batch_id=""):
    """Let time pass in steps of a second, with so many messages leaving in each."""
    for _ in range(seconds):
        clock.advance(1)
        if left:
            assert move(caller, batch_id, "queued", "sent", left) == left
        tend_all(caller)


def test_a_batch_goes_from_queued_to_sending_to_finished(caller, clock):
    batch_id = stage(caller, 4)
    shown = get_batch(caller, batch_id)
    assert (shown["status"], shown["started_at"], shown["finished_at"]) == ("queued", None, None)
    assert shown["counts"] == dict.fromkeys(STATUSES, 0) | {"queued": 4}
    tend_all(caller)
    clock.advance(1)
    tend_all(caller)
    assert get_batch(caller, batch_id)["status"] == "queued"
    move(caller, batch_id, "queued", "sent", 1)
    clock.advance(1)
    tend_all(caller)
    shown = get_batch(caller, batch_id)
    assert (shown["status"], shown["started_at"]) == ("sending", rfc3339(clock.now()))
    assert run_due(world_of(caller.app)) == 3
    clock.advance(1)
    tend_all(caller)
    shown = get_batch(caller, batch_id)
    assert (shown["status"], shown["finished_at"]) == ("finished", rfc3339(clock.now()))
    assert counts(caller, batch_id) == {"sent": 4}
    assert shown["rate_per_second"] is None
    assert shown["expected_end_at"] is None


def test_an_event_says_once_that_it_is_finished_and_how(caller, clock, dispatching):
    batch_id = stage(caller, 3, rejected=2, duplicates=1)
    tend_all(caller)
    run_due(world_of(caller.app))
    for _ in range(3):
        clock.advance(1)
        tend_all(caller)
    dispatching(caller.app)
    (told,) = eventually(lambda: finished_events(caller))
    assert told == {
        "id": batch_id,
        "status": "finished",
        "total": 6,
        "accepted": 3,
        "rejected": 2,
        "duplicates": 1,
        "counts": dict.fromkeys(STATUSES, 0) | {"sent": 3},
    }


def test_a_batch_of_which_nothing_was_accepted_is_finished_at_once(caller):
    batch_id = stage(caller, 0, rejected=3)
    tend_all(caller)
    assert get_batch(caller, batch_id)["status"] == "finished"
    assert tend_due(world_of(caller.app), lambda: False) == math.inf


@pytest.mark.parametrize("status", ["queued", "scheduled", "sending", "unknown"])
def test_it_is_not_finished_while_one_waits_or_is_in_doubt(caller, clock, status):
    batch_id = stage(caller, 3, made=3)
    move(caller, batch_id, "queued", "delivered", 2)
    move(caller, batch_id, "queued", status, 1)
    tend_all(caller)
    assert get_batch(caller, batch_id)["status"] == "sending"
    move(caller, batch_id, status, "failed", 1)
    clock.advance(4)
    tend_all(caller)
    assert get_batch(caller, batch_id)["status"] == "finished"


def test_what_plivo_reports_after_the_end_still_counts_and_the_last_report_ends_the_looking(caller, clock):
    batch_id = stage(caller, 3, made=3)
    move(caller, batch_id, "queued", "sent", 3)
    tend_all(caller)
    assert get_batch(caller, batch_id)["status"] == "finished"
    clock.advance(3600)
    move(caller, batch_id, "sent", "delivered", 2)
    assert counts(caller, batch_id) == {"sent": 1, "delivered": 2}
    tend_all(caller)
    assert changes_of(caller) == 0
    move(caller, batch_id, "sent", "undelivered", 1)
    for _ in range(3):
        clock.advance(3600)
        tend_all(caller)
    assert counts(caller, batch_id) == {"delivered": 2, "undelivered": 1}
    assert changes_of(caller) == 0
    assert tend_due(world_of(caller.app), lambda: False) == math.inf


def test_the_rate_is_of_the_last_seconds_and_the_end_is_reckoned_by_it(caller, clock):
    batch_id = stage(caller, 4000)
    tend_all(caller)
    pass_time(caller, clock, 1, left=10, batch_id=batch_id)
    # Of so short a time it would be that of a single call.
    assert get_batch(caller, batch_id)["rate_per_second"] is None
    pass_time(caller, clock, 8, left=10, batch_id=batch_id)
    shown = get_batch(caller, batch_id)
    assert shown["rate_per_second"] == pytest.approx(10)
    assert shown["expected_end_at"] == rfc3339(clock.now() + timedelta(seconds=(4000 - 90) / 10))
    # Half a minute at another rate, and the first is all but forgotten.
    pass_time(caller, clock, 30, left=50, batch_id=batch_id)
    assert 47 < get_batch(caller, batch_id)["rate_per_second"] <= 50


def test_a_batch_of_which_nothing_leaves_any_more_has_no_expected_end(caller, clock):
    batch_id = stage(caller, 1000)
    tend_all(caller)
    pass_time(caller, clock, 5, left=10, batch_id=batch_id)
    assert get_batch(caller, batch_id)["expected_end_at"] is not None
    pass_time(caller, clock, 60)
    shown = get_batch(caller, batch_id)
    assert (shown["rate_per_second"], shown["expected_end_at"]) == (0.0, None)


@pytest.mark.parametrize("gate", ["pause", "pause:marketing", ACCOUNT, CIRCUIT])
def test_while_a_gate_keeps_it_back_nobody_knows_its_end(caller, clock, gate):
    batch_id = stage(caller, 1000)
    tend_all(caller)
    pass_time(caller, clock, 5, left=10, batch_id=batch_id)
    database = world_of(caller.app).database
    with database.transaction() as connection:
        close_gate(database, connection, gate, {"open": True})
    assert get_batch(caller, batch_id)["expected_end_at"] is None
    assert caller.get("/v1/batches").get_json()["data"][0]["expected_end_at"] is None
    with database.transaction() as connection:
        open_gate(connection, gate)
    assert get_batch(caller, batch_id)["expected_end_at"] is not None


def test_a_pause_of_another_lane_does_not_touch_it(caller, clock):
    batch_id = stage(caller, 1000)
    tend_all(caller)
    pass_time(caller, clock, 5, left=10, batch_id=batch_id)
    database = world_of(caller.app).database
    with database.transaction() as connection:
        close_gate(database, connection, "pause:otp", {})
    assert get_batch(caller, batch_id)["expected_end_at"] is not None


def test_a_clock_that_is_set_back_makes_no_rate_of_it(caller, clock):
    batch_id = stage(caller, 1000)
    tend_all(caller)
    pass_time(caller, clock, 5, left=10, batch_id=batch_id)
    clock.advance(-3600)
    assert get_batch(caller, batch_id)["rate_per_second"] is None
    clock.advance(3601)
    tend_all(caller)
    assert get_batch(caller, batch_id)["rate_per_second"] is not None


def asked_of(caller, path):
    """Return what the store was asked while this path was read."""
    statements = []

    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    engine = world_of(caller.app).database.engine
    event.listen(engine, "before_cursor_execute", note)
    caller.get(path)
    event.remove(engine, "before_cursor_execute", note)
    return statements


def test_it_costs_the_same_for_ten_rows_and_for_many_thousand(caller, clock):
    small, large = stage(caller, 10), stage(caller, 8000)
    tend_all(caller)
    for batch_id in (small, large):
        move(caller, batch_id, "queued", "sent", 9000)
    clock.advance(5)
    tend_all(caller)
    of_small, of_large = asked_of(caller, f"/v1/batches/{small}"), asked_of(caller, f"/v1/batches/{large}")
    assert of_large == of_small
    assert not any("FROM messages" in statement or "FROM batch_rows" in statement for statement in of_large)
    # What is read besides are the changes since they were added up last.
    assert changes_of(caller) == 0
    many = [stage(caller, 1) for _ in range(5)]
    assert len(many) == 5
    assert len(asked_of(caller, "/v1/batches")) == len(of_small)


def test_changes_are_added_up_once_whoever_adds_them_up_while_others_come(make_app, make_caller):
    caller = make_caller(make_app())
    batch_id = stage(caller, 600, made=600)
    world, done = world_of(caller.app), threading.Event()
    chosen = random.Random(7)
    steps = [("queued", "sending"), ("sending", "sent"), ("sent", "delivered"), ("sending", "unknown")]

    def act(number):
        if number < 3:
            for _ in range(15):
                move(caller, batch_id, *chosen.choice(steps), 20)
            done.set()
            return
        while not done.is_set():
            tend_due(world, lambda: False)
            # It fails where they do not add up.
            counts(caller, batch_id)

    at_once(act, 6)
    tend_all(caller)
    assert counts(caller, batch_id) == counted(caller, batch_id)


def test_many_changes_at_once_are_added_up_in_parts_and_are_exact_in_between(caller, clock):
    batch_id = stage(caller, 5000, made=5000)
    path = ("queued", "sending", "sent", "delivered")
    for before, after in [*pairwise(path), ("delivered", "sent"), ("sent", "delivered")]:
        move(caller, batch_id, before, after, 5000)
    assert changes_of(caller) == 25_000
    assert counts(caller, batch_id) == {"delivered": 5000}
    seen = set()
    for _ in range(4):
        seen.add(changes_of(caller))
        tend_due(world_of(caller.app), lambda: False)
        assert counts(caller, batch_id) == {"delivered": 5000}
        clock.advance(5)
    assert changes_of(caller) == 0
    assert len(seen) > 1


def test_many_reports_after_the_end_are_added_up_without_a_rest(caller, clock):
    batch_id = stage(caller, 5000, made=5000)
    move(caller, batch_id, "queued", "sent", 5000)
    tend_all(caller)
    clock.advance(1)
    tend_all(caller)
    assert get_batch(caller, batch_id)["status"] == "finished"
    clock.advance(3600)
    for before, after in [("sent", "unknown"), ("unknown", "sent")] * 2 + [("sent", "delivered")]:
        move(caller, batch_id, before, after, 5000)
    assert changes_of(caller) == 25_000
    tend_due(world_of(caller.app), lambda: False)
    assert changes_of(caller) == 5000
    assert counts(caller, batch_id) == {"delivered": 5000}
    tend_all(caller)
    assert changes_of(caller) == 0
    assert counts(caller, batch_id) == {"delivered": 5000}


@pytest.mark.parametrize("status", ["failed", "expired", "canceled", "sending"])
def test_nothing_has_left_with_a_row_that_plivo_never_had(caller, clock, status):
    batch_id = stage(caller, 3, made=3)
    move(caller, batch_id, "queued", status, 1)
    tend_all(caller)
    shown = get_batch(caller, batch_id)
    assert (shown["status"], shown["started_at"]) == ("queued", None)
    clock.advance(4)
    move(caller, batch_id, "queued", "unknown", 1)
    tend_all(caller)
    shown = get_batch(caller, batch_id)
    assert (shown["status"], shown["started_at"]) == ("sending", rfc3339(clock.now()))


def test_a_batch_of_which_no_row_may_be_sent_ends_without_having_started(caller, clock):
    batch_id = stage(caller, 2, made=2)
    for row in (2, 3):
        assert caller.request("PUT", f"/v1/opt-outs/{number_of(row)}").status_code in {200, 201}
    run_due(world_of(caller.app))
    assert counts(caller, batch_id) == {"failed": 2}
    tend_all(caller)
    shown = get_batch(caller, batch_id)
    assert (shown["status"], shown["started_at"]) == ("finished", None)
    assert world_of(caller.app).provider.asked == []


@pytest.mark.parametrize("point", ["batch.folded", "batch.finished", "batch.tended"])
def test_one_that_dies_while_it_notices_the_end_leaves_the_end_to_the_next(make_app, make_caller, clock, point):
    def die(name):
        if name == point and not died:
            died.append(name)
            raise Died

    died = []
    caller = make_caller(make_app({"clock": clock, "checkpoint": die}))
    batch_id = stage(caller, 3, made=3)
    move(caller, batch_id, "queued", "sent", 3)
    with pytest.raises(Died):
        tend_due(world_of(caller.app), lambda: False)
    assert get_batch(caller, batch_id)["status"] == "queued"
    tend_all(caller)
    assert get_batch(caller, batch_id)["status"] == "finished"
    assert counts(caller, batch_id) == {"sent": 3}
    assert len(events_of_batch(caller)) == 1


def events_of_batch(caller):
    query = select(events.c.id).where(events.c.type == "batch.finished")
    with world_of(caller.app).database.read() as connection:
        return connection.execute(query).all()


def test_two_dispatchers_send_a_batch_once_and_it_adds_up_all_the_way(make_app, make_caller, dispatching, simulator):
    app, other = make_app(), make_app()
    caller = make_caller(app)
    batch_id = stage(caller, 150)
    dispatching(app)
    dispatching(other)
    # At each look it fails where the counts do not add up.
    eventually(lambda: counts(caller, batch_id).keys() == {"sent"})
    eventually(lambda: get_batch(caller, batch_id)["status"] == "finished")
    texted = simulator.store.texts_by_number()
    assert (len(texted), set(texted.values())) == (150, {1})
    assert len(events_of_batch(caller)) == 1


def test_a_batch_with_one_message_in_doubt_is_looked_at_ever_more_seldom_and_resolving_wakes_it(
    make_app, make_caller, clock
):
    caller = make_caller(make_app({"clock": clock, "provider": Scripted(Unknown("no answer in time"))}))
    batch, (message_id,) = queue_batch(caller, ["+14155561000"], on_unknown="hold")
    tend_all(caller)
    run_due(world_of(caller.app))
    assert caller.message(message_id)["status"] == "unknown"
    assert tends_of(caller, clock, hours=2) < 100  # where every three seconds are 2,400
    assert tends_of(caller, clock, hours=1) <= 13
    assert caller.post(f"/v1/messages/{message_id}/resolve", {"outcome": "failed"}).status_code == 200
    tend_all(caller)
    assert get_batch(caller, batch)["status"] == "finished"


def tends_of(caller, clock, *, hours):
    """Return how often batches are due to be looked at in this time, each at its moment."""
    world, looks, until = world_of(caller.app), 0, clock.now() + timedelta(hours=hours)
    while clock.now() < until:
        with world.database.read() as connection:
            due = connection.execute(select(batches.c.due_at)).scalar_one()
        clock.advance(max(0.0, (due - clock.now()).total_seconds()))
        tend_due(world, lambda: False)
        looks += 1
    return looks

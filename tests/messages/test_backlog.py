"""What waits, counted lane by lane: right on both stores, and without a walk through all that was ever sent."""

import random
import re
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, insert, text, update

from smsapi.clock import ManualClock
from smsapi.ids import new_id
from smsapi.messages.backlog import LaneBacklog, count_unsettled, measure
from smsapi.messages.lanes import MARKETING, NAMES, OTP, TEST, TRANSACTIONAL
from smsapi.messages.models import messages
from smsapi.messages.statuses import STATUSES
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, row_of, uuid_of, world_of

pytestmark = pytest.mark.both_stores

MANY = 5000
PARTIAL = r"ix_messages_(waiting|chores|unknown)\b"


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def world(make_app, clock):
    return world_of(make_app({"clock": clock}))


@pytest.fixture
def send(make_app, clock):
    """Take a message that nobody waits for."""
    app = make_app({"clock": clock})
    callers = {mode: new_caller(app, mode=mode) for mode in ("live", "test")}
    return lambda mode="live", **body: callers[mode].send(headers=ASYNC, **body).get_json()


@pytest.fixture
def plans_of(world):
    """Run an action on a connection, and return the store's plans of what it asked."""
    database, seen = world.database, []
    explain = "EXPLAIN" if database.is_postgresql else "EXPLAIN QUERY PLAN"

    def note(_connection, _cursor, statement, parameters, _context, _many):
        seen.append((statement, parameters))

    def run(action):
        event.listen(database.engine, "before_cursor_execute", note)
        with database.read() as connection:
            action(connection)
        event.remove(database.engine, "before_cursor_execute", note)
        with database.read() as connection:
            plans = [connection.exec_driver_sql(f"{explain} {asked}", given).all() for asked, given in seen]
        return ["\n".join(str(line[-1]) for line in plan) for plan in plans]

    return run


def backlog_of(world):
    with world.database.read() as connection:
        return measure(connection, world.clock.now())


def unsettled_of(world):
    with world.database.read() as connection:
        return count_unsettled(connection, world.clock.now())


def store_like(world, message, rows):
    like = row_of(world, message)._asdict()
    with world.database.transaction() as connection:
        connection.execute(insert(messages), [like | {"id": new_id()} | row for row in rows])


def test_each_lane_has_what_is_due_since_when_and_what_is_not_due_yet(world, send, clock):
    begun = clock.now()
    send(category="otp")
    clock.advance(10)
    send(category="otp")
    send(category="marketing")
    send(mode="test")
    send(category="marketing", send_at=(clock.now() + timedelta(hours=1)).isoformat())
    assert backlog_of(world) == {
        OTP: LaneBacklog(waiting=2, later=0, oldest_due_at=begun),
        TRANSACTIONAL: LaneBacklog(),
        MARKETING: LaneBacklog(waiting=1, later=1, oldest_due_at=begun + timedelta(seconds=10)),
        TEST: LaneBacklog(waiting=1, later=0, oldest_due_at=begun + timedelta(seconds=10)),
    }
    clock.advance(3600)
    assert backlog_of(world)[MARKETING].waiting == 2
    assert backlog_of(world)[MARKETING].age_seconds(clock.now()) == 3600
    assert backlog_of(world)[TRANSACTIONAL].age_seconds(clock.now()) == 0


def test_a_lane_in_which_all_is_for_later_has_no_oldest_one(world, send, clock):
    send(send_at=(clock.now() + timedelta(minutes=1)).isoformat())
    assert backlog_of(world)[TRANSACTIONAL] == LaneBacklog(waiting=0, later=1, oldest_due_at=None)


def test_the_counts_are_those_of_a_count_by_hand_over_messages_in_every_state(world, send, clock):
    pick, now = random.Random(7), clock.now()
    rows = [
        {
            "status": pick.choice(STATUSES),
            "lane": pick.choice(sorted(NAMES)),
            "sender": pick.choice(["+14155550100", "ACME"]),
            "due_at": pick.choice([None, now + timedelta(seconds=pick.randint(-100, 100))]),
        }
        for _ in range(600)
    ]
    first = send()
    store_like(world, first, rows)
    rows.append({"status": "queued", "lane": TRANSACTIONAL, "due_at": now})
    waits = [row for row in rows if row["status"] in {"queued", "scheduled"} and row["due_at"] is not None]
    due = [row for row in waits if row["due_at"] <= now]
    for lane, found in backlog_of(world).items():
        mine = [row["due_at"] for row in due if row["lane"] == lane]
        later = sum(row["lane"] == lane for row in waits) - len(mine)
        assert found == LaneBacklog(len(mine), later, min(mine))
    unsettled = unsettled_of(world)
    doubts = Counter(row["due_at"] is None for row in rows if row["status"] == "unknown")
    assert unsettled.waiting == sum(row["status"] == "queued" or row in due for row in waits)
    assert unsettled.sending == sum(row["status"] == "sending" and row["due_at"] is not None for row in rows)
    assert (unsettled.in_doubt, unsettled.held) == (doubts[False], doubts[True])
    assert unsettled.remaining == unsettled.waiting + unsettled.sending + doubts[False]


def test_what_moves_from_one_state_to_another_is_never_missed(world, send):
    message = send()
    over = threading.Event()

    def move():
        while not over.is_set():
            for status in ("sending", "queued"):
                with world.database.transaction() as connection:
                    connection.execute(update(messages).where(messages.c.id == uuid_of(message)).values(status=status))

    mover = threading.Thread(target=move)
    mover.start()
    try:
        assert {unsettled_of(world).remaining for _ in range(300)} == {1}
    finally:
        over.set()
        mover.join()


@pytest.mark.parametrize("ask", [measure, count_unsettled])
def test_the_cost_is_in_what_waits_and_not_in_what_was_sent(world, send, plans_of, ask):
    first = send()
    store_like(world, first, [{"status": "delivered", "due_at": None}] * MANY)
    store_like(world, first, [{"status": status} for status in ("sending", "unknown", "scheduled")])
    if world.database.is_postgresql:  # which does so by itself, in time; SQLite is never told how much there is
        with world.database.transaction() as connection:
            connection.execute(text("ANALYZE messages"))
    (plan,) = plans_of(lambda connection: ask(connection, world.clock.now()))
    read = [line for line in plan.splitlines() if re.search(r"(Scan|SCAN|SEARCH)\b.*\bmessages|ix_messages", line)]
    assert read, plan
    assert all(re.search(PARTIAL, line) for line in read), plan
    assert {"waiting"} <= {found[1] for found in re.finditer(PARTIAL, plan)}
    if ask is count_unsettled:
        assert {found[1] for found in re.finditer(PARTIAL, plan)} == {"waiting", "chores", "unknown"}

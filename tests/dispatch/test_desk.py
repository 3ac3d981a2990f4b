"""The desk: whose message a free thread gets, on both stores, and what it asks the store for."""

import threading
from collections import Counter, deque
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import update

from smsapi.auth.models import clients
from smsapi.clock import ManualClock
from smsapi.dispatch.desk import Desk
from smsapi.messages.lanes import NAMES
from tests.conftest import eventually, new_caller
from tests.support.dispatching import ASYNC, counts_by_status, multiply, world_of
from tests.support.far_side import ScriptedProvider
from tests.support.providers import Scripted, taken

CODE = "+14155559999"
UNPACED = {"plivo_requests_per_5s": 0.0}


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def app(make_app, clock):
    return make_app({"clock": clock, "provider": Scripted(taken())}, **UNPACED)


def queue(caller, count=1, **body):
    """Put so many messages alike in the queue."""
    answer = caller.send(headers=ASYNC, **body)
    assert answer.status_code == 202
    multiply(world_of(caller.app), answer.get_json(), count - 1)


def lane_of(begun):
    return None if begun is None else NAMES[begun.message.lane]


def take(desk, times):
    """Ask as so many threads would that have nothing to do."""
    return [desk.next() for _ in range(times)]


def serve(desk, threads, times):
    """Let all threads send all the time, the first that began ends first; return what they were given."""
    busy, given = deque(take(desk, threads)), []
    while len(given) < times:
        given += [begun for begun in busy if begun is not None]
        ended = busy.popleft()
        if ended is not None:
            desk.done(ended)
        busy.append(desk.next())
    return given


@pytest.mark.parametrize("backlog", ["marketing", "transactional"])
def test_a_code_is_begun_next_whatever_another_client_has_in_the_queue(app, backlog):
    queue(new_caller(app), 3000, category=backlog)
    desk = Desk(world_of(app), threads=4)
    assert [lane_of(begun) for begun in take(desk, 3)] == [backlog] * 3
    queue(new_caller(app), category="otp")
    desk.expect_news()
    assert lane_of(desk.next()) == "otp"
    assert desk.next() is None


def test_among_codes_one_client_s_backlog_does_not_hold_up_another_s_single_one(app):
    queue(new_caller(app), 500, category="otp")
    desk = Desk(world_of(app), threads=2)
    first = take(desk, 2)
    other = new_caller(app)
    queue(other, category="otp")
    desk.expect_news()
    for begun in first:
        desk.done(begun)
    assert f"cli_{desk.next().message.client_id.hex}" == other.client_id


def test_the_last_thread_is_kept_for_codes(app):
    caller = new_caller(app)
    queue(caller, 9, category="marketing")
    queue(caller, 9)
    desk = Desk(world_of(app), threads=3)
    begun = take(desk, 4)
    assert [each is None for each in begun] == [False, False, True, True]
    desk.done(begun[0])
    assert lane_of(desk.next()) in {"transactional", "marketing"}
    assert desk.next() is None
    queue(caller, 2, category="otp")
    desk.expect_news()
    assert [lane_of(each) for each in take(desk, 2)] == ["otp", None]


def test_codes_that_never_end_do_not_keep_the_others_out(app):
    caller = new_caller(app)
    queue(caller, 300, category="otp")
    queue(caller, 60)
    queue(caller, 60, category="marketing")
    given = Counter(lane_of(begun) for begun in serve(Desk(world_of(app), threads=3), 3, 222))
    # 100 to 10 to 1, give or take what three threads hold at once.
    assert 194 <= given["otp"] <= 206
    assert 14 <= given["transactional"] <= 26
    assert 1 <= given["marketing"] <= 5


def test_clients_share_a_lane_by_their_weights(app):
    callers = [new_caller(app) for _ in range(3)]
    ids = [UUID(hex=caller.client_id.removeprefix("cli_")) for caller in callers]
    with world_of(app).database.transaction() as connection:
        connection.execute(update(clients).where(clients.c.id == ids[2]).values(weight=2))
    for caller in callers:
        queue(caller, 60, category="marketing")
    # Two threads, of which one is kept for codes.
    given = serve(Desk(world_of(app), threads=2), 2, 40)
    counts = Counter(begun.message.client_id for begun in given)
    assert [counts[each] for each in ids] == pytest.approx([10, 10, 20], abs=1)


def test_what_is_longest_due_goes_first_within_a_client(app, clock):
    caller = new_caller(app, allowed_senders=["+14155550101", "+14155550102"])
    for reference, sender in (("a", "+14155550101"), ("b", "+14155550102"), ("c", "+14155550101")):
        queue(caller, reference=reference, sender=sender)
        clock.advance(1)
    desk = Desk(world_of(app), threads=3)
    given = []
    while begun := desk.next():
        given.append(begun.message.reference)
        desk.done(begun)
    # Within its sender c is first to a, and a is the longest due of all.
    assert given in (["a", "b", "c"], ["a", "c", "b"])


def test_a_closed_gate_is_not_asked_again_before_it_opens(make_app, clock):
    asked = []
    app = make_app({"clock": clock, "checkpoint": asked.append}, **UNPACED, pace_long_code=2.0)
    queue(new_caller(app), 9)
    desk = Desk(world_of(app), threads=4)
    assert lane_of(desk.next()) == "transactional"
    assert [desk.next() for _ in range(20)] == [None] * 20
    claims = asked.count("claim.before")
    assert claims <= 2
    clock.advance(0.39)
    assert [desk.next() for _ in range(20)] == [None] * 20
    assert asked.count("claim.before") == claims
    clock.advance(0.02)
    assert lane_of(desk.next()) == "transactional"


def test_the_closed_gate_of_one_sender_or_lane_holds_up_no_other(make_app, clock):
    app = make_app({"clock": clock}, **UNPACED, pace_long_code=0.1)
    senders = ["+14155550101", "+14155550102", "ACME"]
    caller, desk = new_caller(app, allowed_senders=senders), Desk(world_of(app), threads=9)
    for sender in ("+14155550101", "+14155550102", "ACME"):
        queue(caller, 2, to="+4915112345678", sender=sender)
    begun = take(desk, 9)
    assert Counter(each.message.sender for each in begun if each) == {"+14155550101": 1, "+14155550102": 1, "ACME": 2}
    tester = new_caller(app, mode="test")
    queue(tester, 2)
    desk.expect_news()
    assert [lane_of(each) for each in take(desk, 3)] == ["test", "test", None]


def test_closed_it_begins_nothing_and_still_gives_out_what_has_begun(app):
    queue(new_caller(app), 9)
    desk = Desk(world_of(app), threads=4)
    first = desk.next()
    desk.close()
    assert not desk.is_empty()
    rest = take(desk, 5)
    assert [lane_of(each) for each in rest] == ["transactional", "transactional", None, None, None]
    assert desk.is_empty()
    desk.done(first)
    assert desk.next() is None
    assert counts_by_status(world_of(app)) == {"sending": 3, "queued": 6}


def test_while_plivo_answers_no_bulk_a_code_goes_out(make_app, dispatching):
    answering, asked = threading.Event(), []

    def answer(message):
        asked.append(message.to)
        if message.to != CODE:
            assert answering.wait(30), "nobody let it answer"
        return taken()

    app = make_app({"provider": ScriptedProvider(answer)}, **UNPACED, dispatch_threads=2)
    caller, world = new_caller(app), world_of(app)
    queue(caller, 12, category="marketing")
    dispatching(app)
    try:
        eventually(lambda: len(asked) == 2)
        code = new_caller(app).send(to=CODE, category="otp", headers=ASYNC)
        assert code.status_code == 202
        eventually(lambda: counts_by_status(world).get("sent") == 1)
        assert Counter(number == CODE for number in asked) == {False: 2, True: 1}
    finally:
        answering.set()
    eventually(lambda: counts_by_status(world) == {"sent": 13})

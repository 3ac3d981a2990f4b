"""Doubts about joined calls: what else of ours a record of the list may be, and how many are looked into at once."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from smsapi.clock import ManualClock
from smsapi.plivo.lookup import Page, Record
from smsapi.plivo.outcomes import Unknown
from tests.conftest import new_caller
from tests.support.batching import queue_batch, statuses_of
from tests.support.dispatching import run_due, world_of
from tests.support.examples import sized
from tests.support.providers import Scripted, page, taken

MANY = sized(200, 1000)
NUMBERS = [f"+1415556{1000 + place}" for place in range(5)]


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


def record(number, at):
    return Record(str(uuid4()), number.removeprefix("+"), "14155550100", at, "sent", None, 1, "0.00550")


def test_a_record_that_may_be_one_sent_in_a_joined_call_is_not_taken_for_another_s(make_app, clock):
    provider = Scripted(taken(), Unknown("no answer"))
    app = make_app({"provider": provider, "clock": clock}, plivo_list_per_minute=6000)
    world, caller = world_of(app), new_caller(app)
    sent, _ = queue_batch(caller, NUMBERS)
    run_due(world)
    doubtful, ids = queue_batch(caller, NUMBERS[:3])
    run_due(world)
    assert (statuses_of(world, sent), statuses_of(world, doubtful)) == ({"sent": 5}, {"unknown": 3})
    at = clock.now()
    # To the first number two texts, which is both of ours; to the second one, which is either; to the third none yet.
    found = [record(NUMBERS[0], at), record(NUMBERS[0], at), record(NUMBERS[1], at)]
    provider.listed = lambda query: page(*[each for each in found if query.to in {None, f"+{each.to}"}])
    clock.advance(61)
    run_due(world)
    seen = [caller.message(each) for each in ids]
    assert [each["status"] for each in seen] == ["sent", "unknown", "queued"]
    assert caller.events(ids[1])[-1]["data"]["candidates"] == [found[2].message_uuid]


def test_hundreds_of_one_call_are_settled_by_one_reading_of_the_list(make_app, clock):
    numbers = [f"+1415{5561000 + place}" for place in range(MANY)]
    provider = Scripted(Unknown("no answer"), taken())
    app = make_app({"provider": provider, "clock": clock}, plivo_list_per_minute=6000, batch_chunk_size=MANY)
    world, caller = world_of(app), new_caller(app)
    batch, _ = queue_batch(caller, numbers, joined=MANY)
    run_due(world)
    assert statuses_of(world, batch) == {"unknown": MANY}
    at = clock.now()
    found = [record(number, at) for number in numbers[: MANY * 3 // 5]]

    def look_up(query):
        assert query.to is None
        last = query.offset + 20
        return Page(tuple(found[query.offset : last]), len(found), last if last < len(found) else None)

    provider.listed = look_up
    clock.advance(61)
    run_due(world)
    assert len(provider.queries) == MANY * 3 // 5 // 20
    assert statuses_of(world, batch) == {"sent": MANY * 3 // 5, "queued": MANY * 2 // 5}
    while run_due(world):
        pass
    assert statuses_of(world, batch) == {"sent": MANY}
    # In smaller company than before.
    assert [len(call.numbers) for call in provider.asked] == [MANY, *[MANY // 10] * 4]

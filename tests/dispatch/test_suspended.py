"""A host that is suspended within an attempt does not call Plivo under a lease that is over."""

import pytest

from smsapi.clock import SharedClock
from smsapi.send.deliver import run
from tests.conftest import new_caller
from tests.support.batching import numbers, queue_batch, statuses_of
from tests.support.dispatching import ASYNC, claim, run_due, world_of
from tests.support.providers import Scripted, taken

LEASE = 30


@pytest.fixture
def database_url(sqlite_url):
    return sqlite_url


@pytest.mark.parametrize("joined", [None, 20])
def test_what_was_begun_before_the_host_was_suspended_is_not_sent_by_it_any_more(make_app, clock, joined):
    seconds = [0.0]
    shared = SharedClock(clock.now, counter=lambda: seconds[0])
    shared.set()
    provider = Scripted(taken())
    app = make_app({"provider": provider, "clock": shared}, lease_seconds=LEASE, pace_long_code=100.0)
    world, caller = world_of(app), new_caller(app)
    batch, _ = queue_batch(caller, numbers(3), joined=joined)
    begun = claim(world)
    assert begun
    seconds[0] += LEASE + 1
    for each in begun:
        run(world, each, wait_until=world.clock.now())
    assert provider.asked == []
    # Nothing was sent, and nobody else has looked meanwhile: it goes on.
    assert statuses_of(world, batch) == {"queued": 3}


def test_the_end_of_the_lease_is_the_end_of_the_call(scripted, clock):
    world, caller, provider = scripted(taken())
    caller.send(headers=ASYNC)
    run_due(world)
    (asked,) = provider.asked
    assert (asked.not_after - clock.now()).total_seconds() == LEASE
    queue_batch(caller, numbers(3), joined=20)
    run_due(world)
    assert {(each.not_after - clock.now()).total_seconds() for each in provider.asked} == {LEASE}

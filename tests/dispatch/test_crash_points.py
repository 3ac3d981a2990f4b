"""A process that dies by SIGKILL, at any point of the way, loses nothing, doubles nothing, leaves nothing in doubt."""

import re
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

import smsapi
from smsapi.clock import ManualClock
from smsapi.db import Database
from smsapi.plivo.simulator import Simulator
from smsapi.plivo.simulator.faults import Rule
from tests.chaos.callers import Callers, orders
from tests.chaos.tally import count, count_unsettled, stories
from tests.conftest import AUTH_ID, AUTH_TOKEN, eventually, free_port, new_caller
from tests.support.batching import chunks_of, queue_batch, statuses_of
from tests.support.dispatching import ASYNC, attempts_of, run_due, world_of
from tests.support.dying import Mortal
from tests.support.providers import Scripted, taken
from tests.support.served import environment, make_key

# The way of a message from the request to the note of what came of its call.
WAY = (
    "accept.before",
    "accept.keyed",
    "accept.committed",
    "begin.before",
    "begin.committed",
    "call.before",
    "call.returned",
    "settle.before",
    "settle.committed",
    "answer.before",
    "answer.kept",
    "claim.before",
    "claim.committed",
)
# The way of messages of a batch that share a call.
TOGETHER = (
    "joined.begun",
    "joined.before",
    "joined.returned",
    "joined.settling",
    "joined.settled",
)
# What is done about those whose process died on the way: it comes only when a lease or a lock is over.
AFTERMATH = (
    "list.before",
    "list.returned",
    "reconcile.committed",
    "chore.claimed",
    "chore.committed",
    "late.committed",
)
# PostgreSQL stores the key and the message in one statement.
NOT_ON_POSTGRESQL = {"accept.keyed"}
# Plivo takes some without a word and drops others without one, so that there is something to look up.
SPEECHLESS = [Rule("reset_before", 0.15), Rule("reset_after", 0.15)]


@pytest.fixture
def speechless():
    playing = Simulator(auth_id=AUTH_ID, auth_token=AUTH_TOKEN, requests_per_5s=None, lists_per_minute=None)
    playing.faults.replace(SPEECHLESS)
    with playing:
        yield playing


@pytest.fixture
def store(database_url):
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def mortal(database_url, speechless, tmp_path):
    environ = environment(
        database_url,
        speechless.url,
        SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS="1",
        SMSAPI_LEASE_SECONDS="2.5",
        SMSAPI_RECONCILE_AFTER_SECONDS="0.5",
        SMSAPI_PLIVO_LIST_PER_MINUTE="6000",
        SMSAPI_RETRY_BASE_SECONDS="0.05",
        SMSAPI_BREAKER_OPEN_SECONDS="0.2",
    )
    with Mortal(environ, free_port(), tmp_path / "log") as mortal:
        yield mortal


def test_every_point_that_the_code_names_is_one_at_which_it_dies_here():
    source = Path(smsapi.__file__).parent
    named = [name for path in source.rglob("*.py") for name in re.findall(r'checkpoint\("(.*?)"', path.read_text())]
    # Those of the webhooks and of batches have tests beside theirs; nobody is texted by them.
    here = {name for name in named if not name.startswith(("webhook.", "batch.", "upload."))}
    assert sorted(here) == sorted(WAY + TOGETHER + AFTERMATH)


def deaths(store):
    """Yield points and at which passing to die: alone at first, then with others at work."""
    way = [point for point in WAY if not store.is_postgresql or point not in NOT_ON_POSTGRESQL]
    return [(point, 1) for point in way] + [(point, 5) for point in way] + [(point, 1) for point in AFTERMATH]


def test_dying_at_any_point_loses_nothing_and_doubles_nothing(mortal, database_url, store, speechless):
    with Callers([mortal.url], make_key(database_url), orders(once=0.2), per_second=15) as callers:
        for point, passing in deaths(store):
            mortal.live(point, passing)
            assert mortal.death() == -signal.SIGKILL, mortal.said()
        mortal.live()
        callers.ask_no_more()
        eventually(callers.are_done)
        eventually(lambda: count_unsettled(store) == 0)
    tally = count(store, speechless.store.texts_by_number(), callers.ledger)
    assert tally.is_clean, "\n".join(stories(store, tally, callers.ledger))
    assert tally.accepted > len(WAY)
    # Those who asked once and were not answered are the only ones whose message may be there or not.
    unheard = {number for number in callers.ledger.asked if number not in callers.ledger.acknowledged}
    assert all(callers.ledger.asked[number].once for number in unheard)


def test_dying_at_any_point_of_a_joined_call_loses_nobody_and_texts_nobody_twice(mortal, make_app, store, speechless):
    caller = new_caller(make_app())
    numbers = [f"+1415{5611000 + place}" for place in range(600)]
    # The last of what is done afterwards is done for callers, of whom there are none.
    points = [(point, passing) for point in TOGETHER for passing in (1, 3)] + [(point, 1) for point in AFTERMATH[:-1]]
    batches = []
    for part, (point, passing) in enumerate(points):
        batches.append(queue_batch(caller, numbers[part * 30 : part * 30 + 30], joined=6)[0])
        if point in AFTERMATH:
            # Otherwise it would be chance whether anything is left that has an aftermath.
            mortal.live("joined.before", 1)
            assert mortal.death() == -signal.SIGKILL, mortal.said()
        mortal.live(point, passing)
        assert mortal.death() == -signal.SIGKILL, (point, mortal.said())
    mortal.live()
    eventually(lambda: count_unsettled(store) == 0)
    sent = {f"+{number}": taken for number, taken in speechless.store.texts_by_number().items()}
    assert sent == dict.fromkeys(numbers[: 30 * len(points)], 1)
    # Of those that the list was asked for it knew the end.
    stand = [statuses_of(world_of(caller.app), batch) for batch in batches]
    assert all(found.keys() <= {"sent", "delivered"} for found in stand), stand
    assert any(chunk is not None for batch in batches for chunk in chunks_of(world_of(caller.app), batch))


def test_a_sender_that_stands_still_before_its_call_does_not_make_it_when_its_lease_is_over(make_app):
    def stand_still(name):
        if name == "call.before" and not stood:
            stood.append(name)
            # Unknown at the end of the lease, shown not to have been taken a minute later, then sent by another.
            for seconds in (31, 61, 1):
                clock.advance(seconds)
                assert run_due(world) == 1

    clock, provider, stood = ManualClock(datetime.now(UTC)), Scripted(taken()), []
    app = make_app({"clock": clock, "provider": provider, "checkpoint": stand_still}, lease_seconds=30)
    world, caller = world_of(app), new_caller(app)
    message = caller.send(headers=ASYNC).get_json()
    assert run_due(world) == 1
    assert len(provider.asked) == 1
    assert caller.message(message["id"])["status"] == "sent"
    assert [row.outcome for row in attempts_of(world, message)] == ["unavailable", "accepted"]

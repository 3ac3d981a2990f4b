"""A process that dies by SIGKILL, at any point of the way, loses nothing, doubles nothing, leaves nothing in doubt."""

import re
import signal
from pathlib import Path

import pytest

import smsapi
from smsapi.db import Database
from smsapi.plivo.simulator import Simulator
from smsapi.plivo.simulator.faults import Rule
from tests.chaos.callers import Callers, orders
from tests.chaos.tally import count, count_unsettled, stories
from tests.conftest import AUTH_ID, AUTH_TOKEN, eventually, free_port
from tests.support.dying import Mortal
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
def mortal(database_url, speechless, tmp_path):
    environ = environment(
        database_url,
        speechless.url,
        SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS="2",
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
    assert sorted(named) == sorted(WAY + AFTERMATH)


def deaths(store):
    """Yield points and at which passing to die: alone at first, then with others at work."""
    way = [point for point in WAY if not store.is_postgresql or point not in NOT_ON_POSTGRESQL]
    return [(point, 1) for point in way] + [(point, 5) for point in way] + [(point, 1) for point in AFTERMATH]


def test_dying_at_any_point_loses_nothing_and_doubles_nothing(mortal, database_url, speechless):
    store = Database(database_url)
    with Callers([mortal.url], make_key(database_url), orders(once=0.2), per_second=40) as callers:
        for point, passing in deaths(store):
            mortal.live(point, passing)
            assert mortal.death() == -signal.SIGKILL, mortal.said()
        mortal.live()
        callers.ask_no_more()
        eventually(callers.are_done, seconds=20)
        eventually(lambda: count_unsettled(store) == 0, seconds=20)
    tally = count(store, speechless.store.texts_by_number(), callers.ledger)
    assert tally.is_clean, "\n".join(stories(store, tally, callers.ledger))
    assert tally.accepted > len(WAY)
    # Those who asked once and were not answered are the only ones whose message may be there or not.
    unheard = {number for number in callers.ledger.asked if number not in callers.ledger.acknowledged}
    assert all(callers.ledger.asked[number].once for number in unheard)
    store.close()

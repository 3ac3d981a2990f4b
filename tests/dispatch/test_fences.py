"""The fences around a message: whoever lost the hold of it changes nothing, and whoever has it loses nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Connection

from smsapi.clock import ManualClock
from smsapi.db import Database
from smsapi.dispatch.run import run_claim
from smsapi.errors import StoreUnavailable
from smsapi.messages.statuses import SENDING
from smsapi.plivo.outcomes import Rejected, Unavailable
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, attempts_of, claim, row_of, run_due, world_of
from tests.support.providers import Scripted, taken

LEASE = 30


class Interrupted(Random):
    """Chance that lets something happen between the end of an attempt and what is made of it."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__()
        self._happen = happen

    def uniform(self, low: float, _high: float) -> float:
        self._happen()
        return low


class ForgetfulDatabase(Database):
    """A store that does what it is told, and whose word of having done it is lost once."""

    losing: int | None = None

    def lose_acknowledgement(self, *, after: int) -> None:
        """Let so many transactions pass, then lose the acknowledgement of one."""
        self.losing = after

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with super().transaction() as connection:
            yield connection
        if self.losing is not None:
            self.losing = self.losing - 1 if self.losing else None
            if self.losing is None:
                raise StoreUnavailable("The database does not answer; try again.", retry_after_seconds=1)


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def queued(make_app, clock):
    """Make an app with these in place, a caller of it, and a message of theirs in the queue."""

    def make(**replacements):
        app = make_app({"clock": clock, **replacements}, lease_seconds=LEASE)
        caller = new_caller(app)
        return world_of(app), caller, caller.send(headers=ASYNC).get_json()

    return make


def types_of(caller, message):
    return [event["type"] for event in caller.events(message["id"])]


@pytest.mark.parametrize(
    "outcome",
    [Rejected("message", "no", 400), Rejected("account", "no", 401), Unavailable("throttled", 429)],
    ids=["rejected", "account", "unavailable"],
)
def test_what_came_of_a_call_is_not_for_its_worker_to_say_once_another_has_the_message(queued, clock, outcome):
    theirs = []

    def take_over(_):
        clock.advance(LEASE + 1)
        theirs.extend(claim(world))

    provider = Scripted(outcome, before=take_over)
    world, caller, message = queued(provider=provider)
    assert run_due(world) == 1
    assert row_of(world, message).status == "sending"
    run_claim(world, theirs[0])
    assert caller.message(message["id"])["status"] == "unknown"
    assert types_of(caller, message) == ["message.queued", "message.unknown"]
    clock.advance(86400)
    assert run_due(world) == 0
    assert len(provider.asked) == 1


def test_a_worker_does_not_give_back_what_another_has_claimed(queued, clock):
    theirs = []

    def take_over():
        clock.advance(LEASE + 1)
        theirs.extend(claim(world))

    provider = Scripted(Unavailable("throttled", 429, retry_after_seconds=5), taken())
    world, caller, message = queued(provider=provider, random=Interrupted(take_over))
    (mine,) = claim(world)
    run_claim(world, mine)
    assert row_of(world, message).due_at == clock.now() + timedelta(seconds=LEASE)
    clock.advance(LEASE - 1)
    assert claim(world) == []
    run_claim(world, theirs[0])
    assert caller.message(message["id"])["status"] == "sent"
    assert [row.epoch for row in attempts_of(world, message)] == [1, 2]


def test_an_attempt_that_begins_late_in_the_lease_has_a_whole_lease_for_its_call(queued, clock):
    taken_over = []

    def look_for_work(_):
        clock.advance(LEASE - 1)
        taken_over.append(run_due(world))

    world, caller, message = queued(provider=Scripted(taken(), before=look_for_work))
    (mine,) = claim(world)
    clock.advance(LEASE - 1)
    run_claim(world, mine)
    assert taken_over == [0]
    assert types_of(caller, message) == ["message.queued", "message.sent"]


def test_a_worker_that_comes_too_late_does_not_judge_a_message_that_another_has_claimed(queued, clock):
    seen = []

    def lose_twice(_):
        clock.advance(LEASE + 1)
        (stalled,) = claim(world)
        clock.advance(LEASE + 1)
        (current,) = claim(world)
        for each in (stalled, current):
            run_claim(world, each)
            seen.append(row_of(world, message).status)

    world, caller, message = queued(provider=Scripted(taken(), before=lose_twice))
    assert run_due(world) == 1
    assert seen == ["sending", "unknown"]
    assert types_of(caller, message) == ["message.queued", "message.unknown", "message.sent"]


@pytest.mark.parametrize("after", [0, 1], ids=["of-the-attempt", "of-its-outcome"])
def test_a_lost_acknowledgement_is_neither_a_lost_message_nor_a_second_call(queued, database_url, clock, after):
    database, provider = ForgetfulDatabase(database_url), Scripted(taken())
    world, caller, message = queued(database=database, provider=provider)
    (mine,) = claim(world)
    database.lose_acknowledgement(after=after)
    run_claim(world, mine)
    assert database.losing is None
    assert caller.message(message["id"])["status"] == "sent"
    assert types_of(caller, message) == ["message.queued", "message.sent"]
    assert [row.outcome for row in attempts_of(world, message)] == ["accepted"]
    clock.advance(86400)
    assert run_due(world) == 0
    assert len(provider.asked) == 1


def test_what_is_queued_keeps_its_due_time_whatever_a_claim_of_it_says(queued, clock):
    world, caller, message = queued(provider=Scripted(taken()))
    (mine,) = claim(world)
    run_claim(world, replace(mine, status=SENDING))
    assert row_of(world, message).due_at == clock.now() + timedelta(seconds=LEASE)
    clock.advance(LEASE)
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "sent"

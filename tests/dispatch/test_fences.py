"""The fences around a message: whoever lost the hold of it changes nothing, and whoever has it loses nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from smsapi.clock import ManualClock
from smsapi.db import Database
from smsapi.dispatch.chores import run_chore
from smsapi.dispatch.claims import Chore, Claim, claim_chores
from smsapi.errors import StoreUnavailable
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from smsapi.send.deliver import run
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, attempts_of, claim, row_of, run_due, world_of
from tests.support.providers import Scripted, taken

LEASE = 30


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


def chores(world):
    with world.database.transaction() as connection:
        return claim_chores(connection, world.clock.now(), Chore.OTHER, lease_seconds=LEASE, limit=10)


def types_of(caller, message):
    return [event["type"] for event in caller.events(message["id"])]


def test_a_worker_that_comes_too_late_changes_nothing_that_was_decided_meanwhile(queued, clock):
    def lose_it(_):
        clock.advance(LEASE + 1)
        assert run_due(world) == 1  # the lease is over: unknown
        clock.advance(61)
        assert run_due(world) == 1  # not in Plivo's list: queued again
        provider._before = lambda _: None
        assert run_due(world) == 1  # sent by another

    provider = Scripted(Rejected("message", "no", 400), taken(), before=lose_it)
    world, caller, message = queued(provider=provider)
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "sent"
    told = ["message.queued", "message.unknown", "message.queued", "message.sent"]
    assert types_of(caller, message) == told
    assert len(provider.asked) == 2


def test_a_chore_that_was_claimed_twice_is_done_once(queued, clock):
    def lose_twice(_):
        clock.advance(LEASE + 1)
        (stalled,) = chores(world)
        clock.advance(LEASE + 1)
        (current,) = chores(world)
        for each in (stalled, current):
            run_chore(world, each)
            seen.append(row_of(world, message).status)

    seen = []
    world, caller, message = queued(provider=Scripted(taken(), before=lose_twice))
    assert run_due(world) == 1
    assert seen == ["sending", "unknown"]
    assert types_of(caller, message) == ["message.queued", "message.unknown", "message.sent"]


def test_a_chore_finds_nothing_to_do_where_the_call_was_settled_meanwhile(queued, clock):
    def claim_it(_):
        clock.advance(LEASE + 1)
        claimed.extend(chores(world))

    claimed = []
    world, caller, message = queued(provider=Scripted(Unavailable("throttled", 429), before=claim_it))
    assert run_due(world) == 1
    before = row_of(world, message)
    assert before.status == "queued"
    run_chore(world, claimed[0])
    assert row_of(world, message) == before
    assert types_of(caller, message) == ["message.queued"]


def test_an_attempt_has_a_whole_lease_for_its_call(queued, clock):
    taken_over = []

    def look_for_work(_):
        clock.advance(LEASE - 1)
        taken_over.append(run_due(world))

    world, caller, message = queued(provider=Scripted(taken(), before=look_for_work))
    clock.advance(3600)
    assert run_due(world) == 1
    assert taken_over == [0]
    assert types_of(caller, message) == ["message.queued", "message.sent"]


def test_a_lost_acknowledgement_of_an_outcome_is_neither_a_lost_message_nor_a_second_call(queued, database_url, clock):
    database, provider = ForgetfulDatabase(database_url), Scripted(taken())
    world, caller, message = queued(database=database, provider=provider)
    (mine,) = claim(world)
    database.lose_acknowledgement(after=0)
    run(world, mine, wait_until=clock.now())
    assert database.losing is None
    assert caller.message(message["id"])["status"] == "sent"
    assert types_of(caller, message) == ["message.queued", "message.sent"]
    assert [row.outcome for row in attempts_of(world, message)] == ["accepted"]
    clock.advance(3600)
    assert run_due(world) == 0
    assert len(provider.asked) == 1


@pytest.mark.parametrize("after", [1, 2], ids=["of-the-attempt", "of-its-outcome"])
def test_a_waiting_caller_gets_one_message_whatever_acknowledgement_is_lost(make_app, database_url, clock, after):
    database, provider = ForgetfulDatabase(database_url), Scripted(taken())
    app = make_app({"clock": clock, "database": database, "provider": provider}, lease_seconds=LEASE)
    caller = new_caller(app)
    # The first is that of taking it; on PostgreSQL that is a statement and no transaction.
    database.lose_acknowledgement(after=after - database.is_postgresql)
    answer = caller.send()
    assert database.losing is None
    assert (answer.status_code, answer.get_json()["status"]) == (201, "sent")
    assert types_of(caller, answer.get_json()) == ["message.queued", "message.sent"]
    assert len(provider.asked) == 1


def test_what_waits_keeps_its_due_time_whatever_a_claim_of_it_says(queued, clock):
    world, caller, message = queued(provider=Scripted(taken()))
    row = row_of(world, message)
    run_chore(world, Claim(row.id, row.epoch))
    assert row_of(world, message) == row
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "sent"


def test_a_doubt_that_comes_between_a_chores_claim_and_its_run_is_looked_into_all_the_same(queued, clock):
    def claim_it(_):
        clock.advance(LEASE + 1)
        claimed.extend(chores(world))

    claimed = []
    world, _, message = queued(provider=Scripted(Unknown("no answer"), taken(), before=claim_it))
    assert run_due(world) == 1
    run_chore(world, claimed[0])
    assert row_of(world, message).due_at == clock.now() + timedelta(seconds=60)
    clock.advance(61)
    run_due(world)
    assert row_of(world, message).status == "queued"

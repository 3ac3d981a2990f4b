"""The circuit: while Plivo fails, all services leave it alone together, and one call finds out when it works again."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from smsapi.pacing.gates import CIRCUIT, Admitted, read_gates
from smsapi.pacing.health import note_outcome
from smsapi.plivo.outcomes import NOTHING_ASKED, Rejected, Unavailable, Unknown
from smsapi.settings import read_settings
from tests.conftest import eventually, new_caller
from tests.support.dispatching import ASYNC

REFUSED = Unavailable("the connection was refused")
BROKEN = Unknown("server error", 500)
THROTTLED = Unavailable("throttled", 429)
BUSY = Unavailable("all connections are busy", local=True)
NEVER_ASKED = Rejected("message", "the text cannot be written down", NOTHING_ASKED)


@pytest.fixture
def opened(services):
    """Services whose circuit has just opened, with ten messages in the queue."""
    services.queue(13)
    assert services.send(REFUSED, BROKEN, REFUSED) == 3
    return services


def test_it_opens_for_all_after_so_many_failures_in_a_row_of_all_together(services):
    services.queue(5)
    assert services.send(REFUSED, BROKEN) == 2
    assert services.stops()["circuit"]["failures"] == 2
    assert services.send(REFUSED, None) == 1
    assert services.are_stopped()
    assert len(services.plivo.asked) == 3


def test_while_it_is_open_nothing_is_attempted_and_nothing_is_lost(opened, clock):
    held = opened.callers[1].send(headers={"Prefer": "wait=5"})
    assert (held.status_code, held.get_json()["status"], held.get_json()["attempts"]) == (202, "queued", 0)
    for _ in range(9):
        clock.advance(1.1)
        assert opened.are_stopped()
    assert opened.attempts() == len(opened.plivo.asked) == 3
    assert opened.callers[0].get("/v1/messages?status=failed").get_json()["data"] == []


def test_after_its_time_one_probe_goes_out_and_the_others_wait_for_it(opened, clock):
    clock.advance(10)
    (probe,) = opened.begin(limit=5)
    assert opened.are_stopped()
    held = opened.callers[1].send(headers={"Prefer": "wait=5"})
    assert (held.status_code, held.get_json()["attempts"]) == (202, 0)
    opened.make(probe)
    assert opened.stops() == {}
    assert len(opened.begin(limit=100)) == 10 + 1 + 1  # the two that were refused are due again, and the one held


def test_a_probe_that_fails_keeps_all_away_for_the_whole_time_again(opened, clock):
    since = opened.stops()["circuit"]["since"]
    clock.advance(10)
    assert opened.send(BROKEN) == 1
    clock.advance(9.9)
    assert opened.are_stopped()
    clock.advance(0.1)
    assert opened.send(REFUSED, None) == 1
    assert opened.stops()["circuit"] == {"failures": 5, "open": True, "since": since}


def test_a_probe_that_is_never_heard_of_again_is_followed_by_another(opened, clock):
    clock.advance(10)
    (lost,) = opened.begin()
    clock.advance(23.9)  # twice the longest call
    assert opened.are_stopped()
    clock.advance(0.1)
    (second,) = opened.begin(limit=5)
    opened.make(second, REFUSED)
    assert opened.are_stopped()
    # The first speaks after all, and it is no less true for that.
    opened.make(lost)
    assert not opened.are_stopped()


def test_a_probe_that_showed_nothing_makes_the_next_caller_the_probe(opened, clock):
    clock.advance(10)
    assert opened.send(BUSY, NEVER_ASKED) == 2
    (probe,) = opened.begin(limit=5)
    assert opened.are_stopped()
    opened.make(probe)
    assert not opened.are_stopped()


def test_an_answer_of_a_plivo_that_works_starts_the_count_again(services):
    services.queue(12)
    refused = (Rejected("message", "no such number", 400), Rejected("account", "not enabled", 403))
    for alive in (None, THROTTLED, *refused):
        assert services.send(REFUSED, BROKEN, alive) == 3
        assert services.stops() == {}


def test_what_says_nothing_of_plivo_neither_counts_nor_clears(services):
    services.queue(8)
    assert services.send(BUSY, NEVER_ASKED, REFUSED, BROKEN, BUSY, NEVER_ASKED) == 6
    assert services.stops()["circuit"]["failures"] == 2
    assert services.send(REFUSED) == 1
    assert services.are_stopped()


def test_any_answer_of_a_probe_opens_the_way_for_all(services, clock):
    services.queue(16)
    for alive in (None, THROTTLED, Rejected("message", "no such number", 400)):
        assert services.send(REFUSED, REFUSED, REFUSED) == 3
        clock.advance(10)
        assert services.send(alive) == 1
        assert services.stops() == {}


def test_a_late_success_of_a_call_that_began_before_does_not_let_all_back(services, clock):
    services.queue(15)
    for failures_before in range(3):
        services.send(*[REFUSED] * failures_before)
        (early,) = services.begin()
        services.send(*[REFUSED] * (3 - failures_before))
        services.make(early)
        assert services.are_stopped()
        clock.advance(10)
        assert services.send(None) == 1
        assert services.stops() == {}


def test_a_late_failure_of_a_call_that_began_before_does_not_make_it_longer(services, clock):
    services.queue(15)
    for failures_before in range(3):
        services.send(*[REFUSED] * failures_before)
        (early,) = services.begin()
        services.send(*[REFUSED] * (3 - failures_before))
        clock.advance(8)
        services.make(early, BROKEN)
        clock.advance(2)
        assert services.send(None) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_of_two_failures_at_once_both_are_counted(database, clock):
    """The second is noted while the first is not yet to be seen."""

    def note(connection):
        settings = read_settings({}, breaker_failures=9)
        note_outcome(database, connection, REFUSED, Admitted(), now=clock.now(), settings=settings)

    def note_second():
        with database.transaction() as connection:
            note(connection)

    with ThreadPoolExecutor(1) as thread:
        with database.transaction() as connection:
            note(connection)
            second = thread.submit(note_second)
            eventually(lambda: somebody_waits_for_a_lock(database))
        second.result(10)
    with database.read() as connection:
        assert read_gates(connection, [CIRCUIT])[CIRCUIT].detail["failures"] == 2


def somebody_waits_for_a_lock(database):
    with database.read() as connection:
        return connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one()


def test_a_caller_who_waits_long_enough_waits_for_the_circuit_and_is_the_probe(opened, clock):
    opened.plivo.answer, since = None, clock.now()
    answer = opened.callers[0].send(headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.get_json()["attempts"]) == (201, 1)
    assert (clock.now() - since).total_seconds() >= 10
    assert opened.stops() == {}


def test_test_keys_neither_wait_for_the_circuit_nor_speak_for_it(opened):
    tester = new_caller(opened.apps[0], mode="test")
    assert tester.send(to="+14155550001").status_code == 201
    assert tester.send(to="+14155550006").get_json()["status"] == "unknown"
    assert tester.send(to="+14155550002", headers=ASYNC).status_code == 202
    assert len(opened.begin()) == 1
    assert opened.stops()["circuit"]["failures"] == 3

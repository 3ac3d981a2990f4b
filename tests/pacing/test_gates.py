"""The gates on both stores: all are passed or none, by many threads and processes at one pace, and nobody is stuck."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import pytest
from sqlalchemy import select

from smsapi.pacing.gates import (
    ACCOUNT,
    CIRCUIT,
    PAUSE,
    Admitted,
    Closed,
    Passing,
    admit,
    close_gate,
    open_gate,
    pay,
    read_gates,
)
from smsapi.pacing.health import note_outcome
from smsapi.pacing.models import gates
from smsapi.pacing.tolls import CATCH_UP_SECONDS, Toll
from smsapi.plivo.outcomes import Accepted, Rejected, Unavailable
from smsapi.settings import read_settings

pytestmark = pytest.mark.both_stores

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST, SECOND, THIRD = (Toll(f"pace:{name}", 2, 4.0) for name in ("a", "b", "c"))
TOLLS = (FIRST, SECOND, THIRD)


def ask(database, *tolls, now=NOW, lane="transactional", caller_waits=False):
    with database.transaction() as connection:
        passing = Passing(lane, tolls, caller_waits=caller_waits)
        return admit(database, connection, passing, now, probe_seconds=20.0)


def rows(database):
    with database.read() as connection:
        return {row.key: (row.opens_at, row.detail) for row in connection.execute(select(gates))}


def close(database, key, opens_at=None, **detail):
    with database.transaction() as connection:
        close_gate(database, connection, key, detail, opens_at=opens_at)


def test_who_passes_pays_every_toll(database):
    assert ask(database, *TOLLS) == Admitted()
    paid = NOW + timedelta(seconds=0.5 - CATCH_UP_SECONDS)
    assert rows(database) == {toll.key: (paid, {}) for toll in TOLLS}
    assert ask(database, *TOLLS, now=paid - timedelta(microseconds=1)) == Closed("pace:a", paid)
    assert ask(database, *TOLLS, now=paid) == Admitted()


@pytest.mark.parametrize("closed", TOLLS, ids=lambda toll: toll.key)
def test_a_closed_toll_leaves_the_others_unpaid(database, closed):
    assert ask(database, *TOLLS) == Admitted()
    later = NOW + timedelta(seconds=10)
    for toll in TOLLS:
        close(database, toll.key, later + timedelta(seconds=3) if toll == closed else later)
    before = rows(database)
    assert ask(database, *TOLLS, now=later) == Closed(closed.key, later + timedelta(seconds=3))
    assert rows(database) == before


def test_of_several_closed_tolls_the_last_to_open_is_named(database):
    for seconds, toll in zip((2, 9, 4), TOLLS, strict=True):
        close(database, toll.key, NOW + timedelta(seconds=seconds))
    assert ask(database, *TOLLS) == Closed("pace:b", NOW + timedelta(seconds=9))


@pytest.mark.parametrize(
    ("key", "detail", "opens_at", "said"),
    [
        (PAUSE, {}, None, None),
        ("pause:transactional", {}, None, None),
        (CIRCUIT, {"open": True}, NOW + timedelta(seconds=1), NOW + timedelta(seconds=1)),
        (ACCOUNT, {"reason": "credit"}, NOW + timedelta(seconds=1), NOW + timedelta(seconds=1)),
    ],
    ids=["pause", "pause of the lane", "circuit", "account"],
)
def test_a_stop_lets_nobody_through_and_takes_no_toll(database, key, detail, opens_at, said):
    assert ask(database, FIRST) == Admitted()
    close(database, key, opens_at, **detail)
    before = rows(database)
    # The second pace has no row yet, and gets none.
    assert ask(database, FIRST, SECOND, now=NOW + timedelta(seconds=0.9)) == Closed(key, said)
    assert rows(database) == before
    with database.transaction() as connection:
        assert open_gate(connection, key)
        assert not open_gate(connection, key)
    assert ask(database, FIRST, SECOND, now=NOW + timedelta(seconds=0.9)) == Admitted()


def test_the_pause_of_a_lane_holds_for_that_lane_only(database):
    close(database, "pause:marketing")
    assert ask(database, lane="marketing") == Closed("pause:marketing", None)
    assert ask(database, lane="transactional") == Admitted()
    assert ask(database, lane="otp") == Admitted()


def test_a_count_of_failures_closes_nothing_and_is_watched(database):
    close(database, CIRCUIT, NOW, failures=3, open=False)
    before = rows(database)
    assert ask(database) == Admitted(frozenset({CIRCUIT}))
    assert rows(database) == before


def test_a_waiting_caller_is_the_probe_of_the_account_before_its_time_but_of_nothing_else(database):
    close(database, ACCOUNT, NOW + timedelta(seconds=5), reason="credit")
    probe = Admitted(frozenset({ACCOUNT}), frozenset({ACCOUNT}))
    assert ask(database) == Closed(ACCOUNT, NOW + timedelta(seconds=5))
    assert ask(database, caller_waits=True) == probe
    # While it is out even a caller who waits has to, until it must have ended.
    assert ask(database, caller_waits=True) == Closed(ACCOUNT, NOW + timedelta(seconds=20))
    assert ask(database, now=NOW + timedelta(seconds=20)) == probe
    close(database, CIRCUIT, NOW + timedelta(seconds=5), open=True)
    assert ask(database, caller_waits=True) == Closed(CIRCUIT, NOW + timedelta(seconds=5))


def test_a_probe_pays_like_everybody_and_one_that_cannot_is_none(database):
    close(database, CIRCUIT, NOW, open=True, failures=5)
    close(database, FIRST.key, NOW + timedelta(seconds=1))
    before = rows(database)
    assert ask(database, FIRST) == Closed(FIRST.key, NOW + timedelta(seconds=1))
    assert rows(database) == before
    later = NOW + timedelta(seconds=1)
    assert ask(database, FIRST, now=later) == Admitted(frozenset({CIRCUIT}), frozenset({CIRCUIT}))
    assert rows(database)[FIRST.key][0] == later + timedelta(seconds=0.5)


def test_a_probe_of_both_at_once_is_one_call(database):
    close(database, CIRCUIT, NOW, open=True, failures=5)
    close(database, ACCOUNT, NOW, reason="credit")
    both = frozenset({CIRCUIT, ACCOUNT})
    assert ask(database) == Admitted(both, both)
    assert isinstance(ask(database), Closed)


def test_a_transaction_that_is_rolled_back_has_passed_nothing(database):
    def pass_and_fail():
        with database.transaction() as connection:
            assert admit(database, connection, Passing("otp", TOLLS), NOW, probe_seconds=20.0) == Admitted()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pass_and_fail()
    assert rows(database) == {}


def test_paces_alone_can_be_paid_whatever_else_is_closed(database):
    close(database, PAUSE)
    close(database, CIRCUIT, NOW + timedelta(seconds=9), open=True)

    def pay_at(now, *tolls):
        with database.transaction() as connection:
            return pay(database, connection, tolls, now)

    assert pay_at(NOW, FIRST) is None
    before = rows(database)
    opens_at = NOW + timedelta(seconds=0.5 - CATCH_UP_SECONDS)
    assert pay_at(NOW, FIRST, SECOND) == Closed("pace:a", opens_at)
    assert rows(database).items() >= before.items()
    assert rows(database).get("pace:b", (NOW, {}))[0] <= NOW
    assert pay_at(opens_at, FIRST, SECOND) is None


def test_gates_are_read_by_their_keys(database):
    close(database, PAUSE, None, by="operator")
    with database.read() as connection:
        found = read_gates(connection, [PAUSE, CIRCUIT])
    assert {key: gate.detail for key, gate in found.items()} == {PAUSE: {"by": "operator"}}


def assert_paced(moments, per_second):
    """Hold what passed, a unit each, against the bound of the pace."""
    moments = sorted(moments)
    for first, begun in enumerate(moments):
        for place, moment in enumerate(moments[first:]):
            assert place <= per_second * ((moment - begun).total_seconds() + CATCH_UP_SECONDS) + 1e-6


def test_threads_at_one_pace_pass_exactly_as_often_as_it_allows(database):
    """The threads race for each moment of a clock that stands still meanwhile, so that none is early or late."""
    toll = Toll("pace:shared", 1, 50.0)
    steps, step = 60, timedelta(milliseconds=12)
    together = threading.Barrier(4)

    def run(_):
        found = []
        for number in range(steps):
            together.wait(30)
            moment = NOW + number * step
            if isinstance(ask(database, toll, now=moment), Admitted):
                found.append(moment)
        return found

    with ThreadPoolExecutor(4) as threads:
        moments = [moment for part in threads.map(run, range(4)) for moment in part]
    assert_paced(moments, 50.0)
    span = (steps - 1) * step.total_seconds() + CATCH_UP_SECONDS
    assert len(moments) == int(span * 50) + 1


ASKER = """
import sys, time
from datetime import UTC, datetime
from smsapi.db import Database
from smsapi.pacing.gates import Admitted, Passing, admit
from smsapi.pacing.tolls import Toll
database = Database(sys.argv[1])
passing = Passing("otp", [Toll("pace:shared", 1, 100.0)])
with database.read() as connection:
    connection.exec_driver_sql("SELECT 1")
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + 0.5
while time.monotonic() < until:
    now = datetime.now(UTC)
    with database.transaction() as connection:
        passed = isinstance(admit(database, connection, passing, now, probe_seconds=20.0), Admitted)
    print(now.timestamp(), int(passed))
    time.sleep(0.002)
"""


def test_two_processes_at_one_pace_keep_to_it_together_and_lose_few_slots(database, database_url):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    asked = [
        [(float(moment), passed == "1") for moment, passed in (line.split() for line in lines.splitlines())]
        for lines, _ in [process.communicate(timeout=30) for process in processes]
    ]
    passed = [[datetime.fromtimestamp(moment, UTC) for moment, yes in each if yes] for each in asked]
    assert all(asked)
    assert_paced(passed[0] + passed[1], 100.0)
    assert sum(map(len, passed)) >= slots(sorted(moment for each in asked for moment, _ in each), 100.0) / 2


def slots(moments, per_second):
    """Return at how many of these moments one by itself would have passed."""
    toll, opens_at, found = Toll("pace:shared", 1, per_second), NOW - timedelta(days=1), 0
    for moment in (datetime.fromtimestamp(each, UTC) for each in moments):
        if opens_at <= moment:
            opens_at, found = toll.next_opening(opens_at, moment), found + 1
    return found


only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@only_postgresql
def test_nobody_waits_for_a_stop_that_another_is_writing(database):
    """Whoever held paces and waited for a stop could be waited for by one who holds the stop."""
    close(database, CIRCUIT, NOW, failures=2, open=False)
    with database.transaction() as connection:
        # Written, and not yet to be seen by others.
        close_gate(database, connection, CIRCUIT, {"failures": 3, "open": True}, opens_at=NOW + timedelta(seconds=9))
        close_gate(database, connection, PAUSE, {})
        assert ask(database, FIRST) == Admitted(frozenset({CIRCUIT}))
    assert ask(database, SECOND) == Closed(PAUSE, None)


@only_postgresql
def test_of_two_at_once_one_is_the_probe_and_the_other_need_not_wait_to_learn_that(database):
    close(database, CIRCUIT, NOW, failures=3, open=True)
    with database.transaction() as connection:
        probe = admit(database, connection, Passing("otp", [FIRST]), NOW, probe_seconds=20.0)
        assert probe == Admitted(frozenset({CIRCUIT}), frozenset({CIRCUIT}))
        assert ask(database, SECOND) == Closed(CIRCUIT, NOW)
    assert ask(database, SECOND) == Closed(CIRCUIT, NOW + timedelta(seconds=20))
    assert SECOND.key not in rows(database) or rows(database)[SECOND.key][0] < NOW


@only_postgresql
def test_the_first_messages_ever_of_several_senders_at_once_do_not_wait_for_each_other_in_a_circle(database):
    together = threading.Barrier(8)

    def run(number):
        passed = 0
        for place in range(25):
            tolls = [Toll(f"pace:{place}:{key}", 1, 1000.0) for key in ("all", f"one of {number % 3}")]
            together.wait(30)
            passed += ask(database, *tolls) == Admitted()
        return passed

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(run, range(8))) == 8 * 25


OUTCOMES = (
    Accepted(str(uuid4())),
    Rejected("account", "no credit", 400, "900"),
    Rejected("account", "who are you", 401),
    Rejected("message", "no such number", 400),
    Unavailable("the connection was refused"),
    Unavailable("throttled", 429),
    Unavailable("all connections are busy", local=True),
)


@only_postgresql
def test_nobody_waits_for_each_other_whatever_is_passed_told_closed_and_opened_at_once(database):
    """A deadlock would be broken by PostgreSQL, after a second, with an error to one of the threads."""
    settings = read_settings({}, breaker_failures=2, breaker_open_seconds=0.1, account_probe_seconds=0.1)
    until = time.monotonic() + 1.2

    def send(chance, seen):
        # As a claim does: one message after the other in one transaction.
        found = []
        tolls = (Toll("pace:account", 1, 5000.0), Toll(f"pace:from:{chance.choice('abc')}", 1, 5000.0))
        with database.transaction() as connection:
            for _ in range(chance.randint(1, 4)):
                passing = Passing(chance.choice(("otp", "marketing")), tolls, caller_waits=chance.random() < 0.2)
                given = admit(database, connection, passing, datetime.now(UTC), probe_seconds=0.02)
                seen.add(type(given))
                if isinstance(given, Closed):
                    break
                found.append(given)
        for admitted in found:
            with database.transaction() as connection:
                outcome, now = chance.choice(OUTCOMES), datetime.now(UTC)
                note_outcome(database, connection, outcome, admitted, now=now, settings=settings)

    def operate(chance, _seen):
        key = chance.choice((PAUSE, "pause:marketing", CIRCUIT, ACCOUNT))
        detail = {PAUSE: {}, CIRCUIT: {"open": True, "since": "now"}, ACCOUNT: {"reason": "credit"}}.get(key, {})
        close(database, key, datetime.now(UTC) + timedelta(milliseconds=5), **detail)
        with database.transaction() as connection:
            open_gate(connection, key)

    def run(number):
        chance, seen = Random(number), set()
        while time.monotonic() < until:
            act = operate if chance.random() < 0.15 else send
            act(chance, seen)
        return seen

    with ThreadPoolExecutor(8) as threads:
        seen = set().union(*threads.map(run, range(8)))
    assert seen == {Admitted, Closed}

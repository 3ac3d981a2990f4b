"""Locks in one order on PostgreSQL: who changes the same rows at the same moment waits, and no deadlock comes of it.

And where one comes all the same, or a role asks for another isolation, nothing is lost.
"""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import event, insert, select, text

from smsapi.clock import SystemClock
from smsapi.db import Database
from smsapi.dispatch.housekeeping import LOCK, lookout_for_housekeeping
from smsapi.errors import StoreUnavailable
from smsapi.ids import new_id
from smsapi.messages.models import messages
from smsapi.optouts.models import opt_outs
from smsapi.privacy.service import erase_number
from smsapi.receipts.facts import read_receipt
from smsapi.receipts.service import apply_receipt, store_reports
from smsapi.receipts.store import Heard, receipts
from tests.conftest import eventually, new_caller
from tests.support.dispatching import ASYNC, claim, row_of, world_of
from tests.support.far_side import count_rows

DELIVERED = {"Status": "delivered", "ErrorCode": "000"}
STOPPED = {"Status": "undelivered", "ErrorCode": "200"}


@pytest.fixture
def database_url(postgres_url):
    return postgres_url


@pytest.fixture
def deadlocks(postgres_url):
    """How many there were in this database since the test began; the server tells of them a moment later."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

        def count():
            connection.execute("SELECT pg_stat_clear_snapshot()")
            return connection.execute(query).fetchone()[0]

        before = count()
        yield lambda: count() - before


def together(*acts, rounds):
    """Do all of these at the same moment, so many times; return what was raised."""
    start, raised = threading.Barrier(len(acts)), []

    def repeat(act):
        for number in range(rounds):
            start.wait(60)
            try:
                act(number)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                raised.append(error)

    with ThreadPoolExecutor(len(acts)) as pool:
        for running in [pool.submit(repeat, act) for act in acts]:
            running.result()
    return raised


def test_the_same_reports_stored_by_several_processes_in_any_order_are_all_stored(postgres_url, deadlocks):
    databases = [Database(postgres_url, pool_size=1) for _ in range(3)]
    rounds = [[Heard(uuid4(), read_receipt(DELIVERED)) for _ in range(60)] for _ in range(40)]

    def storing(database):
        def store(number):
            heard = rounds[number][:]
            random.shuffle(heard)
            new = store_reports(database, SystemClock(), heard)
            # Of each it is said whether it is new, in the order in which they were given.
            found.extend(each.message_id for each, is_new in zip(heard, new, strict=True) if is_new)

        return store

    found = []
    try:
        assert together(*map(storing, databases), rounds=len(rounds)) == []
        with databases[0].read() as connection:
            stored = list(connection.execute(select(receipts.c.message_id)).scalars())
    finally:
        for database in databases:
            database.close()
    assert sorted(found) == sorted(stored) == sorted(each.message_id for heard in rounds for each in heard)
    assert deadlocks() == 0


def test_erasing_a_person_and_their_opting_out_wait_for_each_other(app, deadlocks):
    world, caller = world_of(app), new_caller(app)
    like = row_of(world, caller.send(headers=ASYNC).get_json())._asdict()

    def number_of(round_number):
        return f"+1415556{round_number:04}"

    def fill(round_number):
        rows = [like | {"id": new_id(), "to_number": number_of(round_number)} for _ in range(60)]
        with world.database.transaction() as connection:
            # They lie in another order than that of their ids.
            connection.execute(insert(messages), rows[::-1])

    def erase(round_number):
        erase_number(world, number_of(round_number))

    def stop(round_number):
        assert caller.request("PUT", f"/v1/opt-outs/{number_of(round_number)}", {}).status_code == 200

    for round_number in range(20):
        fill(round_number)
    assert together(erase, stop, stop, rounds=20) == []
    assert deadlocks() == 0
    with world.database.read() as connection:
        assert len(connection.execute(select(opt_outs.c.number)).all()) == 20


def test_a_report_that_opts_a_number_out_and_its_stop_wait_for_each_other(app, deadlocks):
    world, caller = world_of(app), new_caller(app)
    several = [caller.send(to=f"+1415557{number:04}", headers=ASYNC).get_json() for number in range(20)]

    def report(number):
        with world.database.transaction() as connection:
            apply_receipt(world, connection, row_of(world, several[number]).id, read_receipt(STOPPED))

    def stop(number):
        body = {"scope": "sender"}
        assert caller.request("PUT", f"/v1/opt-outs/{several[number]['to']}", body).status_code == 200

    assert together(report, stop, rounds=20) == []
    assert deadlocks() == 0


def test_a_deadlock_that_happens_all_the_same_undoes_one_of_the_two_and_asks_to_try_again(app, deadlocks):
    world, caller = world_of(app), new_caller(app)
    ids = [row_of(world, caller.send(headers=ASYNC).get_json()).id for _ in range(2)]
    both_hold_one = threading.Barrier(2)

    def hold(first, second):
        with world.database.transaction() as connection:
            for message_id in (first, second):
                changed = messages.update().where(messages.c.id == message_id)
                connection.execute(changed.values(reference=str(first)))
                if message_id == first:
                    both_hold_one.wait(30)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(hold, *ids), pool.submit(hold, *reversed(ids))]
        raised = [each.exception() for each in ended]
    assert sorted(type(each).__name__ for each in raised) == ["NoneType", "StoreUnavailable"]
    (refused,) = [each for each in raised if each is not None]
    assert refused.retry_after_seconds == 1
    with world.database.read() as connection:
        written = set(connection.execute(select(messages.c.reference)).scalars())
    assert len(written) == 1
    eventually(lambda: deadlocks() == 1)


@pytest.fixture(params=["repeatable read", "serializable"])
def strict_url(request, postgres_url):
    """The store for a role, and a database, whose transactions are of another isolation unless they say otherwise."""
    plain = postgres_url.replace("+psycopg", "")
    role = f"strict_{uuid4().hex[:8]}"
    with psycopg.connect(plain, autocommit=True) as connection:
        name = connection.execute("SELECT current_database()").fetchone()[0]
        connection.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
        connection.execute(f"ALTER ROLE {role} SET default_transaction_isolation = '{request.param}'")
        connection.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{request.param}'")
    try:
        yield str(Database(postgres_url).url.set(username=role).render_as_string(hide_password=False))
    finally:
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_isolation')
            connection.execute(f"DROP ROLE {role}")


class TestWhateverTheRolesIsolationIs:
    """Of a role whose default is stricter, every decision is made as for all others."""

    @pytest.fixture
    def database_url(self, strict_url):
        return strict_url

    def test_every_way_to_the_store_is_read_committed(self, app):
        database = world_of(app).database
        for way in (database.transaction, database.statement, database.read, database.engine.connect):
            with way() as connection:
                assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"

    def test_twins_are_one_message_and_no_claim_fails(self, app):
        caller = new_caller(app)
        world = world_of(app)

        def send(number):
            answer = caller.send(to=f"+1415558{number:04}", headers={**ASYNC, "Idempotency-Key": f"key-{number}"})
            statuses[answer.status_code] += 1

        statuses = Counter()
        assert together(send, send, send, rounds=8) == []
        assert set(statuses) <= {202, 409}, statuses
        assert count_rows(world.database, "messages") == 8
        begun = []
        assert together(*[lambda _: begun.extend(claim(world, limit=4))] * 4, rounds=4) == []
        assert len({each.message.id for each in begun}) == len(begun) == 8


@pytest.fixture
def elsewhere(postgres_url):
    """The store as another process sees it."""
    database = Database(postgres_url, pool_size=2)
    yield database
    database.close()


def test_housekeeping_is_done_by_one_process_at_a_time(app, elsewhere):
    world, caller = world_of(app), new_caller(app)
    caller.send(headers={**ASYNC, "Idempotency-Key": "one"})
    with world.database.transaction() as connection:
        connection.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 day'"))
    asked = threading.Event()

    @event.listens_for(world.database.engine, "after_cursor_execute")
    def see(_connection, _cursor, statement, *_rest):
        if "pg_try_advisory_lock" in statement:
            asked.set()

    housekeeping = lookout_for_housekeeping(world)
    with elsewhere.exclusive(LOCK) as is_ours:
        assert is_ours
        housekeeping.start()
        assert asked.wait(30)
        housekeeping.stop(30)
        assert count_rows(world.database, "idempotency_keys") == 1
    again = lookout_for_housekeeping(world)
    again.start()
    try:
        eventually(lambda: count_rows(world.database, "idempotency_keys") == 0)
    finally:
        again.stop(10)
    with elsewhere.exclusive(LOCK) as is_ours:
        assert is_ours


def test_a_lost_connection_lets_the_lock_go(elsewhere, app):
    database = world_of(app).database
    cut = text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = :low")

    def lose():
        with database.exclusive(LOCK) as is_ours:
            assert is_ours
            with elsewhere.exclusive(LOCK) as is_theirs:
                assert not is_theirs
            with elsewhere.statement() as connection:
                connection.execute(cut, {"low": LOCK & 0xFFFFFFFF}).all()

    with pytest.raises(StoreUnavailable):
        lose()
    eventually(lambda: _is_free(elsewhere))


def _is_free(database):
    with database.exclusive(LOCK) as is_ours:
        return is_ours

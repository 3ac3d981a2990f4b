"""What batches keep of persons is erased with all else: after its time, or at a person's wish."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, update

from smsapi.batches.models import batches
from smsapi.clock import ManualClock
from smsapi.privacy.service import erase_number, erase_old
from tests.support.auth import everything_stored
from tests.support.dispatching import run_due, world_of
from tests.support.providers import Scripted, taken
from tests.support.staged import add_rejects, counted, counts, get_batch, number_of, stage, tend_all, uuid_of_batch

DAY = 86_400


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def caller(make_app, make_caller, clock):
    app = make_app({"clock": clock, "provider": Scripted(taken())}, retention_days=30)
    return make_caller(app)


def rejects_of(caller, batch_id):
    return caller.get(f"/v1/batches/{batch_id}/rejects?limit=100").get_json()["data"]


def refused(row, value, message="It is not a number."):
    return {"row": row, "value": value, "code": "invalid_number", "message": message}


def send_all(caller, clock):
    tend_all(caller)
    while run_due(world_of(caller.app)):
        pass
    clock.advance(5)
    tend_all(caller)


def erase(caller):
    return erase_old(world_of(caller.app), lambda: False)


def test_what_was_written_is_gone_when_its_time_is_over_and_the_counts_stay(caller, clock):
    secret = {"template": "Secret {{name}}", "text": None, "metadata": {"list": "secret"}}
    batch_id = stage(caller, 2, row={"text": "Secret Ann", "reference": "secret"}, rejected=1, **secret)
    add_rejects(caller, batch_id, [refused(4, "secret number", "The secret is not a number.")])
    send_all(caller, clock)
    before = get_batch(caller, batch_id)
    clock.advance(30 * DAY - 60)
    assert erase(caller) == 0
    clock.advance(120)
    assert erase(caller) > 0
    assert "ecret" not in everything_stored(caller.app).replace("secret_sha256", "")
    after = get_batch(caller, batch_id)
    assert after == before | {"text": "", "metadata": {}}
    assert rejects_of(caller, batch_id) == [refused(4, "", "invalid_number")]
    assert erase(caller) == 0


@pytest.mark.parametrize("status", ["rejected", "checked"])
def test_what_was_never_sent_is_erased_as_well(caller, clock, status):
    batch_id = stage(caller, 0, status=status, accepted_at=None, due_at=None, template="Secret")
    clock.advance(31 * DAY)
    erase(caller)
    assert get_batch(caller, batch_id)["text"] == ""


def test_a_batch_that_still_waits_is_kept_whole(caller, clock):
    send_at = clock.now() + timedelta(days=29)
    batch_id = stage(caller, 1, send_at=send_at)
    tend_all(caller)
    clock.advance(31 * DAY)
    erase(caller)
    assert get_batch(caller, batch_id)["text"] == "Hello"
    assert run_due(world_of(caller.app)) == 1


def test_many_refused_rows_are_erased_in_parts(caller, clock):
    batch_id = stage(caller, 0, status="rejected", accepted_at=None, due_at=None)
    add_rejects(caller, batch_id, [refused(row, f"secret {row}") for row in range(2, 45_002)])
    clock.advance(31 * DAY)
    assert erase(caller) == 45_001
    assert "secret " not in everything_stored(caller.app)


def test_a_persons_rows_that_wait_are_not_sent_and_name_nobody(caller, clock):
    batch_id = stage(caller, 20, made=5)
    staged, made = number_of(15), number_of(3)
    for number in (staged, made):
        erased = erase_number(world_of(caller.app), number)
        assert (erased.canceled, erased.left) == (1, 0)
        assert number not in everything_stored(caller.app)
    assert counts(caller, batch_id) == {"queued": 18, "canceled": 2}
    send_all(caller, clock)
    assert counts(caller, batch_id) == counted(caller, batch_id) == {"sent": 18, "canceled": 2}
    assert get_batch(caller, batch_id)["status"] == "finished"
    assert {staged, made}.isdisjoint(each.to for each in world_of(caller.app).provider.asked)
    assert erase_number(world_of(caller.app), staged).canceled == 0


def test_the_last_row_of_a_batch_may_be_the_one_that_is_erased(caller, clock):
    batch_id = stage(caller, 1)
    erase_number(world_of(caller.app), number_of(2))
    tend_all(caller)
    assert counts(caller, batch_id) == {"canceled": 1}
    assert get_batch(caller, batch_id)["status"] == "finished"


def test_an_upload_under_way_keeps_its_rows_until_it_is_asked_again(caller, clock):
    batch_id = stage(caller, 1, status="receiving", accepted_at=None, due_at=None)
    erase_number(world_of(caller.app), number_of(2))
    assert number_of(2) in everything_stored(caller.app)
    accepted = {"status": "queued", "accepted_at": clock.now(), "due_at": clock.now()}
    with world_of(caller.app).database.transaction() as connection:
        connection.execute(update(batches).where(batches.c.id == uuid_of_batch(batch_id)).values(**accepted))
    assert erase_number(world_of(caller.app), number_of(2)).canceled == 1
    assert number_of(2) not in everything_stored(caller.app)


@pytest.mark.parametrize(
    "value",
    [
        "+4915112345678",
        "4915112345678",
        "0049 151 123 456 78",
        "(0151) 123-45678",
        "0151/12345678",
        "tel:+4915112345678",
    ],
)
def test_a_refused_row_forgets_the_number_however_it_was_written(caller, value):
    batch_id = stage(caller, 0, rejected=2)
    other = refused(3, "+4915187654321")
    add_rejects(caller, batch_id, [refused(2, value), other])
    assert erase_number(world_of(caller.app), "+4915112345678").rows["batches"] == 1
    assert rejects_of(caller, batch_id) == [refused(2, "", "invalid_number"), other]


def test_a_number_in_very_many_refused_rows_is_looked_for_in_parts(caller):
    found = [stage(caller, 0, rejected=30_000) for _ in range(2)]
    for batch_id in found:
        # Every third row is somebody else's, and the last ones of both batches are theirs.
        rows = [(row, "+4915187654321" if row % 3 == 1 else "0151 12345678") for row in range(2, 30_002)]
        add_rejects(caller, batch_id, [refused(row, value) for row, value in rows])
    world, changed = world_of(caller.app), []

    def note(_connection, cursor, statement, *_):
        if statement.startswith("UPDATE batch_rejects"):
            changed.append(cursor.rowcount)

    event.listen(world.database.engine, "after_cursor_execute", note)
    assert erase_number(world, "+4915112345678").rows["batches"] == sum(changed) == 40_000
    assert max(changed) <= 20_000
    assert "12345678" not in everything_stored(caller.app)
    assert [each["value"] for each in rejects_of(caller, found[1])[:3]] == ["", "", "+4915187654321"]
    assert erase_number(world, "+4915112345678").rows["batches"] == 0

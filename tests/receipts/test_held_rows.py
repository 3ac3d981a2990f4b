"""A report waits for nobody who holds its message: on PostgreSQL, where rows are locked one by one."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from smsapi.clock import ManualClock
from smsapi.db import try_lock
from smsapi.gathering import Crowd
from smsapi.messages.store import lock_message
from smsapi.receipts.service import APPLIES, apply_waiting
from smsapi.receipts.store import receipts
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.dispatching import uuid_of, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken


@pytest.fixture
def database_url(postgres_url):
    return postgres_url


def test_a_report_is_answered_while_another_holds_the_row_and_applied_once_it_lets_go(make_app):
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"provider": Scripted(taken()), "clock": clock}, public_url=PUBLIC_URL)
    caller, world = new_caller(app), world_of(app)
    message = caller.send().get_json()
    with world.database.transaction() as holder:
        assert lock_message(holder, uuid_of(message)) is not None
        # In this very thread: if it waited for the row, it would wait for ever.
        for status in ("sent", "delivered"):
            assert report(app, message["id"], {"Status": status}, token=AUTH_TOKEN).status_code == 200
        clock.advance(1)
        assert apply_waiting(world, lambda: False) == 1
        with world.database.read() as connection:
            assert set(connection.execute(select(receipts.c.state)).scalars()) == {"waiting"}
    assert caller.message(message["id"])["status"] == "sent"
    clock.advance(60)
    apply_waiting(world, lambda: False)
    assert caller.message(message["id"])["status"] == "delivered"
    assert [event["type"] for event in caller.events(message["id"])][1:] == ["message.sent", "message.delivered"]


def test_while_one_process_applies_what_waits_another_does_not_and_looks_again_soon(make_app, dispatching):
    app = make_app(
        {"provider": Scripted(taken()), "reporting": Crowd(at_most=0)},
        public_url=PUBLIC_URL,
        dispatch_sweep_seconds=600.0,
    )
    caller, world = new_caller(app), world_of(app)
    message = caller.send().get_json()
    dispatching(app)
    with world.database.transaction() as another:
        assert try_lock(another, APPLIES)
        assert report(app, message["id"], {"Status": "delivered"}, token=AUTH_TOKEN).status_code == 200
        assert apply_waiting(world, lambda: False) is None
        assert caller.message(message["id"])["status"] == "sent"
    eventually(lambda: caller.message(message["id"])["status"] == "delivered")

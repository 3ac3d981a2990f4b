"""What is forgotten in its time: no message waits for it, and a part that fails keeps no other from being done."""

import threading
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import event

from smsapi.clock import ManualClock
from smsapi.dispatch.housekeeping import lookout_for_housekeeping
from tests.conftest import eventually, new_caller
from tests.support.dispatching import ASYNC, world_of
from tests.support.far_side import count_rows
from tests.support.providers import Scripted, taken

DAY = 86_400


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


def test_a_part_that_fails_keeps_no_other_from_being_done_and_is_tried_again_a_minute_later(make_app, clock):
    provider = Scripted(taken())
    app = make_app({"provider": provider, "clock": clock}, retention_days=1, dispatch_sweep_seconds=0.05)
    caller, world = new_caller(app), world_of(app)
    message = caller.send(headers={"Idempotency-Key": "one"}).get_json()
    clock.advance(2 * DAY)
    refused, keys = [], partial(count_rows, world.database, "idempotency_keys")

    def refuse(_connection, _cursor, statement, *_rest):
        if statement.startswith("DELETE FROM idempotency_keys"):
            refused.append(statement)
            raise RuntimeError("a bug of ours")

    event.listen(world.database.engine, "before_cursor_execute", refuse)
    housekeeping = lookout_for_housekeeping(world)
    housekeeping.start()
    try:
        eventually(lambda: caller.message(message["id"])["text"] == "")
        assert (len(refused), keys()) == (1, 1)
        event.remove(world.database.engine, "before_cursor_execute", refuse)
        clock.advance(60)
        eventually(lambda: keys() == 0)
    finally:
        housekeeping.stop(10)


def test_messages_go_out_while_it_is_at_work(make_app, dispatching, simulator):
    app, other = make_app(), make_app()
    reached, go_on = threading.Event(), threading.Event()

    def hold(*_):
        if threading.current_thread().name == "smsapi-housekeeping":
            reached.set()
            go_on.wait(20)

    event.listen(world_of(other).database.engine, "before_cursor_execute", hold)
    dispatching(other)
    assert reached.wait(10)
    caller = new_caller(app)
    # The other hears no bell of the first: only its sweep can find it.
    message = caller.send(headers=ASYNC).get_json()
    eventually(lambda: caller.message(message["id"])["status"] == "sent")
    assert not go_on.is_set()
    go_on.set()

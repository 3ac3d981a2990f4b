"""Adding up what changed in a batch, whatever PostgreSQL takes its table for; SQLite has no such statistics."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from sqlalchemy import func, select, text

from smsapi.batches.maker import tend_due
from smsapi.batches.models import batch_changes
from smsapi.clock import ManualClock
from tests.support.dispatching import world_of
from tests.support.providers import Scripted, taken
from tests.support.staged import counts, move, stage, tend_all

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def database_url(postgres_url):
    return postgres_url


def changes_of(world):
    with world.database.read() as connection:
        return connection.execute(select(func.count()).select_from(batch_changes)).scalar_one()


def test_twenty_thousand_changes_are_added_up_at_once_where_their_table_is_taken_for_empty(make_app, make_caller):
    clock = ManualClock(NOW)
    caller = make_caller(make_app({"clock": clock, "provider": Scripted(taken())}))
    world = world_of(caller.app)
    batch_id = stage(caller, 5000, made=5000)
    move(caller, batch_id, "queued", "sending", 5000)
    tend_all(caller)
    assert changes_of(world) == 0
    # As an autovacuum finds it: it has pages, and nothing in them. Each change with each would be past the time-out.
    with world.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (TRUNCATE OFF, ANALYZE) batch_changes"))
    for before, after in pairwise(("sending", "sent", "delivered", "sent", "delivered")):
        move(caller, batch_id, before, after, 5000)
    assert changes_of(world) == 20_000
    clock.advance(5)
    tend_due(world, lambda: False)
    assert changes_of(world) == 0
    assert counts(caller, batch_id) == {"delivered": 5000}

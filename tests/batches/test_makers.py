"""Processes that die by SIGKILL while they make, count and end batches: every row is sent once and counted once."""

import signal

import pytest

from tests.conftest import eventually, free_port
from tests.support.dying import Mortal
from tests.support.served import environment
from tests.support.staged import counted, counts, get_batch, number_of, stage

POINTS = ("batch.folded", "batch.made", "batch.tended", "batch.committed", "batch.finished")


@pytest.fixture
def mortal(database_url, simulator, tmp_path):
    environ = environment(
        database_url,
        simulator.url,
        SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS="1",
        SMSAPI_LEASE_SECONDS="1.5",
        SMSAPI_RECONCILE_AFTER_SECONDS="0.3",
        SMSAPI_PLIVO_LIST_PER_MINUTE="6000",
    )
    with Mortal(environ, free_port(), tmp_path / "log") as mortal:
        yield mortal


def test_dying_at_any_point_of_a_batch_sends_and_counts_each_row_once(mortal, caller, simulator):
    batches = []
    for point in POINTS:
        batches.append(stage(caller, 25, first=2 + 25 * len(batches)))
        mortal.live(point, 1)
        assert mortal.death() == -signal.SIGKILL, (point, mortal.said())
    mortal.live()
    for batch_id in batches:
        eventually(lambda batch_id=batch_id: get_batch(caller, batch_id)["status"] == "finished")
        assert counts(caller, batch_id) == counted(caller, batch_id)
    texted = simulator.store.texts_by_number()
    assert texted == {number_of(row)[1:]: 1 for row in range(2, 2 + 25 * len(POINTS))}

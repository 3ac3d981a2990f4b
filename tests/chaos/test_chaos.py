"""The short form of ``make chaos``: everything at once, for a few seconds."""

from pathlib import Path

from sqlalchemy import func, select

from smsapi.messages.models import message_attempts
from tests.chaos import rows
from tests.chaos.__main__ import ROWS
from tests.chaos.cluster import Cluster
from tests.chaos.run import run

# Less patient than in the long form, so that what is lost is missed sooner.
HASTE = {
    "SMSAPI_LEASE_SECONDS": 4,
    "SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS": 2,
    "SMSAPI_RECONCILE_AFTER_SECONDS": 2,
    "SMSAPI_BREAKER_OPEN_SECONDS": 1,
    "SMSAPI_RETRY_CAP_SECONDS": 2,
}


def test_while_processes_die_and_plivo_fails_nothing_is_lost_and_nobody_is_texted_twice():
    with Cluster(workers=2, **HASTE) as cluster:
        result = run(cluster, rows.everything, messages=300, per_second=60, load_seconds=6, settle_seconds=60)
    assert result.tally.is_clean, "\n".join(result.stories)
    assert (result.tally.accepted, result.tally.taken) == (300, 300)
    assert result.deaths > 0


def test_while_workers_die_every_good_row_of_a_batch_is_taken_by_plivo_exactly_once():
    with Cluster(workers=2, SMSAPI_BATCH_CHUNK_SIZE=20, **HASTE) as cluster:
        result = run(cluster, rows.batch, messages=600, load_seconds=30, settle_seconds=60)
        with cluster.store.read() as connection:
            rows_of = message_attempts.c
            joined = connection.execute(select(func.count(rows_of.chunk_id), func.count(rows_of.chunk_id.distinct())))
            attempts, calls = joined.one()
    assert attempts >= 500 > 10 * calls
    assert result.tally.is_clean, "\n".join(result.stories)
    assert (result.tally.accepted, result.tally.taken) == (600, 600)
    assert result.deaths > 0


def test_every_row_is_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    assert [disturb.__name__ for disturb, _, _ in ROWS if f"| `{disturb.__name__}` |" not in page] == []

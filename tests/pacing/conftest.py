from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock
from smsapi.db import Database
from tests.pacing.services import Answering, Services


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def database(database_url):
    """The store that the gates are in, without an app."""
    store = Database(database_url)
    yield store
    store.close()


@pytest.fixture
def plivo():
    return Answering()


@pytest.fixture
def services(make_app, clock, plivo):
    """Two services on one store, which send nothing by themselves."""
    settings = {
        "breaker_failures": 3,
        "breaker_open_seconds": 10.0,
        "account_probe_seconds": 10.0,
        "plivo_total_timeout_seconds": 12.0,
        "plivo_requests_per_5s": 0.0,
    }
    return Services([make_app({"clock": clock, "provider": plivo}, **settings) for _ in range(2)], plivo)

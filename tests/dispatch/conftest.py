from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock
from tests.conftest import new_caller
from tests.support.dispatching import world_of
from tests.support.providers import Scripted, taken


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def scripted(make_app, clock):
    """Make an app whose provider gives these outcomes, and a caller of it."""

    def make(*outcomes, before=lambda _: None, **settings):
        provider = Scripted(*(outcomes or (taken(),)), before=before)
        app = make_app({"provider": provider, "clock": clock}, **{"lease_seconds": 30, **settings})
        return world_of(app), new_caller(app), provider

    return make

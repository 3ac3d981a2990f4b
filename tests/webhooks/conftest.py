"""An app whose webhooks may go to this machine, on a clock that stands still, and a receiver."""

from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from smsapi.clock import ManualClock
from smsapi.messages.store import add_event, lock_message
from tests.support.dispatching import uuid_of, world_of
from tests.support.providers import Scripted, taken
from tests.webhooks.receiver import Receiver

ALLOWED = {"webhook_allow_networks": (ip_network("127.0.0.0/8"),), "webhook_ports": ((1, 65_535),)}


@pytest.fixture
def receiver():
    with Receiver() as listening:
        yield listening


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def telling(make_app, clock):
    """An app that sends to a Plivo that takes everything."""

    def make(replacements=None, **settings):
        plivo = Scripted(*[taken() for _ in range(200)])
        return make_app({"clock": clock, "provider": plivo, **(replacements or {})}, **{**ALLOWED, **settings})

    return make


def endpoint_of(caller, receiver, **body):
    """Make an endpoint at the receiver, through the front door."""
    made = caller.post("/v1/webhook-endpoints", {"url": receiver.url, **body})
    assert made.status_code == 201, made.text
    return made.get_json()


def record(app, message, *kinds):
    """Write events of a message as whoever learns of them does, each in a transaction of its own."""
    world = world_of(app)
    for kind in kinds:
        with world.database.transaction() as connection:
            held = lock_message(connection, uuid_of(message))
            add_event(connection, held, kind, world.clock.now(), {})


def pull(caller, **query):
    """Read the whole list of events, page by page."""
    found, after = [], query.pop("after", None)
    while True:
        page = caller.get(f"/v1/events?limit=7{'' if after is None else f'&after={after}'}").get_json()
        found += page["data"]
        if not page["data"]:
            return found
        after = page["next_cursor"]

"""A process killed with SIGKILL while it tells an endpoint: no event is left untold, none gets a second id."""

import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
import requests
from sqlalchemy import select, update

from smsapi.db import Database
from smsapi.events.models import UNNUMBERED, events
from smsapi.webhooks.models import DELIVERED, SENDING, webhook_deliveries
from tests.chaos.tally import count_unsettled
from tests.conftest import eventually, free_port
from tests.support.api import Remote
from tests.support.dying import Mortal
from tests.support.served import environment, make_key

POINTS = ("webhook.before", "webhook.answered", "webhook.settled")
MESSAGES = 3
KINDS = [f"message.{status}" for status in ("queued", "sent", "unknown", "delivered")]


@pytest.fixture
def store(database_url):
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def mortal(database_url, simulator, tmp_path):
    environ = environment(
        database_url,
        simulator.url,
        SMSAPI_WEBHOOK_ALLOW_NETWORKS="127.0.0.0/8",
        SMSAPI_WEBHOOK_PORTS="1-65535",
        SMSAPI_RECONCILE_AFTER_SECONDS="0.2",
    )
    with Mortal(environ, free_port(), tmp_path / "log") as mortal:
        yield mortal


def end_leases(store):
    """Let the leases of the dead be over, which last a minute."""
    columns = webhook_deliveries.c
    with store.transaction() as connection:
        over = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(webhook_deliveries).where(columns.status == SENDING).values(due_at=over))


def untold(store):
    """How many events are not numbered yet, and how many deliveries not done."""
    with store.read() as connection:
        events_left = connection.execute(select(events.c.id).where(UNNUMBERED)).all()
        left = connection.execute(select(webhook_deliveries.c.id).where(webhook_deliveries.c.status != DELIVERED)).all()
    return len(events_left) + len(left)


def is_up(url):
    with suppress(requests.RequestException):
        return requests.get(f"{url}/healthz", timeout=5).status_code == 200
    return False


def test_no_event_is_lost_and_each_message_is_told_of_in_order(mortal, database_url, store, receiver):
    caller, sent = Remote(mortal.url, make_key(database_url)), set()
    # Each to a number of its own: of several alike Plivo's list does not tell which it took.
    numbers = (f"+1415557{number}" for number in count(1000))
    for point in POINTS:
        mortal.live(point, 3)
        # What the last life left to tell may bring it there before it has answered anything.
        eventually(lambda: mortal.is_dead() or is_up(mortal.url))
        if not sent:
            endpoint = {"url": receiver.url, "events": KINDS}
            assert caller.request("POST", "/v1/webhook-endpoints", json=endpoint).status_code == 201
        with suppress(requests.RequestException):  # it may be dead by then, or die in the middle of its answer
            for _ in range(MESSAGES):
                sent.add(caller.send(to=next(numbers)).json()["id"])
        assert mortal.death() == -signal.SIGKILL, mortal.said()
        end_leases(store)
    mortal.live()
    # What was in a call when its process died has to be looked for first.
    eventually(lambda: count_unsettled(store) == 0)
    eventually(lambda: untold(store) == 0)
    ids = [each.headers["webhook-id"] for each in receiver.asked]
    assert len(set(ids)) < len(ids)
    told = list(dict.fromkeys((each["data"]["message_id"], each["id"]) for each in receiver.events()))
    for message in sent:
        caller_sees = caller.request("GET", f"/v1/messages/{message}/events").json()["data"]
        assert [event for of, event in told if of == message] == [each["id"] for each in caller_sees]

"""PostgreSQL killed under a running service: 503 while it is gone, nothing lost of what was acknowledged."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from smsapi import migrations
from smsapi.db import Database
from tests.conftest import eventually
from tests.services import start_postgres
from tests.support.api import TO
from tests.support.far_side import GatedProvider

KEY = {"Idempotency-Key": "k"}


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL of these tests' own, to be killed."""
    with start_postgres() as running:
        database = Database(running.url)
        migrations.upgrade(database)
        database.close()
        yield running


@pytest.fixture
def database_url(server):
    server.start()
    return server.url


def _unavailable(answer):
    assert (answer.status_code, answer.get_json()["code"]) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert not [word for word in ("SELECT", "INSERT", "psycopg", "127.0.0.1") if word in answer.text]


def test_without_its_store_the_service_says_so_and_takes_up_where_it_was(app, caller, server, simulator):
    before = caller.send(headers=KEY)
    assert before.status_code == 201
    server.kill()
    _unavailable(caller.send())
    _unavailable(caller.send(headers={"Prefer": "respond-async", "Idempotency-Key": "other"}))
    _unavailable(caller.get("/v1/messages"))
    _unavailable(caller.get(f"/v1/messages/{before.get_json()['id']}"))
    _unavailable(caller.post("/v1/messages/preview", {"to": TO, "text": "x"}))
    assert app.test_client().get("/healthz").status_code == 200
    assert simulator.store.count() == 1
    server.start()
    after = eventually(lambda: (answer := caller.send(text="After")).status_code == 201 and answer)
    assert [message["id"] for message in caller.get("/v1/messages").get_json()["data"]] == [
        after.get_json()["id"],
        before.get_json()["id"],
    ]
    again = caller.send(headers=KEY)
    assert (again.data, again.headers["Idempotent-Replayed"]) == (before.data, "true")
    assert simulator.store.count() == 2


def test_a_store_that_is_lost_within_a_call_to_plivo_loses_no_outcome(make_app, make_caller, server):
    provider = GatedProvider()
    caller = make_caller(make_app({"provider": provider}))
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(caller.send, headers={"Prefer": "wait=1", **KEY})
        assert provider.reached.wait(10)
        server.kill()
        taken = sending.result(20)
    assert (taken.status_code, taken.get_json()["status"]) == (202, "queued")
    server.start()
    provider.gate.set()
    message_id = taken.get_json()["id"]
    sent = eventually(lambda: caller.get(f"/v1/messages/{message_id}").get_json().get("status") == "sent")
    assert sent
    assert caller.message(message_id)["attempts"] == 1
    assert len(provider.calls) == 1

"""Twins at the same moment, requests that die half-way, and commits that fail: one message, one call, one answer."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import requests
from sqlalchemy import delete, event

from smsapi.clock import ManualClock
from smsapi.web.idempotency import idempotency_keys
from tests.conftest import eventually
from tests.support.api import TO, Remote
from tests.support.examples import sized
from tests.support.far_side import FailingDatabase, GatedProvider, ScriptedProvider, count_rows

pytestmark = pytest.mark.both_stores

KEY = {"Idempotency-Key": "once"}

TWINS = sized(80, 200)


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def gated(make_app, make_caller, clock):
    """A caller whose provider answers nobody yet, its gate opened in the end."""
    provider = GatedProvider()
    caller = make_caller(make_app({"clock": clock, "provider": provider}))
    yield caller, provider
    provider.gate.set()


def _rows(caller, table="messages"):
    return count_rows(caller.app.extensions["smsapi"].database, table)


@pytest.mark.parametrize("prefer", ["wait=10", "respond-async"])
def test_many_twins_at_once_are_one_message_and_one_call_to_plivo(live, simulator, prefer):
    # A connection for each, so that they meet at the key and not in the queue for one.
    remote: Remote = live(database_pool_size=TWINS + 20)
    headers = {"X-API-Key": remote.key, "Prefer": prefer, **KEY}
    start = threading.Barrier(TWINS)

    def send(_number):
        start.wait(30)
        return requests.post(f"{remote.url}/v1/messages", json={"to": TO, "text": "Hello"}, headers=headers, timeout=60)

    with ThreadPoolExecutor(TWINS) as pool:
        answers = list(pool.map(send, range(TWINS)))
    came = Counter((answer.status_code, answer.headers.get("Idempotent-Replayed")) for answer in answers)
    first = 201 if prefer == "wait=10" else 202
    assert came[first, None] == 1, came
    assert came[first, "true"] + came[409, None] == TWINS - 1, came
    taken = {answer.content for answer in answers if answer.status_code == first}
    assert len(taken) == 1
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 409)
    listed = remote.request("GET", "/v1/messages").json()["data"]
    assert len(listed) == 1
    eventually(lambda: remote.message(listed[0]["id"])["status"] == "delivered")
    assert simulator.store.count() == 1


def test_a_twin_of_a_running_request_is_told_to_wait(gated):
    caller, provider = gated
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(caller.send, headers=KEY)
        assert provider.reached.wait(10)
        twin = caller.send(headers=KEY)
        assert (twin.status_code, twin.get_json()["code"]) == (409, "idempotency_in_progress")
        assert 1 <= int(twin.headers["Retry-After"]) <= 5
        other = caller.send(text="Other", headers=KEY)
        assert (other.status_code, other.get_json()["code"]) == (422, "idempotency_key_reused")
        provider.gate.set()
        first = running.result(10)
    again = caller.send(headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.data == first.data
    assert len(provider.calls) == _rows(caller) == 1


def test_the_twin_of_a_request_that_died_is_answered_from_its_message(gated, clock):
    caller, provider = gated
    with ThreadPoolExecutor(1) as pool:
        dying = pool.submit(caller.send, headers=KEY)
        assert provider.reached.wait(10)
        clock.advance(16)
        late = caller.send(headers={**KEY, "X-Request-Id": "late"})
        assert (late.status_code, late.headers["Idempotent-Replayed"]) == (202, "true")
        message = late.get_json()
        assert message["status"] == "queued"
        assert late.headers["Location"] == f"/v1/messages/{message['id']}"
        provider.gate.set()
        assert dying.result(10).get_json()["id"] == message["id"]
    assert caller.message(message["id"])["status"] == "sent"
    assert len(provider.calls) == _rows(caller) == 1


def test_what_the_twin_was_told_stays_the_answer_when_the_first_was_only_slow(gated, clock):
    caller, provider = gated
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(caller.send, headers=KEY)
        assert provider.reached.wait(10)
        clock.advance(16)
        told = caller.send(headers=KEY)
        provider.gate.set()
        first = slow.result(10)
    assert (first.status_code, first.data) == (told.status_code, told.data) == (202, told.data)
    assert (again := caller.send(headers=KEY)).status_code == 202
    assert again.data == told.data
    assert caller.message(told.get_json()["id"])["status"] == "sent"
    assert len(provider.calls) == _rows(caller) == 1


@pytest.mark.parametrize("moment", ["answer.before", "answer.kept"])
def test_the_first_caller_and_its_twin_are_told_the_same_whoever_is_the_first_to_store_it(
    make_app, make_caller, clock, moment
):
    def ask_again(name):
        if name == moment and not told:
            clock.advance(16)
            told.append(None)
            told[0] = caller.send(headers={**KEY, "X-Request-Id": "twin"})

    told, provider = [], ScriptedProvider()
    caller = make_caller(make_app({"clock": clock, "provider": provider, "checkpoint": ask_again}))
    first = caller.send(headers=KEY)
    (twin,) = told
    assert twin.headers["Idempotent-Replayed"] == "true"
    assert (first.status_code, first.data) == (twin.status_code, twin.data) == (201, twin.data)
    assert first.headers["Location"] == twin.headers["Location"]
    assert len(provider.calls) == _rows(caller) == 1


def test_the_answer_to_a_dead_request_tells_what_its_message_came_to(make_app, make_caller, database_url, clock):
    database, provider = FailingDatabase(database_url), ScriptedProvider()
    caller = make_caller(make_app({"clock": clock, "database": database, "provider": provider}))
    # The message, the attempt and its outcome are written; the answer is what is lost.
    database.fail(1, after=3)
    first = caller.send(headers=KEY)
    assert first.status_code == 201
    assert caller.send(headers=KEY).status_code == 409
    clock.advance(16)
    late = caller.send(headers=KEY)
    assert (late.status_code, late.headers["Idempotent-Replayed"]) == (201, "true")
    assert late.get_json()["id"] == first.get_json()["id"]
    assert caller.send(headers=KEY).data == late.data
    assert len(provider.calls) == _rows(caller) == 1


def test_a_key_that_is_forgotten_while_it_is_asked_for_is_free(postgres_url, make_app, make_caller, clock):
    """What has expired may be swept away between the look that finds it and the one that reads it."""
    provider = ScriptedProvider()
    app = make_app({"clock": clock, "provider": provider}, database_url=postgres_url)
    caller, database = make_caller(app), app.extensions["smsapi"].database
    assert caller.send(headers=KEY).status_code == 201
    clock.advance(86_401)
    swept = []

    def sweep(_connection, _cursor, statement, *_rest):
        if "idempotency_keys" in statement and "INSERT" in statement and not swept:
            swept.append(statement)
            with database.engine.begin() as other:
                other.execute(delete(idempotency_keys))

    event.listen(database.engine, "after_cursor_execute", sweep)
    anew = caller.send(text="Other", headers=KEY)
    event.remove(database.engine, "after_cursor_execute", sweep)
    assert swept
    assert anew.status_code == 201
    assert "Idempotent-Replayed" not in anew.headers
    assert len(provider.calls) == 2


@pytest.mark.parametrize("prefer", ["wait=10", "respond-async"])
@pytest.mark.parametrize("headers", [{}, KEY], ids=["without-key", "with-key"])
def test_a_commit_that_fails_leaves_nothing_half_done(make_app, make_caller, database_url, prefer, headers):
    database, provider = FailingDatabase(database_url), ScriptedProvider()
    caller = make_caller(make_app({"database": database, "provider": provider}))
    database.fail(1)
    lost = caller.send(headers={"Prefer": prefer, **headers})
    assert (lost.status_code, lost.get_json()["code"]) == (503, "store_unavailable")
    assert int(lost.headers["Retry-After"]) >= 1
    assert [_rows(caller, table) for table in ("messages", "events", "idempotency_keys")] == [0, 0, 0]
    assert provider.calls == []
    again = caller.send(headers={"Prefer": prefer, **headers})
    assert again.status_code == (202 if prefer == "respond-async" else 201)
    assert "Idempotent-Replayed" not in again.headers
    assert [_rows(caller, table) for table in ("messages", "idempotency_keys")] == [1, len(headers)]
    assert len(provider.calls) == (0 if prefer == "respond-async" else 1)


def test_a_refusal_that_cannot_be_kept_is_not_answered(make_app, make_caller, database_url):
    database = FailingDatabase(database_url)
    caller = make_caller(make_app({"database": database}), allowed_senders=[])
    database.fail(1)
    assert caller.send(sender="ACME", headers=KEY).status_code == 503
    assert _rows(caller, "idempotency_keys") == 0
    refused = caller.send(sender="ACME", headers=KEY)
    assert refused.get_json()["code"] == "sender_not_allowed"
    assert "Idempotent-Replayed" not in refused.headers

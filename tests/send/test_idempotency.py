"""Idempotency-Key: the first answer is the answer, for a day, for each client and route."""

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, insert

from smsapi.clock import ManualClock
from smsapi.ids import new_id
from smsapi.plivo.outcomes import Rejected
from smsapi.web.idempotency import Claim, entry_of, forget_expired, idempotency_keys
from tests.conftest import eventually
from tests.support.api import TO
from tests.support.far_side import ScriptedProvider, count_rows

DAY = 86400


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def provider():
    return ScriptedProvider()


@pytest.fixture
def app(make_app, clock, provider):
    return make_app({"clock": clock, "provider": provider}, limit_send="9999 per day", limit_number="9999 per day")


@pytest.fixture
def stored(app):
    return lambda table="messages": count_rows(app.extensions["smsapi"].database, table)


def _replayed(answer):
    return answer.headers.get("Idempotent-Replayed") == "true"


def _same(first, second):
    assert not _replayed(first)
    assert _replayed(second)
    assert (second.status_code, second.data, second.content_type) == (first.status_code, first.data, first.content_type)
    kept = ("Location", "Preference-Applied")
    assert [second.headers.get(name) for name in kept] == [first.headers.get(name) for name in kept]
    assert second.headers["X-Request-Id"] != first.headers["X-Request-Id"]


def _key(value="order-7", **more):
    return {"Idempotency-Key": value, **more}


@pytest.mark.parametrize("prefer", ["", "wait=5", "respond-async"])
def test_the_same_request_gets_the_same_answer_and_sends_once(caller, provider, stored, prefer):
    first, second = (caller.send(headers=_key(Prefer=prefer)) for _ in range(2))
    assert first.status_code == (202 if prefer == "respond-async" else 201)
    _same(first, second)
    assert stored() == stored("idempotency_keys") == 1
    assert len(provider.calls) == (0 if prefer == "respond-async" else 1)


def test_how_the_key_and_the_body_are_written_does_not_matter(caller, stored):
    headers = {"X-API-Key": caller.key, "Content-Type": "application/json"}
    bodies = (
        b'{"to": "+14155550123", "text": "\\u00e9", "metadata": {"a": "1", "b": "2"}}',
        '{"metadata":{"b":"2","a":"1"},"text":"é","to":"+14155550123"}'.encode(),
        '\n{ "text" : "é" ,"to":"\\u002b14155550123","metadata": {"a":"1", "b":"2"}}\n'.encode(),
    )
    answers = [
        caller.app.test_client().post("/v1/messages", data=body, headers={**headers, "Idempotency-Key": key})
        for body, key in zip(bodies, ("k-1", '"k-1"', " k-1 "), strict=True)
    ]
    for again in answers[1:]:
        _same(answers[0], again)
    assert stored() == 1


def test_a_bad_key_is_refused(caller, stored):
    for key in ("", " ", '""', "a b", "é", "\x01", "x" * 256, '"a b"', f'"{"x" * 256}"', "a\tb"):
        answer = caller.send(headers=_key(key))
        assert (answer.status_code, answer.get_json()["code"]) == (400, "idempotency_key_invalid"), key
    assert stored() == 0


def test_any_visible_ascii_is_a_key(caller, stored):
    keys = ("x", "x" * 255, f'"{"y" * 255}"', "!~", '"', "a,b", "%00", "';--")
    for key in keys:
        _same(caller.send(headers=_key(key)), caller.send(headers=_key(key)))
    assert stored() == len(keys)


def test_another_body_under_the_same_key_is_refused(caller, provider, stored):
    first = caller.send(headers=_key())
    for other in ({"text": "Hello!"}, {"to": "+14155550124"}, {"reference": "x"}, {"metadata": {"a": "1"}}):
        answer = caller.send(headers=_key(), **other)
        assert (answer.status_code, answer.get_json()["code"]) == (422, "idempotency_key_reused")
        assert not _replayed(answer)
    _same(first, caller.send(headers=_key()))
    assert stored() == len(provider.calls) == 1


def test_each_client_has_keys_of_its_own(app, make_caller, caller, stored):
    other = make_caller(app)
    first, theirs = caller.send(headers=_key()), other.send(headers=_key())
    assert not _replayed(theirs)
    assert first.get_json()["id"] != theirs.get_json()["id"]
    assert stored() == 2


def test_each_route_has_keys_of_its_own(caller, stored):
    body = {"name": "ci", "mode": "test", "scopes": ["messages:send"]}
    assert caller.post("/v1/api-keys", body, **_key()).status_code == 201
    assert caller.send(headers=_key()).status_code == 201
    assert stored("idempotency_keys") == 2


def test_a_rehearsal_with_a_test_key_is_not_the_answer_to_the_real_message(caller, provider, stored):
    body = {"name": "ci", "mode": "test", "scopes": ["messages:send"]}
    rehearsing = caller.post("/v1/api-keys", body).get_json()["key"]
    rehearsal = caller.post("/v1/messages", {"to": TO, "text": "Hello"}, X_API_Key=rehearsing, **_key())
    assert rehearsal.get_json()["test"] is True
    real = caller.send(headers=_key())
    assert not _replayed(real)
    assert real.get_json()["test"] is False
    assert len(provider.calls) == 1
    assert stored() == 2


def test_a_refusal_after_the_body_was_accepted_is_kept(app, make_caller, stored):
    caller = make_caller(app, allowed_senders=["ACME"])
    first = caller.send(sender="+14155550199", headers=_key())
    assert first.get_json()["code"] == "sender_not_allowed"
    assert first.get_json()["request_id"] == first.headers["X-Request-Id"]
    changed = caller.request("PATCH", f"/v1/clients/{caller.client_id}", {"allowed_senders": ["+14155550199"]})
    assert changed.status_code == 200
    _same(first, caller.send(sender="+14155550199", headers=_key()))
    assert caller.send(sender="+14155550199", headers=_key("another")).status_code == 201
    assert stored() == 1


@pytest.mark.parametrize("kind", ["message", "account"])
def test_a_refusal_by_plivo_is_kept_with_its_message(make_app, make_caller, kind):
    provider = ScriptedProvider(Rejected(kind, "no such number", 400))
    caller = make_caller(make_app({"provider": provider}))
    first = caller.send(headers=_key())
    assert first.status_code == (422 if kind == "message" else 502)
    _same(first, caller.send(headers=_key()))
    assert len(provider.calls) == 1


def test_a_request_that_breaks_a_rule_leaves_its_key_free(caller, stored):
    assert caller.send(to="nobody", headers=_key()).status_code == 422
    assert caller.post("/v1/messages", [], **_key()).status_code in {415, 422}
    broken = caller.app.test_client().post(
        "/v1/messages", data=b"{", headers={"X-API-Key": caller.key, "Content-Type": "application/json", **_key()}
    )
    assert broken.status_code == 400
    assert stored("idempotency_keys") == 0
    mended = caller.send(headers=_key())
    assert (mended.status_code, _replayed(mended)) == (201, False)


def test_a_key_is_remembered_for_a_day_and_then_forgotten(caller, clock, stored):
    first = caller.send(headers=_key())
    clock.advance(DAY - 1)
    _same(first, caller.send(headers=_key()))
    clock.advance(1)
    anew = caller.send(text="Something else", headers=_key())
    assert (anew.status_code, _replayed(anew)) == (201, False)
    assert anew.get_json()["id"] != first.get_json()["id"]
    _same(anew, caller.send(text="Something else", headers=_key()))
    assert (stored(), stored("idempotency_keys")) == (2, 1)


def expired_entries(clock, count):
    someone = new_id()
    claims = [Claim(someone, "POST /v1/messages", str(number), b"0" * 32) for number in range(count)]
    return [entry_of(claim, now=clock.now(), lock_seconds=1, ttl_seconds=9) for claim in claims]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_expired_keys_are_found_by_their_place_whatever_postgresql_knows_of_the_table(app, clock):
    database, seen = app.extensions["smsapi"].database, []
    with database.transaction() as connection:
        connection.execute(insert(idempotency_keys), expired_entries(clock, 6000))

    def note(_connection, _cursor, statement, given, *_rest):
        seen.append((statement, given))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.transaction() as connection:
        forget_expired(connection, datetime.now(UTC))
        ((statement, given),) = [each for each in seen if each[0].startswith("DELETE")]
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars().all()
    assert "Tid Scan on idempotency_keys" in "\n".join(plan)


def test_expired_keys_are_forgotten_in_batches_of_five_thousand(app, caller, clock, dispatching, stored):
    database = app.extensions["smsapi"].database
    with database.transaction() as connection:
        connection.execute(insert(idempotency_keys), expired_entries(clock, 10_001))
    clock.advance(9)
    kept = caller.send(headers=_key())
    done = []

    def write_down(_connection, cursor, statement, *_rest):
        if "DELETE" in statement:
            done.append(cursor.rowcount)

    event.listen(database.engine, "after_cursor_execute", write_down)
    event.listen(database.engine, "commit", lambda _: done.append("commit"))
    dispatching(app)
    eventually(lambda: stored("idempotency_keys") == 1)
    # Others' commits may come between, but each of these has one of its own.
    counted = "".join("c" if each == "commit" else f"<{each}>" for each in done)
    assert re.fullmatch(r"c*<5000>c+<5000>c+<1>c*", counted.replace("<0>", "")), counted
    _same(kept, caller.send(headers=_key()))

"""Nobody who said STOP is texted again: not in the same second, not from what waits, not by the other clients."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import requests
from sqlalchemy import select

from smsapi.clock import ManualClock, rfc3339
from smsapi.events.models import events
from smsapi.optouts.ledger import let_calls_end, opt_out
from smsapi.optouts.models import Scope
from smsapi.pacing.models import gates
from smsapi.plivo.outcomes import Unavailable
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.api import LANDLINE, TO
from tests.support.dispatching import ASYNC, attempts_of, row_of, run_due, world_of
from tests.support.examples import sized
from tests.support.inbound import text_us
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken

OTHER_SENDER = "+14155550177"
OTHER = "+14155550188"


@pytest.fixture
def provider():
    return Scripted(taken())


@pytest.fixture
def app(make_app, provider):
    return make_app({"provider": provider}, public_url=PUBLIC_URL)


@pytest.fixture
def caller(app, make_caller):
    return make_caller(app)


def told(app, kind):
    with world_of(app).database.read() as connection:
        rows = connection.execute(events.select().where(events.c.type == kind).order_by(events.c.id)).all()
    return [(f"cli_{row.client_id.hex}", row.data) for row in rows]


def refused(answer):
    assert answer.status_code in {201, 202, 422}, answer.text
    return answer.status_code == 422 and answer.get_json()["code"] == "recipient_opted_out"


def test_after_stop_a_send_is_refused_with_the_date_and_nothing_is_stored(app, caller, provider):
    assert caller.send().status_code == 201
    text_us(app, "Stop.")
    answer = caller.send(headers={"Idempotency_Key": "one"})
    problem = answer.get_json()
    (entry,) = caller.get("/v1/opt-outs").get_json()["data"]
    assert (answer.status_code, problem["code"]) == (422, "recipient_opted_out")
    assert problem["opted_out_at"] == entry["opted_out_at"]
    assert entry["opted_out_at"] in problem["detail"]
    assert len(provider.asked) == 1
    assert len(caller.get("/v1/messages").get_json()["data"]) == 1
    again = caller.send(headers={"Idempotency_Key": "one"})
    assert (again.status_code, again.get_json(), again.headers["Idempotent-Replayed"]) == (422, problem, "true")


@pytest.mark.parametrize("wait", ["respond-async", "wait=5"])
def test_the_refusal_is_kept_with_its_key_also_once_the_recipient_opted_in_again(app, caller, wait):
    headers = {"Idempotency_Key": "k", "Prefer": wait}
    caller.send()
    text_us(app, "STOP")
    assert refused(caller.send(headers=headers))
    text_us(app, "START")
    assert refused(caller.send(headers=headers))
    assert not refused(caller.send(headers={**headers, "Idempotency_Key": "other"}))


def test_what_was_taken_before_stop_keeps_its_answer(app, caller):
    first = caller.send(headers={"Idempotency_Key": "before"})
    text_us(app, "STOP")
    again = caller.send(headers={"Idempotency_Key": "before"})
    assert (again.status_code, again.data) == (201, first.data)


def test_stop_holds_for_all_clients_of_the_sender_and_for_no_other_sender_or_number(app, caller, make_caller):
    other = make_caller(app, allowed_senders=[LANDLINE, OTHER_SENDER])
    caller.send()
    other.send()
    text_us(app, "STOP")
    assert refused(caller.send())
    assert refused(other.send())
    assert not refused(other.send(sender=OTHER_SENDER))
    assert not refused(other.send("+14155550124"))
    assert {client for client, _ in told(app, "optout.created")} == {caller.client_id, other.client_id}


@pytest.mark.parametrize("word", ["START", "Yes!", "unstop", "Anmelden"])
def test_start_opts_in_again_and_the_trail_keeps_what_was_said(app, caller, word):
    caller.send()
    text_us(app, "Please STOP")
    assert not refused(caller.send())
    text_us(app, "STOP")
    text_us(app, "STOP")
    text_us(app, word)
    assert not refused(caller.send())
    assert caller.get(f"/v1/opt-outs/{TO}").status_code == 404
    trail = caller.get(f"/v1/opt-outs/{TO}/history").get_json()["data"]
    assert [(line["action"], line["evidence"]["text"]) for line in trail] == [
        ("created", "STOP"),
        ("repeated", "STOP"),
        ("removed", word),
    ]
    assert {line["evidence"]["sender"] for line in trail} == {LANDLINE}
    seen = {item["id"] for item in caller.get("/v1/inbound-messages").get_json()["data"]}
    assert {line["evidence"]["inbound_id"] for line in trail} < seen
    assert len(told(app, "optout.created")) == len(told(app, "optout.removed")) == 1
    assert [data["text"] for _, data in told(app, "optout.review")] == ["Please STOP"]


def test_what_plivo_takes_the_text_for_is_obeyed(app, caller):
    caller.send()
    text_us(app, "REVOKE", MessageIntent="optout")
    assert caller.get(f"/v1/opt-outs/{TO}").get_json()["source"] == "intent"
    assert refused(caller.send())
    text_us(app, "JOIN", MessageIntent="optin")
    assert not refused(caller.send())


def test_stop_is_obeyed_whatever_plivo_takes_it_for(app, caller):
    caller.send()
    for intent in ("optin", "help"):
        text_us(app, "STOP", MessageIntent=intent)
        assert refused(caller.send())


def test_error_200_in_a_report_opts_out(app, caller):
    message = caller.send().get_json()
    fields = {"Status": "failed", "ErrorCode": "200", "MessageUUID": message["provider"]["message_uuid"]}
    for _ in range(2):
        assert report(app, message["id"], fields, token=AUTH_TOKEN).status_code == 200
    entry = caller.get(f"/v1/opt-outs/{TO}").get_json()
    assert (entry["source"], entry["scope"], entry["from"]) == ("provider", "sender", LANDLINE)
    assert refused(caller.send())
    assert len(told(app, "optout.created")) == 1


def test_error_200_of_a_message_that_is_redacted_opts_nobody_out(app, caller):
    message = caller.send().get_json()
    report(app, message["id"], {"Status": "delivered"}, token=AUTH_TOKEN)
    assert caller.post(f"/v1/messages/{message['id']}/redact", {}).status_code == 200
    report(app, message["id"], {"Status": "failed", "ErrorCode": "200"}, token=AUTH_TOKEN)
    assert caller.get("/v1/opt-outs").get_json()["data"] == []
    assert told(app, "optout.created") == []


def test_a_test_key_s_opt_outs_are_its_own(make_app, make_caller, provider):
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL)
    test, live = make_caller(app, mode="test"), make_caller(app)
    number = "+14155550004"
    assert test.send(number).status_code == 201
    clock.advance(5)
    run_due(world_of(app))
    assert refused(test.send(number))
    assert test.get(f"/v1/opt-outs/{number}").get_json()["test"] is True
    assert not refused(live.send(number))
    assert not refused(make_caller(app, mode="test").send(number))
    text_us(app, "STOP", sender=TO)
    live.request("PUT", f"/v1/opt-outs/{TO}")
    assert refused(live.send())
    assert not refused(test.send())


def test_a_client_s_own_word_opts_out_of_that_client(app, make_caller):
    both = [LANDLINE, OTHER_SENDER]
    own, other = make_caller(app, optout_keywords=["Basta ya"], allowed_senders=both), make_caller(app)
    other.send()
    own.send()
    text_us(app, "¡Basta ya!")
    assert refused(own.send())
    assert not refused(own.send(sender=OTHER_SENDER))
    assert not refused(other.send())
    own.send(sender=OTHER_SENDER)
    text_us(app, "START")
    assert not refused(own.send())


@pytest.mark.parametrize("word", ["🛑", "!!!", "\u200b"])
def test_a_word_of_signs_that_no_text_would_match_is_refused(app, make_caller, word):
    caller = make_caller(app)
    order = {"optout_keywords": ["Basta ya", word]}
    for answer in (caller.post("/v1/clients", {"name": "shop", **order}), patch(caller, order)):
        assert answer.status_code == 422
        assert [each["pointer"] for each in answer.get_json()["errors"]] == ["/optout_keywords/1"]


def patch(caller, order):
    return caller.request("PATCH", f"/v1/clients/{caller.client_id}", order)


def test_what_waits_when_stop_comes_is_failed_and_never_sent(app, caller, provider):
    waiting = [caller.send(text=f"{number}", headers=ASYNC).get_json() for number in range(5)]
    text_us(app, "STOP")
    run_due(world_of(app))
    assert provider.asked == []
    for message in waiting:
        seen = caller.message(message["id"])
        assert (seen["status"], seen["error"]["code"], seen["attempts"]) == ("failed", "recipient_opted_out", 0)
        assert [event["type"] for event in caller.events(message["id"])] == ["message.queued", "message.failed"]


def test_what_is_scheduled_is_failed_at_its_time_unless_the_recipient_opted_in_again(make_app, make_caller, provider):
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL)
    caller = make_caller(app)
    early, late = (caller.send(send_at=rfc3339(clock.now() + timedelta(hours=hours))).get_json() for hours in (1, 3))
    text_us(app, "STOP")
    changed = caller.request("PATCH", f"/v1/messages/{late['id']}", {"text": "Other"})
    assert (changed.status_code, changed.get_json()["code"]) == (422, "recipient_opted_out")
    clock.advance(3601)
    run_due(world_of(app))
    text_us(app, "START")
    clock.advance(2 * 3600)
    run_due(world_of(app))
    assert [caller.message(each["id"])["status"] for each in (early, late)] == ["failed", "sent"]


def test_between_two_attempts_stop_ends_it_and_the_caller_who_waits_is_told(make_app, make_caller):
    app = None

    def stop(_):
        text_us(app, "STOP")

    provider = Scripted(Unavailable("busy", 429), taken(), before=stop)
    app = make_app({"provider": provider}, public_url=PUBLIC_URL)
    caller = make_caller(app)
    answer = caller.send(headers={"Prefer": "wait=10"})
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (422, "recipient_opted_out")
    message = caller.message(problem["message_id"])
    assert (message["status"], message["attempts"]) == ("failed", 1)
    assert len(attempts_of(world_of(app), message)) == len(provider.asked) == 1


def test_a_preview_foretells_the_refusal(app, caller):
    caller.send()
    text_us(app, "STOP")
    seen = caller.post("/v1/messages/preview", {"to": TO, "text": "Hello"}).get_json()
    assert seen["would_send"] is False
    assert [refusal["code"] for refusal in seen["refusals"]] == ["recipient_opted_out"]


def test_stop_is_answered_once_the_call_that_had_begun_is_over(make_app, make_caller):
    calling, may_end, answered = threading.Event(), threading.Event(), threading.Event()

    def call(_):
        calling.set()
        assert may_end.wait(10)

    app = make_app({"provider": Scripted(taken(), before=call)}, public_url=PUBLIC_URL)
    caller = make_caller(app)

    def stop():
        text_us(app, "STOP")
        answered.set()

    with ThreadPoolExecutor(2) as threads:
        sending = threads.submit(caller.send)
        assert calling.wait(10)
        stopping = threads.submit(stop)
        eventually(lambda: caller.get(f"/v1/opt-outs/{TO}").status_code == 200)
        assert not answered.is_set()
        may_end.set()
        stopping.result(10)
        assert sending.result(10).status_code == 201


# SQLite has one writer at a time.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_attempt_that_had_looked_before_the_opt_out_was_there_is_waited_for(make_app, make_caller):
    app = make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL, pace_long_code=1000.0)
    world, caller, answered = world_of(app), make_caller(app), threading.Event()
    caller.send(to=OTHER)  # so that there is a gate to stand at
    scope = Scope(number=TO, client_id=None, sender=LANDLINE, test=False)

    def wait_for_calls():
        let_calls_end(world, TO)
        answered.set()

    with ThreadPoolExecutor(2) as threads:
        with world.database.transaction() as gatekeeper:
            gatekeeper.execute(select(gates).with_for_update()).all()
            sending = threads.submit(caller.send)
            eventually(lambda: stands_at_a_gate(world))
            # As an opt-out whose transaction began before the message was there.
            with world.database.transaction() as connection:
                opt_out(connection, scope, source="keyword", at=world.clock.now(), evidence={})
            stopping = threads.submit(wait_for_calls)
            assert not answered.wait(0.3)
        stopping.result(10)
        assert row_of(world, sending.result(10).get_json()).status == "sent"
    assert refused(caller.send())


def stands_at_a_gate(world):
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%gates%'"
    with world.database.read() as connection:
        return connection.exec_driver_sql(waiting.replace("%", "%%")).scalar_one()


def test_stop_through_the_simulator_and_a_send_in_the_same_second(live, simulator):
    service = live()
    assert service.send().status_code == 201
    order = {"from": TO, "to": LANDLINE, "text": "STOP", "url": f"{service.url}/plivo/inbound"}
    requests.post(f"{simulator.url}/_inbound", json=order, timeout=10)
    eventually(lambda: service.request("GET", f"/v1/opt-outs/{TO}").status_code == 200)
    answer = service.send()
    assert (answer.status_code, answer.json()["code"]) == (422, "recipient_opted_out")
    assert len(simulator.store.taken(TO.removeprefix("+"))) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_stop_during_a_stream_of_sends_stops_the_rest_at_once(make_app, dispatching, provider):
    lots = dict.fromkeys(("limit_send", "limit_key", "limit_number"), "99999 per minute")
    app = make_app({"provider": provider}, public_url=PUBLIC_URL, **lots)
    caller = new_caller(app)
    dispatching(app)

    def send(number):
        answer = caller.send(text=f"{number}", headers=ASYNC)
        return answer.get_json()["id"] if not refused(answer) else None

    with ThreadPoolExecutor(4) as threads:
        stream = threads.map(send, range(sized(300, 1000)))
        eventually(lambda: len(provider.asked) >= 20)
        text_us(app, "STOP")
        calls = len(provider.asked)
        made = list(stream)
    taken_ids, refusals = [each for each in made if each], made.count(None)
    world_of(app).bell.ring()
    eventually(lambda: not waiting_of(caller))
    assert len(provider.asked) == calls
    assert refusals > 0
    assert calls <= len(taken_ids)


def waiting_of(caller):
    return caller.get("/v1/messages?status=queued").get_json()["data"]

"""``smsapi messages``: one message with all that became of it, and an operator's decisions about it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock
from smsapi.errors import SmsapiError
from smsapi.messages.statuses import STATUSES
from smsapi.plivo.outcomes import Unavailable, Unknown
from tests.conftest import new_caller
from tests.support.command import called
from tests.support.dispatching import ASYNC, row_of, run_due, world_of
from tests.support.providers import Scripted, taken

NOBODY = f"msg_{0:032}"
TO, TEXT, SENDER = "+14155556001", "Grüße an Anna", "+14155550100"


@pytest.fixture
def run(database_url):
    """Run a command on this test's store, with no other setting than that."""
    return lambda *words: called("messages", *words, SMSAPI_DATABASE_URL=database_url)


@pytest.fixture
def shown(run):
    def show(message, *options):
        done = run("show", message["id"], "--json", *options)
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        return json.loads(done.stdout)

    return show


@pytest.fixture
def doubtful(make_app):
    """An app whose first call to Plivo has an unknown outcome, its provider, a caller, and the message."""
    provider = Scripted(Unknown("no answer"), taken())
    app = make_app({"provider": provider})
    caller = new_caller(app)
    return app, provider, caller, caller.send(on_unknown="hold").get_json()


def test_a_message_is_shown_with_its_attempts_and_events_and_without_anybodys_data(make_app, run, shown):
    app = make_app({"provider": Scripted(Unknown(f"lost on the way to {TO}"))})
    caller = new_caller(app)
    sent = caller.send(to=TO, text=TEXT, metadata={"name": "Anna"}, reference="order 7", on_unknown="hold").get_json()
    found = shown(sent)
    message = found["message"]
    assert (message["id"], message["status"], message["reference"]) == (sent["id"], "unknown", "order 7")
    assert (message["to"], message["from"]) == ("+141******01", "+141******00")
    assert (message["text"], message["metadata"]) == ("[hidden]", {"name": "[hidden]"})
    assert (found["lane"], found["on_unknown"], found["due_at"]) == ("transactional", "hold", None)
    (attempt,) = found["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["message_uuid"]) == (1, "unknown", None)
    assert attempt["started_at"] <= attempt["finished_at"]
    assert [event["type"] for event in found["events"]] == ["message.queued", "message.unknown"]
    told = run("show", sent["id"])
    assert told.exit_code == 0
    for line in (f"id          {sent['id']}", "status      unknown", "reference   order 7"):
        assert line in told.stdout.splitlines()
    for output in (json.dumps(found), told.output):
        assert not [secret for secret in (TO, TEXT, "Anna", SENDER, TO[1:]) if secret in output]


def test_what_is_asked_to_be_revealed_is_shown_as_the_api_would(make_app, run, shown):
    caller = new_caller(make_app())
    sent = caller.send(to=TO, text=TEXT, metadata={"name": "Anna"}).get_json()
    found = shown(sent, "--reveal")
    assert found["message"] == caller.message(sent["id"])
    assert found["events"] == caller.events(sent["id"])
    assert TO in run("show", sent["id"], "--reveal").stdout
    assert TEXT in run("show", sent["id"], "--reveal").stdout


def test_a_message_between_two_attempts_is_tried_at_once(make_app, run):
    clock = ManualClock(datetime.now(UTC) - timedelta(seconds=1))
    provider = Scripted(Unavailable("throttled", 429, retry_after_seconds=600), taken())
    app = make_app({"clock": clock, "provider": provider})
    world, caller = world_of(app), new_caller(app)
    sent = caller.send(headers=ASYNC).get_json()
    run_due(world)
    clock.advance(60)
    assert run_due(world) == 0
    assert run("retry", sent["id"]).stdout == f"{sent['id']} is due now.\n"
    assert run_due(world) == 1
    assert caller.message(sent["id"])["status"] == "sent"
    assert len(provider.asked) == 2
    (event,) = [each for each in caller.events(sent["id"]) if each["data"].get("decision")]
    assert (event["type"], event["data"]) == ("message.queued", {"decision": "retry", "by": "operator"})


def test_a_message_that_is_due_already_is_left_as_it_is(make_app, run):
    app = make_app()
    sent = new_caller(app).send(headers=ASYNC).get_json()
    before = row_of(world_of(app), sent)
    assert run("retry", sent["id"]).exit_code == 0
    assert row_of(world_of(app), sent) == before


@pytest.mark.parametrize("words", [("retry",), ("resolve", "--outcome", "resend")])
def test_an_unknown_message_is_sent_again_when_told_so(doubtful, run, words):
    app, provider, caller, sent = doubtful
    assert sent["status"] == "unknown"
    assert run_due(world_of(app)) == 0
    assert run(words[0], sent["id"], *words[1:]).exit_code == 0
    assert run_due(world_of(app)) == 1
    assert caller.message(sent["id"])["status"] == "sent"
    assert len(provider.asked) == 2
    assert {"decision": "resend", "by": "operator"} in [event["data"] for event in caller.events(sent["id"])]


@pytest.mark.parametrize("outcome", ["sent", "failed"])
def test_an_unknown_message_is_what_an_operator_says_and_is_not_sent_again(doubtful, run, outcome):
    app, provider, caller, sent = doubtful
    assert run("resolve", sent["id"], "--outcome", outcome).stdout == f"{sent['id']} is {outcome} now.\n"
    assert run_due(world_of(app)) == 0
    seen = caller.message(sent["id"])
    assert (seen["status"], seen["sent_at"] is not None) == (outcome, outcome == "sent")
    assert seen["provider"]["name"] == "plivo"
    assert len(provider.asked) == 1
    last = caller.events(sent["id"])[-1]
    assert last["type"] == f"message.{outcome}"
    assert {"decision": outcome, "by": "operator"}.items() <= last["data"].items()
    again = run("resolve", sent["id"], "--outcome", "resend")
    assert isinstance(again.exception, SmsapiError)
    assert outcome in again.exception.detail


def test_a_status_that_leaves_nothing_to_try_is_refused_with_a_sentence(make_app, database_url, run):
    app = make_app()
    caller, world = new_caller(app), world_of(app)
    sent = caller.send().get_json()
    for status in sorted(set(STATUSES) - {"queued", "unknown"}):
        with world.database.transaction() as connection:
            connection.exec_driver_sql(f"UPDATE messages SET status = '{status}'")
        refused = run("retry", sent["id"])
        assert isinstance(refused.exception, SmsapiError)
        assert refused.exception.detail.startswith(f"The message is {status}")
        assert ("final" in refused.exception.detail) == (
            status in {"delivered", "undelivered", "failed", "canceled", "expired"}
        )
        assert row_of(world, sent).status == status


def test_what_is_not_there_or_no_id_is_a_sentence(app, run):
    for words in (("show", NOBODY), ("retry", NOBODY), ("resolve", NOBODY, "--outcome", "sent")):
        assert str(run(*words).exception) == "There is no such message."
    for words in (("show", "msg_1"), ("retry", "key" + NOBODY[3:]), ("resolve", NOBODY), ("resolve", "x")):
        assert run(*words).exit_code == 2
    assert run("resolve", NOBODY, "--outcome", "delivered").exit_code == 2

"""``smsapi privacy erase``: a person's number and what they were texted go, wherever they are stored."""

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from smsapi.clock import ManualClock
from smsapi.db import metadata
from smsapi.events.store import record_event
from smsapi.plivo.outcomes import Unknown
from smsapi.privacy.service import erase_number
from tests.conftest import new_caller
from tests.support.command import called, run
from tests.support.dispatching import ASYNC, row_of, run_due, world_of
from tests.support.providers import Scripted, taken

TO, ANOTHER = "+14155556001", "+14155556002"


@pytest.fixture
def make(make_app):
    def build(*outcomes):
        provider = Scripted(*(outcomes or (taken(),)))
        app = make_app({"provider": provider, "clock": ManualClock(datetime.now(UTC))})
        return app, new_caller(app)

    return build


def everything_stored(app):
    with world_of(app).database.read() as connection:
        return repr([connection.execute(select(table)).all() for table in metadata.sorted_tables])


def test_a_number_is_erased_for_all_clients_and_nobody_elses_is(make):
    app, caller = make()
    other = new_caller(app, name="other")
    gone = [one.send(to=TO, text="xylophone").get_json() for one in (caller, caller, other)]
    kept = other.send(to=ANOTHER).get_json()
    erased = erase_number(world_of(app), TO)
    assert (erased.rows["messages"], erased.canceled, erased.left) == (3, 0, 0)
    assert not any(word in everything_stored(app) for word in (TO[1:], "xylophone"))
    assert other.message(kept["id"]) == kept
    assert caller.message(gone[0]["id"])["segments"] == 1
    again = erase_number(world_of(app), TO)
    assert set(again.rows.values()) == {0}


def test_what_waits_to_be_sent_to_them_is_canceled_and_never_sent(make):
    app, caller = make()
    message = caller.send(to=TO, headers=ASYNC).get_json()
    erased = erase_number(world_of(app), TO)
    assert (erased.canceled, erased.rows["messages"]) == (1, 1)
    assert run_due(world_of(app)) == 0
    seen = caller.message(message["id"])
    assert (seen["status"], seen["to"]) == ("canceled", "")


def test_what_is_being_looked_for_at_plivo_is_left_and_told(make):
    app, caller = make(Unknown("no answer"))
    message = caller.send(to=TO).get_json()
    erased = erase_number(world_of(app), TO)
    assert (erased.left, erased.rows["messages"]) == (1, 0)
    assert row_of(world_of(app), message).to_number == TO


def test_an_event_that_is_about_no_message_and_an_answer_that_names_the_number_forget_it(make):
    app, caller = make()
    world = world_of(app)
    caller.post("/v1/messages", {"to": TO, "text": "xylophone", "send_at": "2020-01-01T00:00:00Z"}, Idempotency_Key="k")
    client_id = row_of(world, caller.send(to=ANOTHER).get_json()).client_id
    with world.database.transaction() as connection:
        data = {"number": TO, "text": "xylophone", "to": [ANOTHER]}
        record_event(connection, client_id=client_id, kind="message.received", at=world.clock.now(), data=data)
    erased = erase_number(world, TO)
    assert erased.rows["events"] == 1
    stored = everything_stored(app)
    assert (TO[1:] in stored, "xylophone" in stored, ANOTHER in stored) == (False, False, True)


def test_the_command_says_what_it_erased(make, database_url):
    _, caller = make()
    caller.send(to=TO)
    # As a process of its own: what is logged meanwhile must not get in between.
    done = run("privacy", "erase", "--number", TO, "--json", SMSAPI_DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["rows"]["messages"], said["canceled"], said["left"]) == (1, 0, 0)
    assert TO.encode() not in done.stdout + done.stderr


def test_what_is_no_number_is_refused(database_url):
    refused = called("privacy", "erase", "--number", "everybody", SMSAPI_DATABASE_URL=database_url)
    assert (refused.exit_code, "E.164" in refused.output) == (2, True)


def test_what_was_written_before_a_number_had_one_form_is_erased_with_it_and_no_other_number_is(make):
    app, caller = make()
    world = world_of(app)
    client_id = row_of(world, caller.send(to=ANOTHER).get_json()).client_id
    with world.database.transaction() as connection:
        for number in ("5215512345678", "+5215512345678", "525512345678", "+14525512345678"):
            data = {"number": number, "from": ANOTHER, "text": "xylophone"}
            record_event(connection, client_id=client_id, kind="optout.review", at=world.clock.now(), data=data)
    assert erase_number(world, "+525512345678").rows["events"] == 3
    stored = everything_stored(app)
    assert ("5512345678'" in stored.replace("+14525512345678", ""), "+14525512345678" in stored) == (False, True)

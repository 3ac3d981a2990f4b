"""A number has one form at every door, also where its plan does not know it: what one spelling did, all others find."""

import csv
import io
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select

from smsapi import migrations
from smsapi.auth.service import create_client
from smsapi.db import Database, metadata
from smsapi.ids import new_id
from smsapi.inbound.models import inbound_messages
from smsapi.optouts.models import opt_out_log, opt_outs
from tests.support.api import LANDLINE, TO
from tests.support.command import run
from tests.support.dispatching import world_of
from tests.support.inbound import text_us
from tests.support.plivo_calls import PUBLIC_URL
from tests.support.providers import Scripted, taken
from tests.support.uploading import CSV

# As Plivo or an address book may write it, and the form in which it is stored and shown.
NUMBERS = [
    ("5215512345678", "+525512345678"),
    ("22507123456", "+22507123456"),
    ("22921123456", "+22921123456"),
    ("999123456789", "+999123456789"),
    ("4407911123456", "+447911123456"),
]
MEXICAN, FORMER = "+525512345678", "+5215512345678"


@pytest.fixture
def app(make_app):
    return make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL)


@pytest.fixture
def caller(app, make_caller):
    return make_caller(app, default_sender=LANDLINE)


def upload(caller, content):
    headers = {"X-API-Key": caller.key}
    answer = caller.app.test_client().post(
        "/v1/opt-outs/import", data=content, headers=headers, content_type="text/csv"
    )
    assert answer.status_code == 200, answer.text
    return answer.get_json()


@pytest.mark.parametrize(("shown", "stored"), NUMBERS)
def test_stop_is_found_exported_imported_taken_back_and_erased(app, caller, database_url, shown, stored):
    text_us(app, "STOP", From=shown)
    text_us(app, "Hello", From=f"+{shown}")
    came = caller.get(f"/v1/inbound-messages?from=%2B{shown}").get_json()["data"]
    assert [each["from"] for each in came] == [stored, stored]
    for path in (f"/v1/opt-outs/+{shown}", f"/v1/opt-outs/{stored}"):
        assert caller.get(path).get_json()["number"] == stored
        (line,) = caller.get(f"{path}/history").get_json()["data"]
        assert (line["number"], line["evidence"]["text"]) == (stored, "STOP")
    exported = caller.get("/v1/opt-outs/export").text
    assert [row["number"] for row in csv.DictReader(io.StringIO(exported))] == [stored]
    assert upload(caller, exported) == {"added": 1, "already": 0, "rejected": 0, "rejects": []}
    assert upload(caller, f"number\n+{shown}\n")["rejected"] == 0
    assert {entry["number"] for entry in caller.get("/v1/opt-outs").get_json()["data"]} == {stored}
    assert caller.request("DELETE", f"/v1/opt-outs/+{shown}").status_code == 204
    assert caller.get(f"/v1/opt-outs/{stored}").status_code == 404
    done = run("privacy", "erase", "--number", f"+{shown}", "--json", SMSAPI_DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["inbound"] == 2
    assert stored[1:] not in everything_but_the_ledger(app)


def everything_but_the_ledger(app):
    kept = {opt_outs.name, opt_out_log.name}
    with world_of(app).database.read() as connection:
        tables = [table for table in metadata.sorted_tables if table.name not in kept]
        return repr([connection.execute(select(table)).all() for table in tables])


@pytest.mark.parametrize(("said", "sent"), [(FORMER, MEXICAN), (MEXICAN, FORMER), (FORMER, FORMER)])
def test_what_one_mexican_form_says_stops_sends_to_the_other(app, caller, said, sent):
    assert caller.send(sent).get_json()["to"] == MEXICAN
    text_us(app, "STOP", sender=said)
    refusal = caller.send(sent)
    assert (refusal.status_code, refusal.get_json()["code"]) == (422, "recipient_opted_out")
    previewed = caller.post("/v1/messages/preview", {"to": sent, "text": "Hello"}).get_json()
    assert [each["code"] for each in previewed["refusals"]] == ["recipient_opted_out"]
    text_us(app, "START", sender=sent)
    assert caller.send(sent).status_code == 201
    assert caller.request("PUT", f"/v1/opt-outs/{said}").get_json()["number"] == MEXICAN
    assert caller.send(sent).status_code == 422


def test_every_other_door_reads_the_number_so(app, caller):
    message = caller.send(FORMER).get_json()
    for asked in (FORMER, MEXICAN):
        (found,) = caller.get(f"/v1/messages?to=%2B{asked[1:]}").get_json()["data"]
        assert found["id"] == message["id"]
    assert caller.send(sender=FORMER).get_json()["code"] == "sender_not_allowed"
    assert caller.send(TO).status_code == 201


def test_a_batch_sends_once_to_a_number_of_two_spellings_and_not_where_it_opted_out(app, caller):
    order = {"text": "Hello", "recipients": [{"to": FORMER}, {"to": MEXICAN}, {"to": TO}]}
    batch = caller.post("/v1/batches", order).get_json()
    assert (batch["total"], batch["accepted"], batch["duplicates"]) == (3, 2, 1)
    text_us(app, "STOP", sender=FORMER)
    headers = {"X-API-Key": caller.key}
    content = f"to\n{FORMER}\n{MEXICAN}\n{TO}\n"
    answer = caller.app.test_client().post("/v1/batches?text=Hi", data=content, headers=headers, content_type=CSV)
    assert answer.status_code == 202, answer.text
    assert {each["code"] for each in rejects(caller, answer.get_json()["id"])} == {"recipient_opted_out"}


def rejects(caller, batch_id):
    return caller.get(f"/v1/batches/{batch_id}/rejects").get_json()["data"]


@pytest.mark.parametrize("value", ["+1", "5215512345678", "+123456", "+1234567890123456", "T-Mobile", "1.4155E+10"])
def test_what_is_no_number_is_refused_with_its_field_at_every_door(caller, value):
    answer = caller.request("PUT", f"/v1/opt-outs/{value}")
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/number")
    answer = caller.send(value)
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/to")
    answer = caller.get("/v1/messages?to=" + value.replace("+", "%2B"))
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/to")
    assert upload(caller, f"number\n{value}\n")["rejected"] == 1


def test_what_a_spreadsheet_made_of_a_number_is_never_a_wrong_number(caller):
    headers = {"X-API-Key": caller.key}
    content = "to\n1.4155E+10\n+1.4155E+10\n14155550123\n"
    answer = caller.app.test_client().post("/v1/batches?text=Hi", data=content, headers=headers, content_type=CSV)
    found = rejects(caller, answer.get_json()["id"])
    assert {each["code"] for each in found} == {"invalid_number"}
    assert len(found) == 3


@pytest.mark.parametrize("number", ["+2250707123456", "+2290197123456"])
def test_numbers_of_the_new_ivorian_and_beninese_plans_are_texted(make_app, make_caller, number):
    app = make_app({"provider": Scripted(taken())}, strict_numbers=True)
    assert make_caller(app).send(number).get_json()["to"] == number


@pytest.fixture
def old_store(database_url):
    """A store as the release before left it."""
    database = Database(database_url)
    migrations.downgrade(database, "0011")
    yield database
    migrations.upgrade(database)
    database.close()


def test_what_was_stored_without_its_plus_sign_is_found_after_the_upgrade(
    old_store, make_app, make_caller, database_url
):
    early, late = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC)
    with old_store.transaction() as connection:
        client_id = create_client(connection, early, name="old").id
        for number, at in (("5215512345678", early), (MEXICAN, late), ("22507123456", early), ("12345", early)):
            connection.execute(opt_outs.insert().values(entry(number, client_id, at)))
            connection.execute(opt_out_log.insert().values(line(number, client_id, at)))
        connection.execute(inbound_messages.insert().values(inbound("22507123456", client_id, early)))
    migrations.upgrade(old_store)
    with old_store.read() as connection:
        stood = connection.execute(select(opt_outs.c.number, opt_outs.c.at).order_by(opt_outs.c.number)).all()
        trail = connection.execute(select(opt_out_log.c.number).order_by(opt_out_log.c.number)).scalars().all()
        came = connection.execute(select(inbound_messages.c.from_number)).scalars().all()
    assert [tuple(row) for row in stood] == [("+22507123456", early), (MEXICAN, early), ("12345", early)]
    assert trail == ["+22507123456", MEXICAN, MEXICAN, "12345"]
    assert came == ["+22507123456"]


def entry(number, client_id: UUID, at):
    own = {"number": number, "test": False, "holds_for": f"{client_id.hex}/*", "client_id": client_id, "sender": None}
    return {"id": new_id(), **own, "source": "keyword", "reason": None, "at": at}


def line(number, client_id: UUID, at):
    own = {"number": number, "test": False, "client_id": client_id, "sender": None}
    return {"id": new_id(), **own, "action": "created", "source": "keyword", "at": at, "evidence": {}}


def inbound(number, client_id: UUID, at):
    known = {"client_id": client_id, "from_number": number, "to_number": LANDLINE, "text": "STOP", "type": "sms"}
    return {"id": new_id(), "provider_uuid": "u-1", **known, "media": [], "extra": {}, "received_at": at}

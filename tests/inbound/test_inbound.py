"""Texts that people send to our numbers: taken from Plivo alone, stored once, given to whom they are for."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import requests

from smsapi.auth.models import clients
from smsapi.clock import rfc3339
from tests.conftest import eventually, new_caller
from tests.support.api import LANDLINE, TO
from tests.support.auth import change_row
from tests.support.dispatching import world_of
from tests.support.inbound import bring, form, text_us, told
from tests.support.plivo_calls import PUBLIC_URL
from tests.support.providers import Scripted, taken

OTHER_SENDER = "+14155550177"


@pytest.fixture
def app(make_app):
    return make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL)


@pytest.fixture
def caller(app, make_caller):
    return make_caller(app)


def listed(caller, query=""):
    answer = caller.get(f"/v1/inbound-messages{query}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()["data"]


def test_a_text_is_stored_linked_to_the_last_message_and_told(app, caller):
    caller.send()
    last = caller.send(text="How was it?").get_json()
    answer = text_us(app, "Fine ☺", Units="2", TotalRate="0.0", MessageIntent="")
    assert (answer.data, answer.content_type) == (b"<Response></Response>\n", "application/xml; charset=utf-8")
    (seen,) = listed(caller)
    assert seen["id"].startswith("inb_")
    assert (seen["from"], seen["to"], seen["text"], seen["segments"]) == (TO, LANDLINE, "Fine ☺", 2)
    assert (seen["client_id"], seen["message_id"]) == (caller.client_id, last["id"])
    assert seen["provider"]["extra"] == {"TotalRate": "0.0"}
    assert caller.get(f"/v1/inbound-messages/{seen['id']}").get_json() == seen
    assert told(app, "message.received") == [seen]


def test_the_same_text_brought_again_changes_nothing(app, caller):
    caller.send()
    fields = form("STOP")
    answers = [bring(app, fields) for _ in range(3)]
    answers.append(bring(app, fields | {"Text": "Something else"}))
    assert {(answer.status_code, answer.data) for answer in answers} == {(200, b"<Response></Response>\n")}
    assert [seen["text"] for seen in listed(caller)] == ["STOP"]
    assert len(told(app, "optout.created")) == 1


def test_it_may_come_by_get(app, caller):
    caller.send()
    assert bring(app, form("Hello by GET"), method="GET").status_code == 200
    assert [seen["text"] for seen in listed(caller)] == ["Hello by GET"]


def test_what_plivo_did_not_sign_is_refused_counted_and_not_stored(app, caller):
    caller.send()
    answer = bring(app, form("STOP"), token="another-token")
    assert (answer.status_code, answer.get_json()["code"]) == (403, "signature_invalid")
    assert app.test_client().post("/plivo/inbound", data=form("STOP")).status_code == 403
    assert app.test_client().get("/plivo/inbound").status_code == 403
    assert listed(caller) == []
    assert caller.send().status_code == 201
    assert b'smsapi_inbound_total{result="refused"} 3.0' in world_of(app).metrics.expose()


def test_a_picture_keeps_all_that_plivo_says_of_it(app, caller):
    caller.send()
    fields = form("", Type="mms", Body="Look", MediaCount="2", Media0="https://media.plivo.com/a", PowerpackUUID="p-1")
    del fields["Text"]
    bring(app, fields | {"Media1": "https://media.plivo.com/b", "ContentType": "media", "Huge": "x" * 5000})
    (seen,) = listed(caller)
    assert (seen["type"], seen["text"]) == ("mms", "Look")
    assert seen["media"] == ["https://media.plivo.com/a", "https://media.plivo.com/b"]
    assert seen["provider"]["powerpack_uuid"] == "p-1"
    assert seen["provider"]["extra"] == {"ContentType": "media", "Huge": "x" * 1000}


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800".encode("utf-8", "replace").decode(), "😀" * 4000, ""])
def test_any_text_can_be_stored(app, caller, text):
    caller.send()
    text_us(app, text)
    assert len(listed(caller)) == 1


def test_it_is_of_the_client_that_texted_last_between_the_two_numbers(app, make_caller):
    both = [LANDLINE, OTHER_SENDER]
    first, second = (make_caller(app, name=name, allowed_senders=both) for name in ("first", "second"))
    first.send()
    second.send()
    second.send(sender=OTHER_SENDER)
    first.send(sender=OTHER_SENDER)
    text_us(app, "to the landline")
    text_us(app, "to the other", to=OTHER_SENDER)
    assert [seen["text"] for seen in listed(first)] == ["to the other"]
    assert [seen["text"] for seen in listed(second)] == ["to the landline"]
    foreign = listed(second)[0]["id"]
    assert first.get(f"/v1/inbound-messages/{foreign}").status_code == 404


def test_without_a_message_it_is_of_the_one_client_that_has_the_number(app, make_caller):
    one = make_caller(app, default_sender=OTHER_SENDER)
    make_caller(app, allowed_senders=["+14155550188"])
    text_us(app, "Anybody there?", to=OTHER_SENDER)
    (seen,) = listed(one)
    assert (seen["client_id"], seen["message_id"]) == (one.client_id, None)


def test_what_is_nobody_s_is_stored_and_seen_by_admins_alone(app, make_caller):
    for _ in range(2):
        make_caller(app, allowed_senders=[OTHER_SENDER])
    admin, plain = make_caller(app), make_caller(app, scopes=("messages:read",))
    text_us(app, "Who are you?", to=OTHER_SENDER)
    (seen,) = listed(admin)
    assert (seen["text"], seen["client_id"]) == ("Who are you?", None)
    assert listed(plain) == []
    assert plain.get(f"/v1/inbound-messages/{seen['id']}").status_code == 404
    assert told(app, "message.received") == []


def test_a_message_that_has_not_left_links_nothing_and_a_test_key_s_neither(app, make_caller):
    live = make_caller(app)
    make_caller(app, mode="test").send()
    assert live.send(send_at=rfc3339(datetime.now(UTC) + timedelta(hours=1))).status_code == 202
    text_us(app, "Hello")
    assert listed(live)[0]["client_id"] is None


def test_a_test_key_sees_no_real_person_s_text(app, make_caller):
    live = make_caller(app)
    live.send()
    text_us(app, "Hello")
    (seen,) = listed(live)
    test = make_caller(app, mode="test")
    assert listed(test) == []
    assert test.get(f"/v1/inbound-messages/{seen['id']}").status_code == 404


def test_the_list_is_filtered_and_comes_in_pages_newest_first(app, caller):
    caller.send()
    caller.send("+14155550124")
    for number in range(5):
        text_us(app, f"text {number}", sender=TO if number % 2 else "+14155550124")
    assert [seen["text"] for seen in listed(caller)] == [f"text {number}" for number in (4, 3, 2, 1, 0)]
    assert [seen["text"] for seen in listed(caller, "?from=%2B14155550123")] == ["text 3", "text 1"]
    assert listed(caller, "?to=%2B14155550199") == []
    page = caller.get("/v1/inbound-messages?limit=2").get_json()
    rest = caller.get(f"/v1/inbound-messages?limit=3&cursor={page['next_cursor']}").get_json()
    assert [seen["text"] for seen in rest["data"]] == ["text 2", "text 1", "text 0"]
    assert rest["next_cursor"] is None
    moment = page["data"][1]["received_at"]
    assert all(seen["received_at"] > moment for seen in listed(caller, f"?created_after={moment}"))
    assert caller.get("/v1/inbound-messages?limit=0").status_code == 422
    assert caller.get(f"/v1/inbound-messages/inb_{uuid4().hex}").status_code == 404


def test_reading_needs_its_scope(app, make_caller):
    assert make_caller(app, scopes=("messages:send",)).get("/v1/inbound-messages").status_code == 403


def test_help_is_answered_with_the_text_of_the_service_unless_plivo_answers_it(make_app):
    app = make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL, help_text="Shop & Co: <shop.example>")
    new_caller(app).send()
    fields = form("Hilfe!")
    said = bring(app, fields).data.decode()
    assert said == (
        f'<Response><Message src="{LANDLINE}" dst="{TO}" type="sms">Shop &amp; Co: &lt;shop.example&gt;</Message>'
        "</Response>\n"
    )
    assert bring(app, fields).data.decode() == said
    assert text_us(app, "HELP", MessageIntent="help").data == b"<Response></Response>\n"
    assert text_us(app, "Hello").data == b"<Response></Response>\n"


def test_a_text_through_the_simulator_arrives(live, simulator):
    service = live()
    service.send()
    order = {"from": TO, "to": LANDLINE, "text": "Hi", "url": f"{service.url}/plivo/inbound"}
    assert requests.post(f"{simulator.url}/_inbound", json=order, timeout=10).status_code == 202
    (seen,) = eventually(lambda: service.request("GET", "/v1/inbound-messages").json()["data"])
    assert (seen["text"], seen["from"], seen["to"]) == ("Hi", TO, LANDLINE)


def test_what_a_stranger_sent_from_a_number_makes_the_answer_nobody_s_but_the_owner_s(app, make_caller):
    stranger = make_caller(app, allowed_senders=[LANDLINE, OTHER_SENDER])
    assert stranger.send(sender=OTHER_SENDER).status_code == 201
    # As every client could before senders had owners.
    change_row(app, clients.c.allowed_senders, stranger.client_id, None)
    owner = make_caller(app, default_sender=OTHER_SENDER)
    text_us(app, "For the owner", to=OTHER_SENDER)
    assert listed(stranger) == []
    (seen,) = listed(owner)
    assert (seen["text"], seen["message_id"]) == ("For the owner", None)

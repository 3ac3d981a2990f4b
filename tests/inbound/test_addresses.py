"""Whoever texts us is stored and listed: numbers in one form, short codes and names as they are; nobody is dropped."""

from urllib.parse import quote

import pytest

from tests.support.api import LANDLINE, TO
from tests.support.inbound import bring, form, text_us, told
from tests.support.plivo_calls import PUBLIC_URL
from tests.support.providers import Scripted, taken

NAMES = (
    "T-Mobile",
    "Café Zoë",
    "Dr. Müller & Söhne",
    "招商银行",
    "7-Eleven",
    "MyBank_24",
    "0712345678",
    "12345678901234567",
    "24/7",
    "no-reply@shop.example",
)


@pytest.fixture
def app(make_app):
    return make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL, help_text="Call us")


@pytest.fixture
def caller(app, make_caller):
    return make_caller(app, default_sender=LANDLINE)


def listed(caller, **query):
    asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    answer = caller.get(f"/v1/inbound-messages?{asked}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()["data"]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_from_a_name_is_stored_and_found_by_it(app, caller, name):
    text_us(app, "Your invoice is ready", sender=name)
    text_us(app, "Somebody else", sender="Another")
    (seen,) = listed(caller, **{"from": name})
    assert (seen["from"], seen["to"], seen["text"]) == (name, LANDLINE, "Your invoice is ready")
    assert caller.get(f"/v1/inbound-messages/{seen['id']}").get_json() == seen
    assert {data["from"] for data in told(app, "message.received")} == {name, "Another"}


def test_a_name_may_come_by_get_and_for_a_number_of_ours_that_is_a_name(app, caller):
    fields = form("Hi", sender="T-Mobile", to="Our Shop")
    assert bring(app, fields, method="GET").status_code == 200
    (seen,) = listed(caller, to="Our Shop")
    assert (seen["from"], seen["to"]) == ("T-Mobile", "Our Shop")


@pytest.mark.parametrize(
    ("shown", "stored"),
    [
        (" T-Mobile\n", "T-Mobile"),
        ("T\x00-Mo\u202ebile", "T-Mobile"),
        ("Cafe\u0301", "Café"),
        ("x" * 500, "x" * 64),
        ("\u202a+1 (415) 555-0123\u202c", TO),
        ("0014155550123", TO),
        ("", "unknown"),
        ("\u200b\r\n", "unknown"),
    ],
)
def test_a_name_is_one_line_within_bounds_and_never_empty(app, caller, shown, stored):
    text_us(app, "Hello", From=shown)
    (seen,) = listed(caller)
    assert seen["from"] == stored
    assert listed(caller, **{"from": stored}) == [seen]


@pytest.mark.parametrize("broken", [{"MessageUUID": ""}, {"MessageUUID": "x" * 65}, {"MessageUUID": "no uuid!"}])
def test_what_has_no_usable_id_is_stored_once_and_obeyed(app, caller, broken):
    caller.send()
    fields = form("STOP") | broken
    assert [bring(app, fields).status_code for _ in range(2)] == [200, 200]
    assert {seen["text"] for seen in listed(caller)} == {"STOP"}
    assert caller.send().get_json()["code"] == "recipient_opted_out"


def test_a_form_without_any_field_is_stored_as_well(app, caller, make_caller):
    assert bring(app, {"Text": "Anybody?"}).status_code == 200
    (seen,) = listed(caller)
    assert (seen["from"], seen["to"], seen["client_id"]) == ("unknown", "unknown", None)


@pytest.mark.parametrize("text", ["STOP", "START", "HELP", "please stop"])
def test_a_name_that_asks_for_something_is_for_a_person_to_see_since_it_cannot_be_texted(app, caller, text):
    answer = text_us(app, text, sender="T-Mobile")
    assert answer.data == b"<Response></Response>\n"
    assert [(data["number"], data["text"]) for data in told(app, "optout.review")] == [("T-Mobile", text)]
    assert caller.get("/v1/opt-outs").get_json()["data"] == []


@pytest.mark.parametrize("name", ["T-Mobile", TO])
@pytest.mark.parametrize("around", ["\u202a{}\u202c", "\u00a0{} ", "\u3000{}", "\t{}\r\n"])
def test_a_filter_is_read_without_what_was_pasted_around_it(app, caller, name, around):
    text_us(app, "Hello", sender=name)
    assert [each["from"] for each in listed(caller, **{"from": around.format(name)})] == [name]


@pytest.mark.parametrize("value", ["%2014155550123", "", "%20", "%E2%80%8B", "x" * 65])
def test_a_filter_that_can_find_nothing_is_refused(caller, value):
    answer = caller.get(f"/v1/inbound-messages?from={value}")
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/from")

"""Evidence of an opt-out is read by the client that it belongs to; others read that, when, and by which keyword."""

import pytest

from tests.support.api import TO
from tests.support.inbound import text_us
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken

HISTORY = f"/v1/opt-outs/{TO}/history"
AUTH_TOKEN = "the-auth-token-of-the-tests"


@pytest.fixture
def app(make_app):
    return make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL)


@pytest.fixture
def owner(app, make_caller):
    return make_caller(app)


@pytest.fixture
def other(app, make_caller):
    return make_caller(app)


def evidence_of(caller):
    return [(line["action"], line["evidence"]) for line in caller.get(HISTORY).get_json()["data"]]


def test_the_words_of_a_stop_are_the_client_s_that_was_texted(owner, other, app):
    owner.send()
    text_us(app, "  STOP!  ")
    ((action, whole),) = evidence_of(owner)
    assert (action, whole["text"], whole["keyword"]) == ("created", "  STOP!  ", "stop")
    assert whole["inbound_id"].startswith("inb_")
    assert evidence_of(other) == [("created", {"keyword": "stop"})]


def test_what_plivo_refused_is_proved_to_the_client_whose_message_it_was(owner, other, app):
    message = owner.send().get_json()
    fields = {"Status": "failed", "ErrorCode": "200", "MessageUUID": message["provider"]["message_uuid"]}
    assert report(app, message["id"], fields, token=AUTH_TOKEN).status_code == 200
    assert evidence_of(owner) == [("created", {"message_id": message["id"], "provider_code": "200"})]
    assert evidence_of(other) == [("created", {})]


def test_why_another_client_s_admin_took_it_away_and_with_which_key_is_not_told(owner, other, app):
    owner.send()
    text_us(app, "STOP")
    assert owner.request("DELETE", f"/v1/opt-outs/{TO}", {"reason": "ticket 4711"}).status_code == 204
    assert evidence_of(owner)[1] == ("removed", {"key_id": owner.key_id, "reason": "ticket 4711"})
    assert [action for action, _ in evidence_of(other)] == ["created", "removed"]
    assert evidence_of(other)[1] == ("removed", {})


def test_each_line_of_one_number_is_shown_to_its_own_owner(owner, other, app):
    owner.send()
    text_us(app, "STOP")
    other.request("PUT", f"/v1/opt-outs/{TO}", {"reason": "theirs"})
    assert [whole.get("text") for _, whole in evidence_of(owner)] == ["STOP"]
    assert [whole.get("reason") for _, whole in evidence_of(other)] == [None, "theirs"]


def test_the_list_and_the_export_name_nobody_whom_the_client_does_not_know(owner, other, app):
    owner.send()
    text_us(app, "STOP")
    assert [entry["number"] for entry in owner.get("/v1/opt-outs").get_json()["data"]] == [TO]
    assert other.get("/v1/opt-outs").get_json()["data"] == []
    assert TO not in other.get("/v1/opt-outs/export").text
    # Whoever knows the number may ask for it, as a send would.
    assert other.get(f"/v1/opt-outs/{TO}").status_code == 200
    assert other.send().get_json()["code"] == "recipient_opted_out"


def test_who_has_texted_the_number_finds_it_in_the_list(owner, other, app):
    other.send()
    owner.send()
    text_us(app, "STOP")
    assert [entry["number"] for entry in other.get("/v1/opt-outs").get_json()["data"]] == [TO]
    assert TO in other.get("/v1/opt-outs/export").text

"""What is pasted, typed or made by other programs: numbers, texts, times, marks and nulls, the same at every door."""

import json
from datetime import UTC, datetime

import pytest

from smsapi.messages.models import messages
from tests.support.api import LANDLINE, TO
from tests.support.far_side import count_rows

WRAPPED = ["\u202a{}\u202c", " {} ", "\u00a0{}\u00a0", "\u2066{}\u2069", "\u3000{}", "\u200e{}", "{}\ufeff", "\t{}\r\n"]
BLANK = [
    *(" ", "\n", "\r\n ", "\u200b", "\u2060", "\ufeff", "\u00ad", "\u3164", "\u2800", "\u00a0\u3000"),
    *("\u115f\u1160", "\uffa0", "\u180e", "\u034f", "\ufe0f", "\u2028", "\u202e\u202c", "\U000e0020", "\u061c"),
]
SEEN = [".", "\u0301", "😀", "\u2800.", "\u0600", "\u200ba", "\ufffc"]
TIMES = ["T18:00:00z", "t18:00:00Z", "T18:00:00.5Z", "T18:00:00.123456789Z", "T18:00:00-00:00", "T19:30:00+01:30"]
NO_TIMES = [
    *("2026-W52-4T18:00:00Z", "2026-12-24T18Z", "2026-12-24T18:00Z", "2026-12-24T18:00:00+00:00:00"),
    *("20261224T180000Z", "2026-358T18:00:00Z", "2026-12-24T18:00:00,5Z", "2026-12-24T24:00:00Z"),
    *("2026-12-24T23:59:60Z", "2026-12-24T18:00:00+24:00", "2026-12-24T18:00:00+01:60", "2026-12-24T18:00:00"),
    *("2026-12-24T18:00:00+0100", "2026-12-24T18:00:00+01", "2026-12-24 18:00:00Z", "2026-12-24", " ", ""),
    *("٢٠٢٦-12-24T18:00:00Z", "2026-12-24T18:00:00\uff3a", "2026-12-24T18:00:00.Z", " 2026-12-24T18:00:00Z"),
    *("2026-02-29T18:00:00Z", "0000-01-01T00:00:00Z", "2026-12-24T18:00:00Z\n", "2026-13-01T00:00:00Z", "1798135200"),
    *("2026-12-24T18:00:00 Z", "2026-12-24_18:00:00Z", "+2026-12-24T18:00:00Z", "2026-12-24T18:00:00\u221201:00"),
]
HEADERS = {"Prefer": "respond-async"}


@pytest.fixture
def caller(make_app, make_caller):
    plenty = {f"limit_{name}": "9999 per minute" for name in ("send", "key", "api", "number")}
    return make_caller(make_app(**plenty), mode="test", allowed_senders=[LANDLINE])


def pointers(answer):
    assert answer.status_code == 422, answer.text
    return [each["pointer"] for each in answer.get_json()["errors"]]


def test_a_number_is_read_without_what_was_pasted_around_it(caller):
    for written in WRAPPED:
        answer = caller.send(written.format(TO), sender=written.format(LANDLINE), headers=HEADERS)
        assert answer.status_code == 202, (written, answer.text)
        assert (answer.get_json()["to"], answer.get_json()["from"]) == (TO, LANDLINE)
        listed = caller.app.test_client().get(
            "/v1/messages", query_string={"to": written.format(TO)}, headers={"X-API-Key": caller.key}
        )
        assert listed.get_json()["data"], written
    for written in ("+1415\u200b5550123", "+1415 5550123", "\u202a\u202c", "\u200b", "+\u00a014155550123"):
        assert pointers(caller.send(written)) == ["/to"]


def test_a_number_in_a_path_is_read_without_what_was_pasted_around_it(caller):
    put = caller.request("PUT", "/v1/opt-outs/%E2%80%AA%2B14155550123%E2%80%AC", {})
    assert (put.status_code, put.get_json()["number"]) == (200, TO)
    assert caller.get("/v1/opt-outs/%C2%A0%2B14155550123%20").status_code == 200
    assert caller.send(f"\u200e{TO}").get_json()["code"] == "recipient_opted_out"


def test_a_pasted_number_spends_the_limit_of_the_number(make_app, make_caller):
    caller = make_caller(make_app(limit_number="2 per hour"), mode="test")
    answers = [caller.send(written.format(TO), headers=HEADERS).status_code for written in WRAPPED[:3]]
    assert answers == [202, 202, 429]


def test_a_client_may_paste_its_senders(make_app, make_caller):
    caller = make_caller(make_app())
    body = {"name": "shop", "default_sender": f"\u202a{LANDLINE}\u202c", "allowed_senders": [" ACME\u200b", LANDLINE]}
    made = caller.post("/v1/clients", body).get_json()
    assert (made["default_sender"], made["allowed_senders"]) == (LANDLINE, ["ACME", LANDLINE])


def test_a_text_that_shows_nothing_is_refused(caller):
    scheduled = caller.send(send_at=_soon("T18:00:00Z")).get_json()
    for text in BLANK:
        for smart in (False, True):
            assert pointers(caller.send(text=text, smart_encoding=smart)) == ["/text"], text
        assert pointers(caller.post("/v1/messages/preview", {"to": TO, "text": text})) == ["/text"]
        assert pointers(caller.request("PATCH", f"/v1/messages/{scheduled['id']}", {"text": text})) == ["/text"]
    assert count_rows(caller.app.extensions["smsapi"].database, "messages") == 1
    for text in SEEN:
        assert caller.send(text=text, headers=HEADERS).get_json()["text"] == text


def test_a_tab_is_named(caller):
    answer = caller.send(text="a\tb")
    assert pointers(answer) == ["/text"]
    assert "U+0009" in answer.get_json()["errors"][0]["message"]


def _soon(rest):
    """Return a time within the month that may be planned ahead."""
    day = datetime.now(UTC).date().toordinal() + 2
    return f"{datetime.fromordinal(day).date().isoformat()}{rest}"


def test_a_time_is_read_as_rfc_3339_writes_it(caller):
    for written in TIMES:
        answer = caller.send(send_at=_soon(written))
        assert answer.status_code == 202, (written, answer.text)
        assert answer.get_json()["send_at"].startswith(_soon("T18:00:00"))
        listed = caller.get(f"/v1/messages?created_after={_soon(written).replace('+', '%2B')}")
        assert listed.get_json()["data"] == []


def test_what_rfc_3339_does_not_know_is_no_time_at_any_door(caller):
    scheduled = caller.send(send_at=_soon("T18:00:00Z")).get_json()
    made = caller.post("/v1/webhook-endpoints", {"url": "https://example.com/x", "events": ["message.sent"]}).get_json()
    key = {"name": "x", "mode": "test", "scopes": ["messages:read"]}
    for written in NO_TIMES:
        order = {"to": TO, "text": "x", "send_at": written}
        assert pointers(caller.post("/v1/messages", order)) == ["/send_at"], written
        assert pointers(caller.post("/v1/messages/preview", order)) == ["/send_at"]
        assert pointers(caller.request("PATCH", f"/v1/messages/{scheduled['id']}", {"send_at": written})) == [
            "/send_at"
        ]
        assert pointers(caller.post("/v1/api-keys", {**key, "expires_at": written})) == ["/expires_at"]
        assert pointers(caller.post(f"/v1/webhook-endpoints/{made['id']}/recover", {"since": written})) == ["/since"]
        for path in ("/v1/messages", "/v1/inbound-messages"):
            query = {"created_after": written, "created_before": written}
            asked = caller.app.test_client().get(path, query_string=query, headers={"X-API-Key": caller.key})
            assert pointers(asked) == ["/created_after", "/created_before"]
        batch = {"text": "x", "recipients": [{"to": TO}], "send_at": written}
        assert pointers(caller.post("/v1/batches", batch)) == ["/send_at"]
    answer = caller.post("/v1/messages", {"to": TO, "text": "x", "send_at": NO_TIMES[0]})
    assert "2026-12-24T18:00:00Z" in answer.get_json()["errors"][0]["message"]


def test_a_byte_order_mark_before_a_body_of_json_is_no_fault(caller):
    headers = {"X-API-Key": caller.key, "Content-Type": "application/json", "Prefer": "respond-async"}
    body = "\ufeff" + json.dumps({"to": TO, "text": "Hi"})
    assert caller.app.test_client().post("/v1/messages", data=body, headers=headers).status_code == 202
    token = caller.app.test_client().post(
        "/v1/auth/token", data="\ufeff" + json.dumps({"api_key": caller.key}), content_type="application/json"
    )
    assert token.status_code == 200
    for broken in ("\ufeff", "\ufeff\ufeff{}", '{"to":\ufeff"x"}'):
        assert caller.app.test_client().post("/v1/messages", data=broken, headers=headers).status_code == 400


def test_null_is_as_if_an_optional_field_were_not_given(caller):
    names = ("from", "expires_in", "max_segments", "max_price", "smart_encoding", "category", "reference", "metadata")
    nothing = dict.fromkeys((*names, "dlt", "send_at", "on_unknown"))
    taken = caller.post("/v1/messages", {"to": TO, "text": "Hi", **nothing}, **HEADERS)
    assert taken.status_code == 202, taken.text
    plain = caller.post("/v1/messages", {"to": TO, "text": "Hi"}, **HEADERS).get_json()
    own = ("id", "created_at", "updated_at", "estimated_send_at")
    assert {k: v for k, v in taken.get_json().items() if k not in own} == {
        k: v for k, v in plain.items() if k not in own
    }
    with caller.app.extensions["smsapi"].database.read() as connection:
        rows = connection.execute(messages.select()).all()
    assert {(row.on_unknown, row.metadata == {}) for row in rows} == {("reconcile", True)}
    for name in ("to", "text"):
        assert pointers(caller.post("/v1/messages", {"to": TO, "text": "Hi", name: None})) == [f"/{name}"]


def test_null_is_as_if_not_given_in_other_bodies_too(make_app, make_caller):
    caller = make_caller(make_app())
    client = dict.fromkeys(("default_sender", "allowed_senders", "limits", "weight", "optout_keywords"))
    assert caller.post("/v1/clients", {"name": "shop", **client}).status_code == 201
    hook = {"url": "https://example.com/x", "events": ["message.sent"], "description": None}
    assert caller.post("/v1/webhook-endpoints", hook).status_code == 201
    entry = caller.request("PUT", "/v1/opt-outs/%2B14155550123", {"reason": None, "scope": None, "from": None})
    assert (entry.status_code, entry.get_json()["scope"]) == (200, "client")
    rotated = caller.post(f"/v1/api-keys/{caller.key_id}/rotate", {"overlap_seconds": None})
    assert rotated.status_code == 201


def test_null_in_a_change_keeps_its_meaning(caller):
    scheduled = caller.send(send_at=_soon("T18:00:00Z"), reference="r", expires_in=600).get_json()
    path = f"/v1/messages/{scheduled['id']}"
    assert caller.request("PATCH", path, {"reference": None, "expires_in": None}).get_json()["reference"] is None
    assert pointers(caller.request("PATCH", path, {"category": None})) == ["/category"]

"""POST /v1/batches: what is taken, what is refused row by row, and what is refused as a whole."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from smsapi.sms.prices import PriceList
from tests.support.api import LANDLINE, TO
from tests.support.uploading import LINES, left_behind, numbers, rejects, texts, upload

A, B, C = numbers(3)
PRICES = PriceList.from_mapping({"currency": "USD", "countries": {"US": "0.0079"}})


def test_a_csv_makes_a_message_of_each_row_with_its_own_variables(caller):
    answer = upload(caller, f"to,name,reference\n{A},Ada,first\n{B},Bob,\n", text="Hi {{name}} / {{ name }}!")
    batch = answer.get_json()
    assert (answer.status_code, batch["status"]) == (202, "queued")
    assert answer.headers["Location"] == f"/v1/batches/{batch['id']}"
    assert (batch["total"], batch["accepted"], batch["rejected"], batch["duplicates"]) == (2, 2, 0, 0)
    assert (batch["text"], batch["from"], batch["segments"]) == ("Hi {{name}} / {{ name }}!", LANDLINE, 2)
    assert batch["counts"]["queued"] == 2
    assert texts(caller, batch["id"]) == {A: "Hi Ada / Ada!", B: "Hi Bob / Bob!"}
    found = caller.get(f"/v1/batches/{batch['id']}/messages").get_json()["data"]
    assert {each["to"]: each["reference"] for each in found} == {A: "first", B: None}
    assert caller.get(f"/v1/batches/{batch['id']}").get_json()["total"] == 2


def test_lines_of_json_and_a_list_of_json_say_the_same_as_a_csv(caller):
    recipients = [{"to": A, "vars": {"n": "1"}, "reference": "r"}, {"to": B, "vars": {"n": 2.50, "spare": None}}]
    lines = json.dumps(recipients[0]) + "\r\n\n" + f'{{"to": "{B}", "vars": {{"n": 2.50}}}}'
    first = upload(caller, lines, kind=LINES, text="No {{n}}").get_json()
    assert texts(caller, first["id"]) == {A: "No 1", B: "No 2.50"}
    second = caller.post("/v1/batches", {"text": "No {{n}}", "recipients": recipients}).get_json()
    assert texts(caller, second["id"]) == {A: "No 1", B: "No 2.5"}
    assert [batch["accepted"] for batch in (first, second)] == [2, 2]


def test_the_message_fields_are_those_of_a_single_send(make_app, make_caller):
    caller = make_caller(make_app({"prices": PRICES}), allowed_senders=["+14155550101"])
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    batch = upload(
        caller,
        f"to\n{A}\n",
        text="“Hello”",
        sender="+14155550101",
        send_at=soon,
        expires_in="600",
        max_segments="1",
        max_price="0.01",
        smart_encoding="true",
        category="marketing",
        on_unknown="hold",
        metadata='{"shop": "berlin"}',
        dlt='{"entity_id": "e", "template_id": "t", "template_category": "promotional"}',
    ).get_json()
    assert (batch["status"], batch["counts"]["scheduled"], batch["metadata"]) == ("scheduled", 1, {"shop": "berlin"})
    assert batch["price"] == {"amount": "0.00790", "currency": "USD", "estimated": True}
    (message,) = caller.get(f"/v1/batches/{batch['id']}/messages").get_json()["data"]
    assert (message["status"], message["text"], message["encoding"]) == ("scheduled", '"Hello"', "gsm7")
    assert (message["from"], message["category"]) == ("+14155550101", "marketing")
    assert (message["metadata"], message["price"]["amount"]) == ({"shop": "berlin"}, "0.00790")
    assert message["send_at"] == batch["send_at"]


def test_bad_rows_are_listed_with_their_numbers_and_stop_no_good_one(make_app, make_caller):
    caller = make_caller(make_app(), allowed_countries=["US"])
    caller.request("PUT", f"/v1/opt-outs/{C}")
    rows = [A, "12345", "", "+447400123456", C, LANDLINE, B, A]
    body = "to,name\n" + "".join(f"{number},x\n" for number in rows) + f"{numbers(1, 9)[0]},\n{A},y,z\n{A}\n"
    batch = upload(caller, body, text="Hi {{name}}").get_json()
    assert (batch["total"], batch["accepted"], batch["rejected"], batch["duplicates"]) == (11, 2, 8, 1)
    assert rejects(caller, batch["id"]) == [
        (3, "12345", "invalid_number"),
        (4, "", "invalid_number"),
        (5, "+447400123456", "country_not_allowed"),
        (6, C, "recipient_opted_out"),
        (7, LANDLINE, "sender_not_allowed"),
        (10, numbers(1, 9)[0], "missing_variable"),
        (11, A, "validation_failed"),
        (12, A, "validation_failed"),
    ]
    assert texts(caller, batch["id"]) == {A: "Hi x", B: "Hi x"}


def test_a_row_is_measured_with_its_variables_filled_in(caller):
    body = f"to,name\n{A},{'x' * 158}\n{B},{'x' * 159}\n{C},{'x' * 700}☺\n"
    batch = upload(caller, body, text="{{name}}!!", max_segments="1").get_json()
    assert (batch["accepted"], batch["segments"]) == (1, 1)
    assert rejects(caller, batch["id"]) == [(3, B, "too_many_segments"), (4, C, "too_many_segments")]
    long = upload(caller, f"to,name\n{A},{'x' * 3000}\n", text="{{name}}").get_json()
    assert rejects(caller, long["id"]) == [(2, A, "text_too_long")]


def test_the_price_is_that_of_all_rows_and_is_not_given_where_one_is_not_known(make_app, make_caller):
    caller = make_caller(make_app({"prices": PRICES}))
    batch = upload(caller, f"to,n\n{A},x\n{B},{'y' * 161}\n", text="{{n}}").get_json()
    assert batch["price"] == {"amount": "0.02370", "currency": "USD", "estimated": True}
    assert upload(caller, f"to\n{A}\n+447400123456\n").get_json()["price"] is None
    capped = upload(caller, f"to,n\n{A},x\n{B},{'y' * 161}\n+447400123456,x\n", text="{{n}}", max_price="0.008")
    assert [code for _, _, code in rejects(caller, capped.get_json()["id"])] == ["price_too_high"] * 2


def test_a_value_is_never_a_template_again(caller):
    batch = upload(caller, f"to,a,b\n{A},{{{{b}}}},secret\n", text="{{a}}").get_json()
    assert texts(caller, batch["id"]) == {A: "{{b}}"}


def test_a_value_may_hold_line_ends_and_no_other_control_character(caller):
    batch = upload(caller, f'to,a\r\n{A},"one\r\ntwo, three"\r\n{B},"bell\x07"\r\n', text="{{a}}").get_json()
    assert texts(caller, batch["id"]) == {A: "one\r\ntwo, three"}
    assert rejects(caller, batch["id"]) == [(3, B, "validation_failed")]


def test_the_number_of_a_refused_row_may_come_again_and_be_taken(caller):
    batch = upload(caller, f"to,n\n{A},\n{A},x\n{A},y\n", text="{{n}}").get_json()
    assert (batch["accepted"], batch["rejected"], batch["duplicates"]) == (1, 1, 1)
    assert texts(caller, batch["id"]) == {A: "x"}


@pytest.mark.parametrize(
    "item",
    [
        *(5, None, [], "text", {}, {"to": 4915}, {"to": None}, {"to": A, "too": 1}, {"to": A, "vars": []}),
        *({"to": A, "vars": {"n": True}}, {"to": A, "vars": {"n": {}}}, {"to": A, "reference": 5}),
        *({"to": A, "reference": ""}, {"to": A, "reference": "x" * 256}, {"to": A, "reference": "a\nb"}),
    ],
)
def test_a_recipient_of_another_form_is_a_reject_and_never_refuses_the_batch(caller, item):
    answer = caller.post("/v1/batches", {"text": "Hello", "recipients": [item, {"to": B}]})
    batch = answer.get_json()
    assert (answer.status_code, batch["accepted"], batch["rejected"]) == (202, 1, 1)
    ((row, _, code),) = rejects(caller, batch["id"])
    assert (row, code) == (1, "validation_failed")


def test_what_is_refused_is_kept_as_far_as_it_can_be_shown(caller):
    answer = caller.post("/v1/batches", {"text": "x", "recipients": [{"to": "\u0000\n" + "9" * 500}, {"to": B}]})
    ((_, value, code),) = rejects(caller, answer.get_json()["id"])
    assert (value, code) == ("\ufffd\ufffd" + "9" * 62, "invalid_number")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"text": ""}, "/text"),
        ({"text": "Hi {{na me}}"}, "/text"),
        ({"text": "Hi {{name"}, "/text"),
        ({"recipients": []}, "/recipients"),
        ({"recipients": {"to": TO}}, "/recipients"),
        ({"recipients": [{"to": TO}] * 10_001}, "/recipients"),
        ({"expires_in": 1}, "/expires_in"),
        ({"send_at": "2020-01-01T00:00:00Z"}, "/send_at"),
        ({"to": TO}, "/to"),
        ({"reference": "x"}, "/reference"),
        ({"dry_run": "true"}, "/dry_run"),
        ({"metadata": {"a": 1}}, "/metadata/a"),
    ],
)
def test_a_batch_that_is_wrong_as_a_whole_is_refused_with_a_pointer(app, caller, change, pointer):
    answer = caller.post("/v1/batches", {"text": "Hi", "recipients": [{"to": TO}], **change})
    assert (answer.status_code, answer.get_json()["code"]) == (422, "validation_failed")
    assert [each["pointer"] for each in answer.get_json()["errors"]] == [pointer]
    assert left_behind(app.extensions["smsapi"].database) == {}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"text": ""}, "/text"),
        ({"metadata": "{"}, "/metadata"),
        ({"metadata": '{"a": 5}'}, "/metadata/a"),
        ({"metadata": "[]"}, "/metadata"),
        ({"dlt": '{"entity_id": "e"}'}, "/dlt/template_category"),
        ({"dry_run": "yes"}, "/dry_run"),
        ({"max_segments": "1.5"}, "/max_segments"),
        ({"recipients": "[]"}, "/recipients"),
        ({"text": "Hi {{nobody}}"}, "/text"),
        ({"text": "Hi {{to}}"}, "/text"),
    ],
)
def test_the_query_of_a_file_is_as_strict_as_a_body(app, caller, query, pointer):
    answer = upload(caller, f"to,name\n{A},x\n", **query)
    assert (answer.status_code, answer.get_json()["code"]) == (422, "validation_failed")
    assert pointer in [each["pointer"] for each in answer.get_json()["errors"]]
    assert left_behind(app.extensions["smsapi"].database) == {}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(("dry_run=true", "dry_run"), ("text=Ho", "text"), ("category=otp", "category"), ("from=ACME", "from")),
        *(
            ("all_or_nothing=true", "all_or_nothing"),
            ("expires_in=60", "expires_in"),
            ("max_segments=3", "max_segments"),
        ),
        *(
            ("metadata=%7B%22a%22%3A%22c%22%7D", "metadata"),
            ("metadata=%7B%7D", "metadata"),
            ("reference=x", "reference"),
        ),
        *(
            ("recipients=x", "recipients"),
            ("to=%2B14155550123", "to"),
            ("text=Hi&text=Hi", "text"),
            ("dry_run=1", "dry_run"),
        ),
    ],
)
def test_a_query_beside_json_may_not_contradict_it(app, caller, query, field):
    body = {"text": "Hi", "recipients": [{"to": TO}], "max_segments": 2, "metadata": {"a": "b"}}
    answer = caller.post(f"/v1/batches?{query}", body)
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.get_json()["errors"]] == [f"/{field}"]
    assert left_behind(app.extensions["smsapi"].database) == {}


def test_a_query_beside_json_may_say_the_same_again(caller):
    body = {"text": "Hi", "recipients": [{"to": TO}], "max_segments": 2, "metadata": {"a": "b"}, "dry_run": True}
    said = "text=Hi&max_segments=2&dry_run=true&all_or_nothing=false&category=transactional&on_unknown=reconcile"
    assert caller.post(f"/v1/batches?{said}&metadata=%7B%22a%22%3A%22b%22%7D", body).status_code == 200
    assert caller.post("/v1/batches?text=Hi", [body]).status_code == 422


def test_a_body_of_another_type_is_not_read(caller):
    assert upload(caller, f"to\n{A}\n", kind="text/plain").status_code == 415
    assert upload(caller, f"to\n{A}\n", kind="text/csv; charset=latin-1").status_code == 415
    assert upload(caller, f"to\n{A}\n", headers={"Content-Encoding": "br"}).status_code == 415
    for broken in (b"{", b'{"text": "a", "text": "b", "recipients": [1]}', b'{"text": "\\ud800", "recipients": [1]}'):
        assert upload(caller, broken, kind="application/json", text=[]).status_code == 400, broken


def test_what_no_row_could_be_sent_for_is_refused_before_any_is_read(app, caller, make_caller):
    refusals = {
        "sender_not_allowed": upload(make_caller(app, allowed_senders=["+14155550199"]), f"to\n{A}\n"),
        "too_many_segments": upload(caller, f"to\n{A}\n", text="x" * 161, max_segments="1"),
        "text_too_long": upload(caller, f"to\n{A}\n", text="x" * 1700),
    }
    assert {code: answer.get_json()["code"] for code, answer in refusals.items()} == {code: code for code in refusals}
    endless = upload(caller, f"to,n\n{A},1\n", text="x" * 1700 + "{{n}}")
    assert (endless.status_code, endless.get_json()["code"]) == (422, "text_too_long")
    assert left_behind(app.extensions["smsapi"].database) == {}


def test_all_or_nothing_sends_nothing_where_a_single_row_is_bad(app, caller):
    many = "".join(f"{number}\n" for number in numbers(6_000))
    answer = upload(caller, f"to\n{many}12345\n{numbers(1, 7_000)[0]}\n", all_or_nothing="true")
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (422, "batch_rejected")
    batch = caller.get(f"/v1/batches/{problem['batch_id']}").get_json()
    assert (batch["status"], batch["total"], batch["rejected"]) == ("rejected", 6_002, 1)
    assert sum(batch["counts"].values()) == 0
    assert rejects(caller, batch["id"]) == [(6_002, "12345", "invalid_number")]
    assert left_behind(app.extensions["smsapi"].database) == {"batches": 1, "batch_rejects": 1}
    good = upload(caller, f"to\n{A}\n{A}\n{B}\n", all_or_nothing="true").get_json()
    assert (good["status"], good["accepted"], good["all_or_nothing"]) == ("queued", 2, True)


def test_an_opt_out_alone_rejects_an_all_or_nothing_batch(app, caller):
    caller.request("PUT", f"/v1/opt-outs/{B}")
    answer = upload(caller, f"to\n{A}\n{B}\n", all_or_nothing="true")
    assert answer.get_json()["code"] == "batch_rejected"
    assert left_behind(app.extensions["smsapi"].database) == {"batches": 1, "batch_rejects": 1}


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(make_app, make_caller):
    app = make_app({"prices": PRICES})
    caller = make_caller(app)
    answer = upload(caller, f"to,n\n{A},x\n{B},{'y' * 161}\n{B},z\n12345,x\n", text="{{n}}", dry_run="true")
    batch = answer.get_json()
    assert (answer.status_code, batch["status"], batch["dry_run"]) == (200, "checked", True)
    assert (batch["total"], batch["accepted"], batch["rejected"], batch["duplicates"]) == (4, 2, 1, 1)
    assert (batch["segments"], batch["price"]["amount"]) == (3, "0.02370")
    assert rejects(caller, batch["id"]) == [(5, "12345", "invalid_number")]
    assert left_behind(app.extensions["smsapi"].database) == {"batches": 1, "batch_rejects": 1}


def test_with_a_test_key_nobody_is_texted_and_opt_outs_of_test_keys_hold(app, make_caller):
    caller = make_caller(app, mode="test")
    caller.request("PUT", f"/v1/opt-outs/{B}")
    batch = upload(caller, f"to\n{A}\n{B}\n").get_json()
    assert (batch["test"], batch["accepted"]) == (True, 1)
    assert rejects(caller, batch["id"]) == [(3, B, "recipient_opted_out")]


def test_more_rows_than_are_made_at_once_wait_as_staged_ones_and_are_counted_as_queued(app, caller):
    body = "to\n" + "".join(f"{number}\n" for number in numbers(7_500))
    batch = upload(caller, body).get_json()
    assert (batch["accepted"], batch["counts"]["queued"]) == (7_500, 7_500)
    stored = left_behind(app.extensions["smsapi"].database)
    assert stored["messages"] + stored["batch_rows"] == 7_500
    assert stored["messages"] == 1_000


def test_one_upload_is_one_send_for_the_limits(make_app, make_caller):
    # Windows of an hour and more count its rows instead.
    caller = make_caller(make_app(limit_send="2 per 59 minute"))
    assert upload(caller, f"to\n{A}\n{B}\n").status_code == 202
    assert caller.post("/v1/batches", {"text": "x", "recipients": [{"to": A}]}).status_code == 202
    assert upload(caller, f"to\n{A}\n").status_code == 429


def test_without_the_scope_or_with_a_full_lane_nothing_is_taken(make_app, make_caller):
    app = make_app()
    assert upload(make_caller(app, scopes=("messages:read",)), f"to\n{A}\n").status_code == 403
    assert upload(make_caller(app), f"to\n{A}\n{B}\n").status_code == 202
    # Another process, which has not looked at the queue yet.
    caller = make_caller(make_app(queue_max_depth=2))
    refused = upload(caller, f"to\n{A}\n")
    assert (refused.status_code, refused.get_json()["code"]) == (503, "queue_full")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert upload(caller, f"to\n{A}\n", send_at=later).status_code == 202
    assert upload(caller, f"to\n{A}\n", dry_run="true").status_code == 200

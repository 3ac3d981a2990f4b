"""Reading batches: the list, one, its messages, its rejects; each to whom it belongs and to nobody else."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock, rfc3339
from smsapi.messages.statuses import STATUSES
from tests.support.staged import add_rejects, get_batch, move, number_of, stage

STRANGE = f"bat_{'0' * 32}"
PATHS = ("", "/messages", "/rejects")


def rejects_of(count):
    return [
        {"row": row, "value": f"+1202555{row:04}", "code": "invalid_number", "message": f"Not a number, row {row}."}
        for row in range(2, count + 2)
    ]


def read_all(caller, path):
    """Follow the pages of a list to its end."""
    found, cursor = [], ""
    while True:
        answer = caller.get(f"{path}{cursor}").get_json()
        found += answer["data"]
        if answer["next_cursor"] is None:
            return found
        cursor = f"{'&' if '?' in path else '?'}cursor={answer['next_cursor']}"


def test_a_batch_is_shown_as_it_was_asked_for_and_as_it_stands(make_app, make_caller):
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    caller = make_caller(make_app({"clock": ManualClock(now)}))
    send_at = datetime(2026, 3, 2, tzinfo=UTC)
    values = {"rejected": 4, "duplicates": 2, "template": "Hi {{name}}", "text": None, "send_at": send_at}
    batch_id = stage(caller, 3, row={"text": "Hi Ann"}, **values)
    assert get_batch(caller, batch_id) == {
        "id": batch_id,
        "client_id": caller.client_id,
        "status": "scheduled",
        "from": "+14155550100",
        "text": "Hi {{name}}",
        "category": "marketing",
        "metadata": {"campaign": "spring"},
        "send_at": rfc3339(send_at),
        "total": 9,
        "accepted": 3,
        "rejected": 4,
        "duplicates": 2,
        "counts": dict.fromkeys(STATUSES, 0) | {"scheduled": 3},
        "segments": 3,
        "price": {"amount": "0.01650", "currency": "USD", "estimated": True},
        "all_or_nothing": False,
        "dry_run": False,
        "test": False,
        "waiting_for": "send_at",
        "rate_per_second": None,
        "expected_end_at": None,
        "created_at": rfc3339(now),
        "accepted_at": rfc3339(now),
        "started_at": None,
        "finished_at": None,
        "canceled_at": None,
    }


def test_the_list_is_newest_first_and_read_in_pages(caller):
    made = [stage(caller, rows) for rows in range(5)]
    found = read_all(caller, "/v1/batches?limit=2")
    assert [batch["id"] for batch in found] == made[::-1]
    assert [batch["counts"]["queued"] for batch in found] == [4, 3, 2, 1, 0]
    assert found[0] == get_batch(caller, made[-1])


@pytest.mark.parametrize("path", PATHS)
def test_a_strangers_batch_is_not_there(app, caller, make_caller, path):
    batch_id = stage(caller, 1)
    other = make_caller(app, name="other")
    assert caller.get(f"/v1/batches/{batch_id}{path}").status_code == 200
    for wanted in (batch_id, STRANGE, "bat_1", batch_id.replace("bat", "msg")):
        answer = other.get(f"/v1/batches/{wanted}{path}")
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    assert other.get("/v1/batches").get_json()["data"] == []


def test_a_test_key_finds_the_test_batches_of_its_client_and_a_live_one_finds_all(caller):
    live, test = stage(caller, 1), stage(caller, 1, test=True)
    order = {"name": "rehearsal", "mode": "test", "scopes": ["messages:read", "messages:send"]}
    tester = replace(caller, key=caller.post("/v1/api-keys", order).get_json()["key"])
    assert [batch["id"] for batch in tester.get("/v1/batches").get_json()["data"]] == [test]
    assert [batch["id"] for batch in caller.get("/v1/batches").get_json()["data"]] == [test, live]
    for path in PATHS:
        assert tester.get(f"/v1/batches/{live}{path}").status_code == 404
        assert tester.get(f"/v1/batches/{test}{path}").status_code == 200
    assert tester.post(f"/v1/batches/{live}/cancel").status_code == 404
    assert tester.post(f"/v1/batches/{test}/cancel").status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_reading_needs_the_scope_to_read(app, caller, make_caller, path):
    batch_id = stage(caller, 1)
    sender = make_caller(app, scopes=("messages:send",))
    assert sender.get(f"/v1/batches/{batch_id}{path}").status_code == 403
    assert sender.get("/v1/batches").status_code == 403


@pytest.mark.parametrize("query", ["?limit=0", "?limit=101", "?cursor=x", "?unknown=1"])
def test_a_query_that_nobody_knows_is_refused(caller, query):
    batch_id = stage(caller, 1)
    for path in ("/v1/batches", f"/v1/batches/{batch_id}/messages", f"/v1/batches/{batch_id}/rejects"):
        assert caller.get(path + query).status_code == 422, path


def test_its_messages_are_listed_and_no_others(caller):
    caller.send()
    other, batch_id = stage(caller, 2, made=2), stage(caller, 5, made=4)
    found = read_all(caller, f"/v1/batches/{batch_id}/messages?limit=3")
    # What is not made yet is no message.
    assert [message["to"] for message in found] == [number_of(row) for row in (5, 4, 3, 2)]
    assert {message["batch_id"] for message in found} == {batch_id} != {other}
    assert read_all(caller, f"/v1/messages?batch_id={batch_id}") == found


def test_its_messages_are_found_by_status_number_and_reference(caller):
    batch_id = stage(caller, 4, made=4)
    move(caller, batch_id, "queued", "failed", 1)
    path = f"/v1/batches/{batch_id}/messages"
    (failed,) = read_all(caller, f"{path}?status=failed")
    assert failed["to"] == number_of(2)
    assert len(read_all(caller, f"{path}?status=queued")) == 3
    (one,) = read_all(caller, f"{path}?to=%2B{number_of(4)[1:]}")
    assert one == read_all(caller, f"{path}?reference=row-4")[0]
    assert read_all(caller, f"{path}?status=failed&reference=row-4") == []
    assert caller.get(f"{path}?status=gone").status_code == 422
    assert caller.get(f"{path}?batch_id={batch_id}").status_code == 422


def test_rejects_are_in_the_order_of_their_rows_and_read_in_pages(caller):
    batch_id = stage(caller, 1, rejected=7)
    add_rejects(caller, batch_id, rejects_of(7)[::-1])
    found = read_all(caller, f"/v1/batches/{batch_id}/rejects?limit=3")
    assert found == rejects_of(7)
    assert read_all(caller, f"/v1/batches/{stage(caller, 1)}/rejects") == []


def test_a_cursor_of_another_list_is_refused_and_not_taken_for_a_row(caller):
    batch_id = stage(caller, 3, made=3)
    cursor = caller.get(f"/v1/batches/{batch_id}/messages?limit=1").get_json()["next_cursor"]
    answer = caller.get(f"/v1/batches/{batch_id}/rejects?cursor={cursor}")
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["pointer"] == "/cursor"


@pytest.mark.parametrize(("query", "headers"), [("?format=csv", {}), ("", {"Accept": "text/csv"})])
def test_all_rejects_come_as_a_file(caller, query, headers):
    batch_id = stage(caller, 1, rejected=2300)
    add_rejects(caller, batch_id, rejects_of(2300))
    answer = caller.get(f"/v1/batches/{batch_id}/rejects{query}", **headers)
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{batch_id}-rejects.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert rows == [{name: str(value) for name, value in reject.items()} for reject in rejects_of(2300)]


@pytest.mark.parametrize(
    ("query", "accept"),
    [("", "*/*"), ("", "application/json, text/csv;q=0.5"), ("?format=json", "text/csv"), ("", "text/html")],
)
def test_json_is_given_where_nothing_else_is_asked_for(caller, query, accept):
    answer = caller.get(f"/v1/batches/{stage(caller, 1)}/rejects{query}", Accept=accept)
    assert answer.get_json() == {"data": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('=HYPERLINK("http://x")', '\'=HYPERLINK("http://x")'),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-1+1", "'-1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        # What a number looks like is left as it is: the file may be mended and uploaded again.
        ("+4915112345678", "+4915112345678"),
        ('a,"b"\nc', 'a,"b"\nc'),
        ("0171 234", "0171 234"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula_to_a_spreadsheet(caller, value, cell):
    batch_id = stage(caller, 1, rejected=1)
    add_rejects(caller, batch_id, [{"row": 2, "value": value, "code": "invalid_number", "message": "=1+1"}])
    text = caller.get(f"/v1/batches/{batch_id}/rejects?format=csv").get_data(as_text=True)
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == ["2", cell, "invalid_number", "'=1+1"]

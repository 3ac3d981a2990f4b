"""The ledger over HTTP: entries put, read, taken away, imported and exported, each with its trail, each one's own."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from sqlalchemy import event

from smsapi.events.models import events
from tests.conftest import new_caller
from tests.support.api import LANDLINE, TO
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.inbound import text_us
from tests.support.plivo_calls import PUBLIC_URL
from tests.support.providers import Scripted, taken

pytestmark = pytest.mark.both_stores

PATH = "/v1/opt-outs/%2B14155550123"
OTHER_SENDER = "+14155550177"


@pytest.fixture
def app(make_app):
    return make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL)


@pytest.fixture
def caller(app, make_caller):
    return make_caller(app, allowed_senders=[LANDLINE, OTHER_SENDER])


def put(caller, path=PATH, **order):
    answer = caller.request("PUT", path, order)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def upload(caller, content, content_type="text/csv; charset=utf-8"):
    data = content if isinstance(content, bytes) else content.encode()
    headers = {"X-API-Key": caller.key}
    return caller.app.test_client().post("/v1/opt-outs/import", data=data, headers=headers, content_type=content_type)


def codes(caller, **order):
    answer = caller.send(**order)
    return answer.get_json().get("code", answer.status_code)


def test_an_entry_stops_the_client_from_all_its_senders_and_nobody_else(app, caller, make_caller):
    entry = put(caller, reason="Asked on the phone")
    assert entry["number"] == TO
    assert (entry["scope"], entry["from"], entry["client_id"]) == ("client", None, caller.client_id)
    assert (entry["source"], entry["reason"], entry["test"]) == ("api", "Asked on the phone", False)
    assert codes(caller) == codes(caller, sender=OTHER_SENDER) == "recipient_opted_out"
    assert codes(make_caller(app)) == 201
    assert caller.get(PATH).get_json() == {**entry, "entries": [entry]}


def test_put_twice_keeps_the_first_date_and_is_told_once(app, caller):
    assert put(caller, reason="first") == put(caller, reason="second")
    with world_of(app).database.read() as connection:
        told = connection.execute(events.select().where(events.c.type == "optout.created")).all()
    assert [row.data["reason"] for row in told] == ["first"]
    trail = caller.get(f"{PATH}/history").get_json()["data"]
    assert [(line["action"], line["evidence"]["reason"]) for line in trail] == [
        ("created", "first"),
        ("repeated", "second"),
    ]
    assert {line["evidence"]["key_id"] for line in trail} == {caller.key_id}


def test_an_entry_for_one_sender_stops_that_one_alone(caller):
    assert put(caller, scope="sender")["from"] == LANDLINE
    assert put(caller, scope="sender", **{"from": "ACME"})["from"] == "ACME"
    assert codes(caller) == "recipient_opted_out"
    assert codes(caller, sender=OTHER_SENDER) == 201
    assert len(caller.get(PATH).get_json()["entries"]) == 2
    assert caller.request("DELETE", PATH, {"scope": "sender"}).status_code == 204
    assert codes(caller) == 201
    assert len(caller.get(PATH).get_json()["entries"]) == 1


def test_delete_takes_the_client_s_entries_away_and_leaves_the_trail(app, caller):
    put(caller)
    assert caller.request("DELETE", PATH, {"reason": "Asked again"}).status_code == 204
    assert codes(caller) == 201
    assert [answer.status_code for answer in (caller.get(PATH), caller.request("DELETE", PATH))] == [404, 404]
    trail = caller.get(f"{PATH}/history").get_json()["data"]
    assert [line["action"] for line in trail] == ["created", "removed"]
    with world_of(app).database.read() as connection:
        told = connection.execute(events.select().where(events.c.type == "optout.removed")).all()
    assert [row.data["number"] for row in told] == [TO]


def test_an_opt_out_by_hand_stops_what_waits(app, caller):
    message = caller.send(headers=ASYNC).get_json()
    put(caller)
    run_due(world_of(app))
    assert caller.message(message["id"])["error"]["code"] == "recipient_opted_out"


def test_what_a_recipient_said_is_taken_away_by_an_admin_alone(app, caller, make_caller):
    plain = make_caller(app, scopes=("optouts", "messages:send"))
    caller.send()
    text_us(app, "STOP")
    assert plain.get(PATH).get_json()["client_id"] is None
    refusal = plain.request("DELETE", PATH)
    assert (refusal.status_code, refusal.get_json()["code"]) == (403, "insufficient_scope")
    assert codes(plain) == "recipient_opted_out"
    put(plain)
    assert plain.request("DELETE", PATH).status_code == 204
    assert codes(plain) == "recipient_opted_out"
    assert caller.request("DELETE", PATH).status_code == 204
    assert codes(plain) == 201


def test_nobody_sees_or_takes_away_another_client_s_entries(app, caller, make_caller):
    other = make_caller(app, allowed_senders=[OTHER_SENDER])
    put(caller)
    caller.send("+14155550124")
    text_us(app, "STOP", sender="+14155550124")
    assert other.get("/v1/opt-outs").get_json()["data"] == []
    assert other.get("/v1/opt-outs/export").text.count("\n") == 1
    assert other.get(f"{PATH}/history").get_json()["data"] == []
    assert {other.request(method, PATH).status_code for method in ("GET", "DELETE")} == {404}
    assert codes(caller) == "recipient_opted_out"


def test_a_test_key_has_entries_of_its_own(app, caller, make_caller):
    test = make_caller(app, mode="test")
    assert put(test)["test"] is True
    assert codes(test) == "recipient_opted_out"
    assert codes(caller) == 201
    assert caller.get("/v1/opt-outs").get_json()["data"] == []


@pytest.mark.parametrize(
    ("path", "order", "pointer"),
    [
        ("/v1/opt-outs/14155550123", {}, "/number"),
        ("/v1/opt-outs/+1", {}, "/number"),
        ("/v1/opt-outs/x%00", {}, "/number"),
        (PATH, {"scope": "all"}, "/scope"),
        (PATH, {"reason": ""}, "/reason"),
        (PATH, {"from": LANDLINE}, "/from"),
        (PATH, {"scope": "sender", "from": "-"}, "/from"),
        (PATH, {"number": TO}, "/number"),
    ],
)
def test_what_breaks_a_rule_is_refused(caller, path, order, pointer):
    answer = caller.request("PUT", path, order)
    assert (answer.status_code, [error["pointer"] for error in answer.get_json()["errors"]]) == (422, [pointer])


def test_it_needs_its_scope(app, make_caller):
    plain = make_caller(app, scopes=("messages:send", "messages:read"))
    for method, path in (("GET", "/v1/opt-outs"), ("PUT", PATH), ("DELETE", PATH), ("GET", "/v1/opt-outs/export")):
        assert plain.request(method, path).status_code == 403
    assert upload(plain, "number\r\n").status_code == 403


def test_to_opt_out_and_in_at_once_ends_in_one_of_the_two_and_fails_nobody(caller):
    def put_or_delete(place):
        return caller.request("DELETE" if place % 2 else "PUT", PATH).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(put_or_delete, range(80)))
    assert {status for place, status in enumerate(statuses) if place % 2 == 0} == {200}
    assert {status for place, status in enumerate(statuses) if place % 2} <= {204, 404}


def test_the_same_numbers_in_any_order_are_imported_by_several_at_once(caller):
    numbers = [f"+1415555{place:04d}" for place in range(600)]

    def bring(seed):
        shuffled = Random(seed).sample(numbers, len(numbers))
        return upload(caller, "number\n" + "\n".join(shuffled)).get_json()["added"]

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(bring, range(4))) == len(numbers)


def test_the_list_comes_in_pages_newest_first(caller):
    numbers = [f"+1415555012{digit}" for digit in range(5)]
    for number in numbers:
        put(caller, f"/v1/opt-outs/{number}")
    page = caller.get("/v1/opt-outs?limit=3").get_json()
    rest = caller.get(f"/v1/opt-outs?limit=3&cursor={page['next_cursor']}").get_json()
    assert [entry["number"] for entry in page["data"] + rest["data"]] == numbers[::-1]
    assert rest["next_cursor"] is None


def test_a_csv_is_taken_row_by_row_and_bad_rows_are_told(caller):
    content = (
        "\ufeffNumber,reason,from\r\n"
        '+14155550123,"Said ""no"", twice",\r\n'
        "+14155550124,,ACME\r\n"
        "\r\n"
        "4155550125,,\r\n"
        "+14155550123,again,\r\n"
        "+14155550126,,not a sender\r\n"
    )
    told = upload(caller, content).get_json()
    assert {name: told[name] for name in ("added", "already", "rejected")} == {"added": 2, "already": 1, "rejected": 2}
    assert [reject["row"] for reject in told["rejects"]] == [5, 7]
    assert caller.get(PATH).get_json()["reason"] == 'Said "no", twice'
    assert caller.get(PATH).get_json()["source"] == "import"
    assert caller.get("/v1/opt-outs/+14155550124").get_json()["from"] == "ACME"
    assert codes(caller) == "recipient_opted_out"
    again = upload(caller, content).get_json()
    assert (again["added"], again["already"]) == (0, 3)
    assert len(caller.get(f"{PATH}/history").get_json()["data"]) == 1


def test_what_is_exported_can_be_imported_by_another(app, caller, make_caller):
    put(caller, reason="=1+1")
    put(caller, "/v1/opt-outs/+14155550124", scope="sender")
    answer = caller.get("/v1/opt-outs/export")
    assert answer.content_type == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["number"], row["scope"], row["from"]) for row in rows] == [
        ("+14155550124", "sender", LANDLINE),
        (TO, "client", ""),
    ]
    other = make_caller(app)
    assert upload(other, answer.data).get_json()["added"] == 2
    assert codes(other) == "recipient_opted_out"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        ("number\n+14155550123\n", "application/json", 415),
        ("number\n+14155550123\n", "text/csv; charset=latin-1", 415),
        (b"number\n\xff\n", "text/csv", 422),
        (b"number\n+1415\x00\n", "text/csv", 422),
        ("", "text/csv", 422),
        ("phone\n+14155550123\n", "text/csv", 422),
        ("number,number\n", "text/csv", 422),
        ("number,colour\n", "text/csv", 422),
        ('number\n"+14155550123', "text/csv", 422),
        ("number\n" + "+14155550123\n" * 10_001, "text/csv", 422),
        ("number\n" + "x" * 1024 * 1024, "text/csv", 413),
    ],
)
def test_what_is_no_list_of_numbers_is_refused_whole(caller, content, kind, status):
    answer = upload(caller, content, kind)
    assert answer.status_code == status
    assert caller.get("/v1/opt-outs").get_json()["data"] == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_check_costs_a_send_no_statement_of_its_own(make_app):
    app = make_app({"provider": Scripted(taken())})
    caller = new_caller(app)
    statements = []
    event.listen(world_of(app).database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert caller.send(headers={**ASYNC, "Idempotency_Key": "k"}).status_code == 202
    about = [text for text in statements if "opt_outs" in text]
    assert len(about) == 1
    assert "INSERT INTO messages" in about[0]

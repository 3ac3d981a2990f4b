"""What is logged: one JSON line an event, with the ids to follow a message by, and nothing of what it says to whom."""

import json
import logging
import socket
import subprocess
import sys
from decimal import Decimal
from uuid import UUID

import pytest
import requests

from smsapi.errors import NotFound
from smsapi.log import mask_numbers, reason_of, scrub, trace_of
from smsapi.plivo.simulator.faults import Rule
from tests.conftest import AUTH_TOKEN, JWT_SECRET, eventually
from tests.support.dispatching import ASYNC
from tests.support.plivo_calls import path_of
from tests.support.served import caller_of, environment, serving

TEXT = "The quick brown codeword is zanzibar"
NUMBER = "4155559876"
METRICS_TOKEN = "the-metrics-token-of-the-tests"
UNREADABLE = [
    f"GET /v1/messages?to=+1{NUMBER} HTTP/9.9\r\nHost: x\r\n\r\n",
    "GET /v1/messages HTTP/1.1\r\nHost: x\r\nX-API Key: smsk_live_zanzibar\r\n\r\n",
    f"{TEXT} is no request\r\n\r\n",
    "POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzanzibar\r\n",
]


def test_a_whole_run_says_what_happened_and_nothing_of_texts_numbers_or_secrets(sqlite_url, simulator):
    settings = {"SMSAPI_WORKERS": 1, "SMSAPI_METRICS_TOKEN": METRICS_TOKEN, "SMSAPI_LOG_LEVEL": "debug"}
    with serving(environment(sqlite_url, simulator.url, **settings)) as served:
        caller = caller_of(served)
        minted = caller.request("POST", "/v1/auth/token", json={"api_key": caller.key}).json()["access_token"]
        sent = send_every_way(served, caller, simulator, minted)
        ask_wrongly(served, caller, minted)
        assert served.stop() == 0
        see_nothing_secret(served.log.read_text(), caller.key, minted)
        see_the_ids(served.lines(), sent)


def send_every_way(served, caller, simulator, minted):
    sent = caller.send(to=f"+1{NUMBER}", text=TEXT, reference="zanzibar", metadata={"name": "zanzibar"}).json()
    eventually(lambda: caller.message(sent["id"])["status"] == "delivered")
    caller.send(to=f"+1{NUMBER}", text=TEXT, headers=ASYNC)
    caller.send(to=f"+1{NUMBER}", text=TEXT, headers={"Idempotency-Key": "zanzibar", "X-Request-Id": "follow-me"})
    caller.send(to="+14155550003", text=TEXT)
    for kind in ("429", "500", "reset_after", "html_200", "wrong_json"):
        simulator.faults.replace([Rule(kind, count=1)])
        assert caller.send(to=f"+1{NUMBER}", text=TEXT, headers={"Prefer": "wait=1"}).status_code in {201, 202}
    bearer = {"Authorization": f"Bearer {minted}"}
    assert requests.get(f"{served.url}/v1/auth/whoami", headers=bearer, timeout=10).status_code == 200
    return sent


def ask_wrongly(served, caller, minted):
    caller.request("POST", "/v1/messages", data='{"to": "zanzibar', headers={"Content-Type": "application/json"})
    caller.request("POST", "/v1/messages", json={"to": "zanzibar", "text": TEXT, "zanzibar": TEXT})
    caller.request("GET", f"/v1/messages?to=%2B1{NUMBER}&reference=zanzibar&zanzibar={NUMBER}")
    caller.request("GET", f"/v1/messages?cursor={caller.key}")
    caller.request("GET", f"/zanzibar/{NUMBER}")
    for wrong in (caller.key[:-1], "smsk_live_zanzibar", f"Bearer {caller.key}"):
        caller.request("GET", "/v1/messages", headers={"X-API-Key": wrong})
    for wrong in (minted[:-2], "zanzibar", "Basic emFuemliYXI6"):
        requests.get(f"{served.url}/v1/messages", headers={"Authorization": f"Bearer {wrong}"}, timeout=10)
    requests.get(f"{served.url}/metrics", headers={"Authorization": "Bearer zanzibar"}, timeout=10)
    requests.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=10)
    requests.post(served.url + path_of("msg_zanzibar"), data={"Text": TEXT, "To": NUMBER}, timeout=10)
    for raw in UNREADABLE:
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            connection.sendall(raw.encode())
            assert connection.recv(65536)[9:10] == b"4"


def see_nothing_secret(logged, key, minted):
    secrets = (TEXT, "zanzibar", "codeword", NUMBER, key, key[-30:], minted, minted.rpartition(".")[2])
    for secret in (*secrets, AUTH_TOKEN, JWT_SECRET, METRICS_TOKEN, "emFuemliYXI6"):
        assert secret not in logged


def see_the_ids(lines, sent):
    requests_logged = [line for line in lines if line["event"] == "request"]
    assert all(line["request_id"] and line["timestamp"].endswith("Z") for line in requests_logged)
    (followed,) = [line for line in requests_logged if line["request_id"] == "follow-me"]
    assert followed["client_id"] == sent["client_id"]
    of_message = [line for line in lines if line.get("message_id") == sent["id"]]
    assert {line["event"] for line in of_message} == {"attempt", "receipt"}
    assert {line["client_id"] for line in of_message} == {sent["client_id"]}
    assert all(line["request_id"] for line in of_message)
    assert "invalid_request" in {line["event"] for line in lines}


FAILING = """
import logging, sys
from uuid import uuid4
from sqlalchemy import insert
from smsapi.db import Database
from smsapi.log import configure_logging, get_logger, log_uncaught
from smsapi.messages.models import messages
configure_logging("info")
sys.excepthook = log_uncaught
database = Database(sys.argv[1])
def fail(**values):
    with database.transaction() as connection:
        row = {"id": uuid4(), "text": "codeword zanzibar", "to_number": "+14155559876", **values}
        connection.execute(insert(messages).values(**row))
for how in (get_logger().exception, logging.getLogger("library").exception):
    for values in ({}, {"status": "zanzibar" * 9}):
        try:
            fail(**values)
        except Exception:
            how("it_failed")
    try:
        int("codeword zanzibar +14155559876")
    except ValueError as error:
        try:
            raise RuntimeError("codeword zanzibar") from error
        except RuntimeError:
            how("it_failed")
get_logger().info("odd", surrogate="\\ud800", huge=2**70, body="zanzibar", thing=object(), number="+14155559876")
raise KeyError("codeword zanzibar")
"""


def test_exceptions_are_logged_with_their_place_and_without_the_rows_that_they_quote(database_url):
    ran = subprocess.run(
        [sys.executable, "-c", FAILING, database_url], capture_output=True, text=True, timeout=60, check=False
    )
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["it_failed"] * 6 + ["odd", "uncaught"]
    for secret in ("zanzibar", "codeword", "4155559876"):
        assert secret not in ran.stderr
    kinds = [line["exception"].splitlines()[-1] for line in lines if "exception" in line]
    assert kinds[0] in {"IntegrityError", "NotNullViolation"}
    assert kinds[2] == "RuntimeError"
    assert kinds[-1] == "KeyError"
    assert all('File "<string>", line' in line["exception"] for line in lines if "exception" in line)


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("to +14155550123 now", "to +141******23 now"),
        ("to=14155550123", "to=1415*****23"),
        ("/v1/opt-outs/%2B14155550123", "/v1/opt-outs/%2B1********23"),
        ("+441632960961,+441632960962", "+441*******61,+441*******62"),
        ("smsk_live_0123456789abcdef0123456789abcdef_secret", "smsk_live_01234567…"),
        ("key smsk_test_secret!", "key smsk_…!"),
        ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl", "Bearer eyJ…"),
        ("msg_019a0000000074155550123000000000", "msg_019a0000000074155550123000000000"),
        ("2026-11-23T15:19:27.170993Z", "2026-11-23T15:19:27.170993Z"),
        ("took 123456 ms", "took 123456 ms"),
    ],
)
def test_numbers_and_credentials_are_masked_and_ids_and_times_are_not(said, logged):
    assert mask_numbers(said) == logged


@pytest.mark.parametrize(
    "name", ["text", "body", "auth_token", "jwt_secret", "X-Api-Key", "api_key", "Authorization", "password", "cookie"]
)
def test_a_field_that_holds_a_text_or_a_secret_is_left_out_by_its_name(name):
    assert scrub({"outer": [{name: "zanzibar"}]}) == {"outer": [{name: "[redacted]"}]}


def test_of_an_object_only_its_type_is_logged_unless_it_is_a_plain_value():
    found = scrub(
        {"a": object(), "b": UUID(int=1), "c": Decimal("1.5"), "d": None, "e": b"+14155550123", "f": {1: {2}}}
    )
    assert found == {
        "a": "<object>",
        "b": "00000000-0000-0000-0000-000000000001",
        "c": "1.5",
        "d": None,
        "e": "<bytes>",
        "f": {"1": [2]},
    }


def test_our_own_errors_say_their_sentence_and_others_only_what_they_are():
    assert reason_of(NotFound("There is no +14155550123.")) == "NotFound: There is no +141******23."
    assert reason_of(ConnectionRefusedError(111, "Connection refused")) == "ConnectionRefusedError: Connection refused"
    assert reason_of(ValueError("zanzibar")) == "ValueError"
    assert reason_of(AttributeError("no attribute 'x'")) == "AttributeError: no attribute 'x'"


def test_an_exception_that_is_its_own_cause_is_told_once():
    error, other = ValueError(), RuntimeError()
    error.__cause__, other.__cause__ = other, error
    assert trace_of(error).splitlines() == ["RuntimeError", "which led to", "ValueError"]


def test_the_libraries_are_heard_from_warnings_up():
    assert logging.getLogger("urllib3").isEnabledFor(logging.WARNING)
    assert not logging.getLogger("urllib3").isEnabledFor(logging.INFO)

"""``smsapi send`` in a script: its exit code says what to do, and no retry ever sends twice."""

import json
import os
import signal
import subprocess

import pytest
import requests

from tests.conftest import eventually, free_port
from tests.support.api import SENT_OR_REPORTED, UNREPORTED
from tests.support.command import SMSAPI, called, environment, run
from tests.support.hostile import TAKEN, Reply, hostile

TO = "+14155550123"
BUSY = Reply(503, {"code": "store_unavailable", "detail": "Try again."}, {"Retry-After": "1"})


@pytest.fixture
def database_url(sqlite_url):
    """What is tested is the command."""
    return sqlite_url


def send(service, *arguments, to=TO, text="Hello", stdin=b"", token=None):
    address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": token or getattr(service, "key", "smsk_test_x")}
    return called("send", "--to", to, "--text", text, *arguments, stdin=stdin, **address)


def problem(code, **members):
    return {"code": code, "detail": "It was not to be.", **members}


def test_a_message_is_sent_with_a_key_and_with_a_token(live, simulator):
    service = live()
    made = requests.post(f"{service.url}/v1/auth/token", json={"api_key": service.key}, timeout=10).json()
    for token in (service.key, made["access_token"]):
        ended = send(service, token=token)
        assert ended.exit_code == 0, ended.output
        message_id, status = ended.stdout.split()
        assert status in SENT_OR_REPORTED
        assert service.message(message_id)["to"] == TO
    assert simulator.store.count() == 2


def test_the_process_itself_ends_with_the_code_and_prints_the_message(live):
    service = live()
    address = {"SMSAPI_URL": service.url + "/", "SMSAPI_TOKEN": service.key}
    ended = run("send", "--to", TO, "--text", "-", "--json", stdin="Grüße ☺\n".encode(), LC_ALL="C", **address)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["text"] == "Grüße ☺"
    assert ended.stderr == b""


def test_everything_that_was_given_reaches_the_service(live):
    service = live()
    given = ("--from", "+14155550100", "--reference", "order-1", "--wait", "5", "--json")
    ended = send(service, *given, to=UNREPORTED)
    message = json.loads(ended.stdout)
    assert (message["from"], message["reference"], message["status"]) == ("+14155550100", "order-1", "sent")
    assert service.message(message["id"])["reference"] == "order-1"


def test_the_same_key_sends_once(live, simulator):
    service = live()
    ids = {send(service, "--idempotency-key", "once").stdout for _ in range(3)}
    assert len(ids) == 1
    assert simulator.store.count() == 1


def test_what_is_refused_for_good_is_1_and_says_which_field(live):
    ended = send(live(), to="+1415")
    assert ended.exit_code == 1
    assert ended.stdout == ""
    assert "422 validation_failed" in ended.stderr
    assert "  /to: " in ended.stderr


def test_a_message_that_plivo_refuses_is_1_and_is_not_tried_again(live, simulator):
    service = live()
    assert send(service, to="+14155550003").exit_code == 1
    assert send(service, to="+14155550011").exit_code == 1
    listed = service.request("GET", "/v1/messages").json()["data"]
    assert [(message["status"], message["attempts"]) for message in listed] == [("failed", 1), ("failed", 1)]


def test_a_wrong_key_is_3(live):
    ended = send(live(), token="smsk_live_wrong")
    assert ended.exit_code == 3
    assert "401 unauthenticated" in ended.stderr


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, problem("malformed_request"), 1),
        (401, problem("unauthenticated"), 3),
        (403, problem("insufficient_scope"), 3),
        (404, b"<html>not here</html>", 1),
        (301, b"", 1),
        (200, b"<html>a login page</html>", 1),
        (201, [TAKEN], 1),
        (201, {"id": 1}, 1),
        (422, problem("validation_failed", errors=["odd", {"pointer": "/to"}]), 1),
        (409, problem("idempotency_in_progress"), 4),
        (429, problem("rate_limited"), 4),
        (500, problem("internal_error"), 4),
        (502, b"<html>bad gateway</html>", 4),
        (502, problem("provider_account"), 1),
        (503, problem("store_unavailable"), 4),
        (504, b"", 4),
    ],
)
def test_the_exit_code_says_what_to_do(status, body, code):
    with hostile([Reply(status, body, {"Location": "/elsewhere"})]) as service:
        ended = send(service, "--retry-for", "0")
        assert ended.exit_code == code, ended.output
        assert len(service.asked) == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("smsapi send: ")
    assert ("--idempotency-key " in ended.stderr) == (code == 4)


def test_a_service_that_is_down_or_resets_is_asked_again_with_the_same_key_and_the_message_is_sent_once():
    with hostile([BUSY, Reply(None), Reply(502, b"oops"), Reply(201, TAKEN)]) as service:
        ended = send(service, "--retry-for", "30")
    assert ended.exit_code == 0
    assert ended.stdout == f"{TAKEN['id']} sent\n"
    assert ended.stderr == ""
    assert len(service.asked) == 4
    assert len({headers["Idempotency-Key"] for _, headers, _ in service.asked}) == 1
    assert {(path, str(body)) for path, _, body in service.asked} == {
        ("/v1/messages", str({"to": TO, "text": "Hello"}))
    }


def test_it_gives_up_when_its_time_is_over_and_names_the_key_to_repeat_with():
    with hostile([Reply(503, problem("unavailable"), {"Retry-After": "3600"})]) as service:
        ended = send(service, "--retry-for", "2", "--json")
        (given,) = {headers["Idempotency-Key"] for _, headers, _ in service.asked}
    assert ended.exit_code == 4
    assert json.loads(ended.stdout)["code"] == "unavailable"
    assert f"--idempotency-key {given}" in ended.stderr


def test_nobody_there_is_4():
    address = {"SMSAPI_URL": f"http://127.0.0.1:{free_port()}", "SMSAPI_TOKEN": "smsk_test_x"}
    arguments = ("send", "--to", TO, "--text", "x", "--retry-for", "0")
    assert json.loads(called(*arguments, "--json", **address).stdout)["code"] == "connection_failed"
    ended = called(*arguments, **address)
    assert ended.exit_code == 4
    assert ended.stderr.startswith("smsapi send: connection_failed: No answer from ")


def test_the_token_can_come_from_a_file_and_the_option_goes_before_it(tmp_path):
    kept = tmp_path / "token"
    kept.write_text("smsk_test_file\n")
    with hostile([Reply(201, TAKEN)]) as service:
        for more in ((), ("--token", "smsk_test_option")):
            address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN_FILE": str(kept)}
            assert called("send", "--to", TO, "--text", "x", *more, **address).exit_code == 0
    assert [headers["X-API-Key"] for _, headers, _ in service.asked] == ["smsk_test_file", "smsk_test_option"]


@pytest.mark.parametrize(
    ("content", "environ", "said"),
    [
        (None, {}, "cannot be read from SMSAPI_TOKEN_FILE: FileNotFoundError"),
        (b"\xff", {}, "cannot be read from SMSAPI_TOKEN_FILE: UnicodeDecodeError"),
        (b"\n", {}, "is empty in SMSAPI_TOKEN_FILE"),
        (b"HUSH HUSH", {}, "visible ASCII"),
        (b"HUSH", {"SMSAPI_TOKEN": "HUSH"}, "are both set"),
    ],
)
def test_a_token_file_that_is_of_no_use_is_2_and_says_why(tmp_path, content, environ, said):
    kept = tmp_path / "token"
    if content is not None:
        kept.write_bytes(content)
    address = {"SMSAPI_URL": "http://127.0.0.1:1", "SMSAPI_TOKEN_FILE": str(kept), **environ}
    ended = called("send", "--to", TO, "--text", "x", **address)
    assert ended.exit_code == 2, ended.output
    assert said in " ".join(ended.stderr.split())
    assert "HUSH" not in ended.output


def test_two_messages_have_two_keys():
    with hostile([Reply(202, {**TAKEN, "status": "queued"})]) as service:
        send(service)
        send(service)
    first, second = (headers["Idempotency-Key"] for _, headers, _ in service.asked)
    assert first != second


def test_a_netrc_of_the_user_does_not_replace_the_credential(tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    with hostile([Reply(201, TAKEN)]) as service:
        for token in ("smsk_test_x", "a.jwt.token"):
            address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": token, "NETRC": str(netrc)}
            assert called("send", "--to", TO, "--text", "x", **address).exit_code == 0
    by_key, by_token = (headers for _, headers, _ in service.asked)
    assert (by_key.get("X-API-Key"), by_key.get("Authorization")) == ("smsk_test_x", None)
    assert by_token["Authorization"] == "Bearer a.jwt.token"


@pytest.mark.parametrize(("given", "sent"), [(b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b"a\nb", "a\nb")])
def test_standard_input_loses_one_line_end(given, sent):
    with hostile([Reply(201, TAKEN)]) as service:
        assert send(service, text="-", stdin=given).exit_code == 0
    assert service.asked[0][2]["text"] == sent


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        ([], {}),
        (["--to", TO], {}),
        (["--to", TO, "--text", "x"], {"SMSAPI_TOKEN": "k"}),
        (["--to", TO, "--text", "x"], {"SMSAPI_URL": "http://127.0.0.1:1"}),
        (["--to", TO, "--text", "x"], {"SMSAPI_URL": "127.0.0.1:8000", "SMSAPI_TOKEN": "k"}),
        (["--to", TO, "--text", "x"], {"SMSAPI_URL": "http://", "SMSAPI_TOKEN": "k"}),
        (["--to", TO, "--text", "x"], {"SMSAPI_URL": "http://h:99999", "SMSAPI_TOKEN": "k"}),
        (["--to", TO, "--text", "x"], {"SMSAPI_URL": "http://h", "SMSAPI_TOKEN": "HUSH\nHUSH"}),
        (["--to", TO, "--text", "x"], {"SMSAPI_URL": "http://h", "SMSAPI_TOKEN": "HUSH☺"}),
        (["--to", TO, "--text", "x", "--idempotency-key", "a b"], {"SMSAPI_URL": "http://h", "SMSAPI_TOKEN": "k"}),
        (["--to", TO, "--text", "x", "--wait", "31"], {"SMSAPI_URL": "http://h", "SMSAPI_TOKEN": "k"}),
        (["--to", TO, "--text", "\udcff"], {"SMSAPI_URL": "http://h", "SMSAPI_TOKEN": "k"}),
        (["--to", "\udcff", "--text", "x"], {"SMSAPI_URL": "http://h", "SMSAPI_TOKEN": "k"}),
        (["--to", TO, "--txt", "x"], {"SMSAPI_URL": "http://h", "SMSAPI_TOKEN": "k"}),
    ],
)
def test_wrong_usage_is_2_and_repeats_no_token(arguments, environ):
    ended = called("send", *arguments, **environ)
    assert ended.exit_code == 2, ended.output
    assert "HUSH" not in ended.output


def test_standard_input_that_is_no_text_is_2():
    ended = called("send", "--to", TO, "--text", "-", stdin=b"\xff\xfe", SMSAPI_URL="http://h", SMSAPI_TOKEN="k")
    assert ended.exit_code == 2
    assert "UTF-8" in ended.output


def test_an_interrupt_while_it_tries_is_4_because_the_message_may_have_been_taken():
    with hostile([BUSY]) as service:
        arguments = ("send", "--to", TO, "--text", "x", "--retry-for", "600")
        with subprocess.Popen(
            [*SMSAPI, *arguments],
            env=environment(SMSAPI_URL=service.url, SMSAPI_TOKEN="smsk_test_x"),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            eventually(lambda: service.asked)
            os.kill(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 4
    assert f"--idempotency-key {service.asked[0][1]['Idempotency-Key']}" in said
    assert "Traceback" not in said

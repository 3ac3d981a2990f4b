import logging
import os
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock
from smsapi.plivo.client import PlivoProvider
from smsapi.plivo.outcomes import Accepted, Dlt, Outgoing, Provider, Rejected, Unavailable, Unknown, shows_life
from tests.plivo.far_side import UUID, FarSide, Request, Wire

AUTH_ID = "MA0123456789ABCDEFGH"
AUTH_TOKEN = "a-token-that-nobody-may-see"
MESSAGE = Outgoing(message_id="msg_1", to="+14155552671", sender="+14155550100", text="Your order has left, thank you")


def provider_for(far: FarSide | str, **keywords) -> PlivoProvider:
    origin = far if isinstance(far, str) else far.origin
    return PlivoProvider(auth_id=AUTH_ID, auth_token=AUTH_TOKEN, base_url=origin, **keywords)


def answering(status: int, body: bytes = b"", headers: dict[str, str] | None = None):
    def script(wire: Wire, request: Request) -> None:
        wire.answer(status, body, headers)

    return script


def test_it_is_a_provider_named_plivo():
    provider: Provider = provider_for("http://127.0.0.1:1")
    assert provider.name == "plivo"


def test_a_message_goes_out_as_plivo_wants_it():
    message = Outgoing(
        message_id="msg_1",
        to="+14155552671",
        sender="+14155550100",
        text="Grüße 👋",
        callback_url="https://sms.example/plivo/status/msg_1",
        expires_in_seconds=60,
        dlt=Dlt("entity", "template", "transactional"),
    )
    with FarSide() as far:
        assert provider_for(far).send(message) == Accepted(UUID)
        (request,) = far.requests
    assert (request.method, request.target) == ("POST", f"/v1/Account/{AUTH_ID}/Message/")
    assert request.headers["authorization"] == "Basic " + b64encode(f"{AUTH_ID}:{AUTH_TOKEN}".encode()).decode()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{far.port}"
    assert request.json == {
        "src": "14155550100",
        "dst": "14155552671",
        "text": "Grüße 👋",
        "type": "sms",
        "url": "https://sms.example/plivo/status/msg_1",
        "method": "POST",
        "log": "true",
        "trackable": False,
        "message_expiry": 60,
        "dlt_entity_id": "entity",
        "dlt_template_id": "template",
        "dlt_template_category": "transactional",
    }


def test_what_is_not_given_is_not_sent():
    with FarSide() as far:
        provider_for(far).send(MESSAGE)
        assert set(far.requests[0].json) == {"src", "dst", "text", "type", "method", "log", "trackable"}


def test_an_alphanumeric_sender_goes_out_as_it_is():
    with FarSide() as far:
        message = Outgoing(message_id="m", to="+14155552671", sender="ACME", text="hi")
        assert provider_for(far).send(message) == Accepted(UUID)
        assert far.requests[0].json["src"] == "ACME"


# The rows of the SDK's table of exceptions, each as it arrives at the caller now.
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Unknown),
        (202, Unknown),
        (400, ("message", None)),
        (401, ("account", None)),
        (402, ("account", None)),
        (403, ("account", None)),
        (404, ("message", None)),
        (405, ("message", None)),
        (408, Unknown),
        (409, ("message", None)),
        (413, ("message", None)),
        (422, ("message", None)),
        (429, Unavailable),
        (500, Unknown),
        (501, Unknown),
        (502, Unknown),
        (503, Unknown),
        (504, Unknown),
    ],
)
@pytest.mark.parametrize(
    "body",
    [b'{"api_id": "a", "error": "no"}', b'{"error": {"message": "no"}}', b"null", b"[]", b"<html>no</html>", b""],
)
def test_each_status_of_the_sdks_table_has_its_outcome(status, expected, body):
    with FarSide(answering(status, body, {"Retry-After": "3"})) as far:
        outcome = provider_for(far).send(MESSAGE)
    assert outcome.status == status
    if isinstance(expected, tuple):
        assert isinstance(outcome, Rejected)
        assert (outcome.kind, outcome.error_code) == expected
    else:
        assert isinstance(outcome, expected)
    if isinstance(outcome, Unavailable):
        assert outcome.retry_after_seconds == 3


def test_a_retry_after_date_is_counted_from_the_clock():
    clock = ManualClock(datetime(2026, 1, 1, 12, tzinfo=UTC))
    with FarSide(answering(429, b"", {"Retry-After": "Thu, 01 Jan 2026 12:00:20 GMT"})) as far:
        outcome = provider_for(far, clock=clock).send(MESSAGE)
    assert isinstance(outcome, Unavailable)
    assert outcome.retry_after_seconds == 20


def test_an_empty_account_is_named_by_plivos_code():
    with FarSide(answering(400, b'{"error": "Insufficient Credit"}')) as far:
        assert provider_for(far).send(MESSAGE) == Rejected("account", "Insufficient Credit", 400, "900")


def test_what_the_sdk_refuses_itself_is_not_taken_for_an_answer():
    with FarSide() as far:
        same = Outgoing(message_id="m", to="+14155552671", sender="14155552671", text="hi")
        odd = Outgoing(message_id="m", to="+14155552671", sender="ACME", text="hi", callback_url="ftp://x")
        outcomes = [provider_for(far).send(message) for message in (same, odd)]
        assert far.connections == 0
    assert [(outcome.kind, outcome.status) for outcome in outcomes] == [("message", 0), ("message", 0)]


@pytest.mark.parametrize(
    "to",
    ["+14155552671<+14155552672", "", "+", "14155552671,1", "+04155552671", "+1415555267\N{ARABIC-INDIC DIGIT ONE}"],
)
def test_a_destination_that_is_not_one_number_is_never_asked_for(to):
    with FarSide() as far:
        outcome = provider_for(far).send(Outgoing(message_id="m", to=to, sender="ACME", text="hi"))
        assert far.connections == 0
    assert outcome == Rejected("message", "the destination is not one phone number", 0)


@pytest.mark.parametrize(
    ("keywords", "secret"),
    [
        ({"auth_id": ""}, AUTH_TOKEN),
        ({"auth_id": "XX0123456789ABCDEFGH"}, "XX0123456789ABCDEFGH"),
        ({"auth_id": "MA-too-short"}, "MA-too-short"),
        ({"auth_token": ""}, AUTH_ID),
        ({"auth_token": "token\n"}, "token\n"),
        ({"auth_token": "tokén"}, "tokén"),
        ({"base_url": "http://127.0.0.1:1/v1"}, AUTH_TOKEN),
        ({"base_url": "ftp://127.0.0.1"}, AUTH_TOKEN),
        ({"base_url": "127.0.0.1:8099"}, AUTH_TOKEN),
        ({"base_url": "http://user:pass@127.0.0.1"}, "pass"),
        ({"base_url": "http://127.0.0.1:99999"}, AUTH_TOKEN),
    ],
)
def test_what_cannot_be_right_is_refused_at_the_start_without_repeating_it(monkeypatch, keywords, secret):
    # The SDK would take these for a half-given pair.
    monkeypatch.setenv("PLIVO_AUTH_ID", "MAENVIRONMENTENVIRON")
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "environment")
    with pytest.raises(ValueError) as refusal:
        PlivoProvider(**{"auth_id": AUTH_ID, "auth_token": AUTH_TOKEN, **keywords})
    assert secret not in str(refusal.value)


def test_no_credential_is_printed_logged_or_told(caplog):
    caplog.set_level(logging.DEBUG)
    basic = b64encode(f"{AUTH_ID}:{AUTH_TOKEN}".encode()).decode()
    echo = f'{{"error": "{AUTH_ID} {AUTH_TOKEN} {basic} {MESSAGE.text} {MESSAGE.to}"}}'.encode()
    seen: list[str] = []

    def script(wire: Wire, request: Request) -> None:
        if len(far.requests) == 2:
            wire.reset()
        wire.answer((401, 0, 429)[len(far.requests) - 1], echo)

    with FarSide(script) as far:
        provider = provider_for(far)
        seen += [str(provider.send(MESSAGE)) for _ in range(3)]
    seen += [str(provider_for(f"http://127.0.0.1:{far.port}").send(MESSAGE))]
    session = provider._client().session
    seen += [repr(provider), str(provider), repr(session.auth), str(session.auth), repr(session), caplog.text]
    for secret in (AUTH_ID, AUTH_TOKEN, basic, MESSAGE.text, MESSAGE.to.removeprefix("+")):
        assert not [text for text in seen if secret in text]
    assert len(far.requests) == 3
    assert AUTH_ID in far.requests[0].target


@pytest.mark.parametrize("status", [400, 401, 429])
def test_an_answer_of_a_far_side_that_works_shows_life(status):
    with FarSide(answering(status)) as far:
        assert shows_life(provider_for(far).send(MESSAGE)) is True


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (408, b""), (500, b"{}"), (503, b""), (302, b"")])
def test_an_answer_that_is_not_plivos_or_says_that_it_is_down_shows_it_failing(status, body):
    with FarSide(answering(status, body)) as far:
        assert shows_life(provider_for(far).send(MESSAGE)) is False


def test_a_far_side_that_refuses_resets_or_is_silent_shows_it_failing():
    with FarSide(lambda wire, _: wire.reset()) as far:
        assert shows_life(provider_for(far).send(MESSAGE)) is False
    assert shows_life(provider_for(far).send(MESSAGE)) is False
    with FarSide(lambda wire, _: wire.hang()) as far:
        assert shows_life(provider_for(far, read_timeout_seconds=0.2).send(MESSAGE)) is False


def test_a_message_that_was_never_asked_for_shows_nothing():
    odd = Outgoing(message_id="m", to="+14155552671", sender="14155552671", text="hi")
    nowhere = Outgoing(message_id="m", to="nobody", sender="ACME", text="hi")
    provider = provider_for("http://127.0.0.1:1")
    assert [shows_life(provider.send(message)) for message in (odd, nowhere)] == [None, None]


def test_a_failure_of_ours_that_nobody_foresaw_shows_nothing():
    outcome = provider_for("http://127.0.0.1:1").send(
        Outgoing(message_id="m", to="+14155552671", sender="ACME", text="hi", expires_in_seconds=[])
    )
    assert outcome == Unknown("the call failed (TypeError)", local=True)
    assert shows_life(outcome) is None


FORKING = """
import os, sys
from smsapi.plivo.client import PlivoProvider
from smsapi.plivo.outcomes import Accepted, Outgoing

provider = PlivoProvider(auth_id=sys.argv[2], auth_token="token", base_url=sys.argv[1])
message = Outgoing(message_id="m", to="+14155552671", sender="ACME", text="hi")
assert isinstance(provider.send(message), Accepted)
child = os.fork()
assert isinstance(provider.send(message), Accepted)
assert isinstance(provider.send(message), Accepted)
if child == 0:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_opens_its_own_connection():
    with FarSide() as far:
        run = subprocess.run(
            [sys.executable, "-c", FORKING, far.origin, AUTH_ID], check=False, timeout=60, env={**os.environ}
        )
        assert run.returncode == 0
        assert (len(far.requests), far.connections) == (5, 2)

"""Asking for Plivo's message list: over sockets that misbehave, and of the simulator, page by page."""

import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import pytest

from smsapi.clock import ManualClock
from smsapi.plivo.client import PlivoProvider
from smsapi.plivo.lookup import LookupFailed, Page, Query, Record
from smsapi.plivo.outcomes import Accepted, Outgoing, Provider
from smsapi.plivo.simulator import Simulator
from smsapi.send.testmode import TestProvider
from tests.plivo.far_side import UUID, FarSide, Request, Wire

AUTH_ID = "MA0123456789ABCDEFGH"
AUTH_TOKEN = "a-token-that-nobody-may-see"
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SENDER, TO = "+14155550100", "+14155552671"
QUERY = Query(SENDER, TO, since=NOON - timedelta(minutes=5), until=NOON)
EMPTY = json.dumps({"meta": {"limit": 20, "offset": 0, "total_count": 0, "next": None}, "objects": []}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def provider_for(origin: str, **keywords) -> PlivoProvider:
    return PlivoProvider(auth_id=AUTH_ID, auth_token=AUTH_TOKEN, base_url=origin, **keywords)


def hurried(origin: str) -> PlivoProvider:
    return provider_for(
        origin, connect_timeout_seconds=0.3, read_timeout_seconds=0.2, total_timeout_seconds=0.4, pool_size=1
    )


def answer_empty(wire: Wire, request: Request) -> None:
    wire.answer(200, EMPTY)


def test_the_question_goes_out_as_plivo_documents_it():
    query = Query(
        SENDER,
        TO,
        since=datetime(2026, 5, 4, 17, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        until=datetime(2026, 5, 4, 12, 5, tzinfo=UTC),
    )
    with FarSide(answer_empty) as far:
        assert provider_for(far.origin).look_up(query) == Page((), 0, None)
        (request,) = far.requests
    target = urlsplit(request.target)
    assert (request.method, target.path, request.body) == ("GET", f"/v1/Account/{AUTH_ID}/Message/", b"")
    assert parse_qs(target.query, strict_parsing=True) == {
        "message_direction": ["outbound"],
        "from_number": ["+14155550100"],
        "to_number": ["+14155552671"],
        "message_time__gte": ["2026-05-04 12:00:00.123456"],
        "message_time__lte": ["2026-05-04 12:05:00.000000"],
        "limit": ["20"],
        "offset": ["0"],
    }
    assert request.headers["authorization"] == "Basic " + b64encode(f"{AUTH_ID}:{AUTH_TOKEN}".encode()).decode()


def test_all_recipients_of_a_name_are_asked_for_without_a_number():
    with FarSide(answer_empty) as far:
        provider_for(far.origin).look_up(Query("ACME", None, QUERY.since, QUERY.until))
        sent = parse_qs(urlsplit(far.requests[0].target).query)
    assert sent["from_number"] == ["ACME"]
    assert "to_number" not in sent


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize("body", [b'{"api_id": "a", "error": "no"}', b"null", b"<html>no</html>", b"", EMPTY])
def test_an_error_is_a_failure_with_its_status_and_wait(status, body):
    with FarSide(lambda wire, _: wire.answer(status, body, {"Retry-After": "3"})) as far:
        found = provider_for(far.origin).look_up(QUERY)
    assert isinstance(found, LookupFailed)
    assert (found.status, found.retry_after_seconds) == (status, 3)


def test_a_wait_until_a_date_is_counted_from_the_clock():
    later = {"Retry-After": "Mon, 04 May 2026 12:00:20 GMT"}
    with FarSide(lambda wire, _: wire.answer(429, b"", later)) as far:
        found = provider_for(far.origin, clock=ManualClock(NOON)).look_up(QUERY)
    assert isinstance(found, LookupFailed)
    assert found.retry_after_seconds == 20


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status):
    with FarSide(lambda wire, _: wire.answer(status, EMPTY, {"Location": "/elsewhere"})) as far:
        found = provider_for(far.origin).look_up(QUERY)
        assert len(far.requests) == 1
    assert found == LookupFailed(f"status {status} without a readable error", status)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (lambda wire, _: wire.reset(), "the connection was reset"),
        (lambda wire, _: wire.close(), "the connection was closed without an answer"),
        (lambda wire, _: wire.hang(), "waiting for the answer timed out"),
        (lambda wire, _: wire.drip(HEAD * 100), "waiting for the answer timed out"),
        (
            lambda wire, _: wire.write(HEAD + b"Content-Length: 99999999\r\n\r\n" + b" " * 199_999),
            "the answer is too large",
        ),
    ],
)
def test_a_call_that_fails_is_a_failure_and_not_tried_again(script, reason):
    with FarSide(script) as far:
        assert hurried(far.origin).look_up(QUERY) == LookupFailed(reason)
        assert len(far.requests) == 1


def test_a_body_that_breaks_off_is_a_failure():
    def script(wire: Wire, request: Request) -> None:
        wire.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(EMPTY) + EMPTY[:-9])
        wire.close()

    with FarSide(script) as far:
        assert provider_for(far.origin).look_up(QUERY) == LookupFailed("the answer broke off")


def test_a_connection_that_cannot_be_had_is_a_failure():
    with FarSide() as far:
        origin = far.origin
    assert provider_for(origin).look_up(QUERY) == LookupFailed("the connection was refused")


def test_a_question_that_the_sdk_refuses_is_a_failure_and_not_an_empty_list():
    with FarSide(answer_empty) as far:
        found = provider_for(far.origin).look_up(Query(SENDER, TO, QUERY.since, QUERY.until, offset=-1))
        assert far.connections == 0
    assert found == LookupFailed("the call failed (ValidationError)")


def test_sends_and_look_ups_share_their_connections():
    def script(wire: Wire, request: Request) -> None:
        if request.method == "GET":
            wire.answer(200, EMPTY)
        else:
            wire.answer(202, json.dumps({"message_uuid": [UUID]}).encode())

    with FarSide(script) as far:
        provider = provider_for(far.origin)
        for _ in range(2):
            assert provider.send(Outgoing("m", TO, SENDER, "hi")) == Accepted(UUID)
            assert provider.look_up(QUERY) == Page((), 0, None)
        assert (len(far.requests), far.connections) == (4, 1)


def test_no_credential_and_no_number_is_logged_or_told(caplog):
    caplog.set_level(logging.DEBUG)
    basic = b64encode(f"{AUTH_ID}:{AUTH_TOKEN}".encode()).decode()
    echo = json.dumps({"error": f"{AUTH_ID} {AUTH_TOKEN} {basic} {SENDER} {TO}"}).encode()

    def script(wire: Wire, request: Request) -> None:
        if len(far.requests) == 3:
            wire.reset()
        wire.answer(200 if len(far.requests) == 1 else 401, echo)

    with FarSide(script) as far:
        provider = provider_for(far.origin)
        told = [str(provider.look_up(QUERY)) for _ in range(3)]
    told.append(str(provider.look_up(QUERY)))
    assert len(far.requests) == 3
    assert "/Message/" in caplog.text
    for secret in (AUTH_ID, AUTH_TOKEN, basic, SENDER.removeprefix("+"), TO.removeprefix("+")):
        assert not [text for text in (*told, caplog.text) if secret in text]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def simulator(clock) -> Iterator[Simulator]:
    with Simulator(
        auth_id=AUTH_ID, auth_token=AUTH_TOKEN, requests_per_5s=None, lists_per_minute=None, clock=clock
    ) as running:
        yield running


@pytest.fixture
def provider(simulator, clock) -> PlivoProvider:
    return provider_for(simulator.url, clock=clock)


def send(provider: PlivoProvider, *, to: str = TO, sender: str = SENDER) -> str:
    outcome = provider.send(Outgoing("m", to, sender, "Your order has left"))
    assert isinstance(outcome, Accepted)
    return outcome.message_uuid


def all_pages(provider: Provider, query: Query) -> tuple[list[Record], int]:
    records: list[Record] = []
    offset: int | None = 0
    pages = 0
    while offset is not None:
        found = provider.look_up(Query(query.sender, query.to, query.since, query.until, offset))
        assert isinstance(found, Page)
        records += found.records
        offset = found.next_offset
        pages += 1
    assert len(records) == found.total
    return records, pages


def test_more_than_a_page_is_read_page_by_page_newest_first(provider, clock):
    sent = []
    for _ in range(45):
        sent.append((send(provider), clock.now()))
        clock.advance(0.25)
    records, pages = all_pages(provider, Query(SENDER, TO, NOON, clock.now()))
    assert pages == 3
    assert [(record.message_uuid, record.taken_at) for record in records] == sent[::-1]


def test_a_full_page_that_is_the_last_is_told_from_one_that_is_not(provider, clock):
    for _ in range(20):
        send(provider)
    assert all_pages(provider, Query(SENDER, TO, NOON, NOON))[1] == 1
    send(provider)
    assert all_pages(provider, Query(SENDER, TO, NOON, NOON))[1] == 2


def test_only_this_sender_this_number_and_these_moments_are_found(provider, clock):
    send(provider)
    clock.advance(1)
    wanted = send(provider)
    send(provider, to="+14155552672")
    send(provider, sender="ACME")
    clock.advance(1)
    send(provider)
    at = NOON + timedelta(seconds=1)
    found = provider.look_up(Query(SENDER, TO, at, at))
    assert isinstance(found, Page)
    (record,) = found.records
    assert record == Record(wanted, "14155552671", "14155550100", at, "delivered", None, 1, "0.00550")
    assert len(all_pages(provider, Query(SENDER, None, at, at))[0]) == 2
    assert len(all_pages(provider, Query("ACME", None, NOON, clock.now()))[0]) == 1


def test_the_lists_own_limit_is_a_failure_with_the_wait_it_names(clock):
    with Simulator(
        auth_id=AUTH_ID, auth_token=AUTH_TOKEN, requests_per_5s=None, lists_per_minute=1, clock=clock
    ) as simulator:
        provider = provider_for(simulator.url, clock=clock)
        assert provider.look_up(QUERY) == Page((), 0, None)
        found = provider.look_up(QUERY)
    assert isinstance(found, LookupFailed)
    assert (found.status, found.retry_after_seconds) == (429, 60)


def test_wrong_credentials_are_a_failure_and_not_an_empty_list(simulator):
    provider = PlivoProvider(auth_id=AUTH_ID, auth_token="another", base_url=simulator.url)
    found = provider.look_up(QUERY)
    assert isinstance(found, LookupFailed)
    assert found.status == 401


def test_a_test_key_has_no_list():
    assert TestProvider().look_up(QUERY) == Page((), 0, None)

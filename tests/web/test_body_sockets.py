"""What only a socket can carry: bodies without a length, bytes that are no text, headers given twice."""

import itertools

import pytest

from tests.conftest import free_port, listening
from tests.support.far_side import count_rows
from tests.support.raw_http import exchange, head

GOOD = b'{"to": "+14155550123", "text": "Hello"}'
MEBIBYTE = 1024 * 1024
ROUTE = b"/v1/messages"


@pytest.fixture
def database_url(postgres_url):
    """The stricter of the two stores."""
    return postgres_url


@pytest.fixture
def wire(make_app, make_caller, simulator):
    """Send raw requests to a listening service; nothing may have been stored or sent by any of them."""
    app = make_app()
    caller, port = make_caller(app), free_port()
    credential = ("X-API-Key", caller.key)

    def send(method, target, headers=(), body=()):
        return exchange(port, itertools.chain([head(method, target, [credential, *headers])], body))

    with listening(app, port):
        yield send
    assert count_rows(app.extensions["smsapi"].database, "messages") == 0
    assert simulator.store.count() == 0


JSON = ("Content-Type", "application/json")


def _chunked(pieces):
    for piece in pieces:
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def test_ten_megabytes_are_refused_without_being_read(wire):
    megabytes = (b"x" * 1_000_000 for _ in range(10))
    answer = wire("POST", ROUTE, [JSON, ("Content-Length", "10000000")], megabytes)
    assert (answer.status, answer.code) == (413, "body_too_large")


def test_a_length_that_is_announced_is_enough_to_be_refused(wire):
    answer = wire("POST", ROUTE, [JSON, ("Content-Length", str(10**18))])
    assert (answer.status, answer.code) == (413, "body_too_large")


def test_a_body_without_a_length_is_counted_as_it_comes(wire):
    pieces = itertools.repeat(b" " * 65536, 160)
    answer = wire("POST", ROUTE, [JSON, ("Transfer-Encoding", "chunked")], _chunked(pieces))
    assert (answer.status, answer.code) == (413, "body_too_large")


def test_a_body_without_a_length_is_not_cut_where_it_becomes_too_long(wire):
    """Whatever stands before the limit is good JSON, and what comes after it must not be dropped in silence."""
    pieces = [GOOD, b" " * (MEBIBYTE - len(GOOD)), b"}"]
    answer = wire("POST", ROUTE, [JSON, ("Transfer-Encoding", "chunked")], _chunked(pieces))
    assert (answer.status, answer.code) == (413, "body_too_large")
    answer = wire("POST", ROUTE + b"/preview", [JSON, ("Transfer-Encoding", "chunked")], _chunked(pieces[:2]))
    assert answer.status == 200


def test_a_small_body_without_a_length_is_read(wire):
    pieces = [GOOD[:7], GOOD[7:]]
    answer = wire("POST", ROUTE + b"/preview", [JSON, ("Transfer-Encoding", "chunked")], _chunked(pieces))
    assert answer.status == 200


def test_a_length_that_is_none_is_no_body(wire):
    for headers in ([("Content-Length", length)] for length in ("-1", "x", "1e3", "", "0")):
        answer = wire("POST", ROUTE, [JSON, *headers, ("Connection", "close")])
        assert (answer.status, answer.code) == (400, "malformed_request"), headers
    answer = wire("POST", ROUTE, [JSON])
    assert (answer.status, answer.code) == (400, "malformed_request")


def test_bytes_in_a_url_that_are_no_text_are_no_error_of_ours(wire):
    for target, status, code in (
        (ROUTE + "?reference=é&limit=0".encode(), 422, "validation_failed"),
        (ROUTE + b"?\xff=1", 422, "validation_failed"),
        (ROUTE + b"/\xff\xfe", 404, "not_found"),
        (ROUTE + "/msg_é".encode(), 404, "not_found"),
        (ROUTE + b"/..", 404, "not_found"),
        (b"*", 404, "not_found"),
        (b"http://elsewhere/v1/nowhere", 404, "not_found"),
        (b"/v1/" + b"x" * 50_000, 404, "not_found"),
    ):
        answer = wire("GET", target)
        assert (answer.status, answer.code) == (status, code), target[:40]


def test_a_header_that_is_given_twice_is_not_chosen_from(wire, caller):
    length = ("Content-Length", str(len(GOOD)))
    keys = [("Idempotency-Key", "a b"), ("Idempotency-Key", "c")]
    assert wire("GET", ROUTE, [("X-API-Key", caller.key)]).code == "unauthenticated"
    assert wire("GET", ROUTE, [("Authorization", "Bearer x"), ("Authorization", "Bearer y")]).code == "unauthenticated"
    assert wire("POST", ROUTE, [length, JSON, *keys], [GOOD]).code == "idempotency_key_invalid"
    ids = [("X-Request-Id", "a"), ("X-Request-Id", "b c")]
    assert len(wire("GET", b"/nowhere", ids).headers["x-request-id"]) == 32


def test_a_websocket_is_not_spoken(wire):
    answer = wire("GET", ROUTE, [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")])
    assert (answer.status, answer.code) == (405, "method_not_allowed")

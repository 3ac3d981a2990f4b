"""Requests that mean harm or nothing: each is answered with a problem of 4xx, and leaves no trace."""

import gzip
import json
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import many
from tests.support.far_side import count_rows

GOOD = b'{"to": "+14155550123", "text": "Hello"}'
JSON = "application/json"


@pytest.fixture
def database_url(postgres_url):
    """The stricter of the two stores: it has types, and takes no NUL."""
    return postgres_url


@pytest.fixture
def hostile(make_app, make_caller, simulator):
    """Call with raw bytes and any headers; afterwards nothing must have been stored or sent."""
    app = make_app(limit_number="9999 per minute", limit_send="9999 per minute", limit_api="9999 per minute")
    caller = make_caller(app)

    def call(method, path, data=None, **headers):
        headers = {"X-API-Key": caller.key} | {name.replace("_", "-"): value for name, value in headers.items()}
        return app.test_client().open(path, method=method, data=data, headers=headers)

    yield call
    database = app.extensions["smsapi"].database
    assert [count_rows(database, table) for table in ("messages", "events", "idempotency_keys")] == [0, 0, 0]
    assert simulator.store.count() == 0


def _is_problem(answer, status):
    assert answer.status_code == status, (answer.status_code, answer.data[:300])
    assert answer.content_type == "application/problem+json"
    problem = json.loads(answer.data)
    assert problem["status"] == status
    assert problem["type"] == f"/problems/{problem['code']}"
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert "Traceback" not in answer.text
    return problem["code"]


def _text(inner: bytes) -> bytes:
    return b'{"to": "+14155550123", "text": ' + inner + b"}"


_NOT_JSON = [
    b"",
    b" ",
    b"{",
    b"\x00",
    GOOD + b"\x00",
    GOOD + b"{}",
    GOOD.replace(b'"', b"'"),
    b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD,
    GOOD + b"\xef\xbb\xbf",
    GOOD.decode().encode("utf-16"),
    GOOD.decode().encode("utf-16-be"),
    GOOD.decode().encode("utf-32"),
    _text("Grüße".encode("latin-1").join([b'"', b'"'])),
    _text(b'"\xc0\xaf"'),
    _text(b'"\xed\xa0\x80"'),
    _text(b'"\\ud800"'),
    _text(b'"\\udc00\\ud800"'),
    _text(b'"\\ud83d"'),
    _text(b'"\\x41"'),
    _text(b'"a\nb"'),
    _text(b"NaN"),
    _text(b"Infinity"),
    _text(b"-Infinity"),
    _text(b"1e400"),
    _text(b"9" * 400),
    _text(b"-" + b"9" * 21),
    _text(b"01"),
    GOOD[:-1] + b', "text": "Other"}',
    GOOD[:-1] + b', "te\\u0078t": "Other"}',
    GOOD[:-1] + b', "metadata": {"a": "1", "a": "2"}}',
    b"[" * 40 + b"]" * 40,
    b"[" * 100_000,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b"[" * 900 + b"]" * 900,
    GOOD[:-1] + b",}",
    b"// no\n" + GOOD,
    b"to=%2B14155550123&text=Hello",
    gzip.compress(GOOD),
]


def test_what_is_not_json_is_a_malformed_request(hostile):
    for body in _NOT_JSON:
        assert _is_problem(hostile("POST", "/v1/messages", body, Content_Type=JSON), 400) == "malformed_request", body


def test_json_that_breaks_the_schema_is_named_by_field(hostile):
    for inner in (b'"\\u0000"', b'"\\u001b"', b"18446744073709551616", b"1e308", b"-0.0", b"null", b"[[[[]]]]", b"{}"):
        answer = hostile("POST", "/v1/messages", _text(inner), Content_Type=JSON)
        assert _is_problem(answer, 422) == "validation_failed"
        assert [each["pointer"] for each in answer.get_json()["errors"]] == ["/text"]


_OTHER_TYPES = [
    {},
    {"Content_Type": ""},
    {"Content_Type": "text/plain"},
    {"Content_Type": "json"},
    {"Content_Type": "application/x-www-form-urlencoded"},
    {"Content_Type": "multipart/form-data; boundary=x"},
    {"Content_Type": "application/jsonp"},
    {"Content_Type": "application/json; charset=latin-1"},
    {"Content_Type": "application/json; charset=utf-16"},
    {"Content_Type": "application/json, text/plain"},
    {"Content_Type": JSON, "Content_Encoding": "gzip"},
    {"Content_Type": JSON, "Content_Encoding": "br"},
    {"Content_Type": JSON, "Content_Encoding": "identity, gzip"},
]


def test_a_body_of_another_type_is_not_guessed_at(hostile):
    for headers in _OTHER_TYPES:
        assert _is_problem(hostile("POST", "/v1/messages", GOOD, **headers), 415) == "unsupported_media_type"


def test_json_in_utf8_is_taken_however_it_is_spelled(hostile):
    for headers in (
        {"Content_Type": "application/json; charset=UTF-8"},
        {"Content_Type": 'Application/JSON; charset="utf-8"; x=y'},
        {"Content_Type": "application/vnd.api+json"},
        {"Content_Type": JSON, "Content_Encoding": "Identity"},
    ):
        assert hostile("POST", "/v1/messages/preview", GOOD, **headers).status_code == 200, headers


def test_a_body_over_a_mebibyte_is_too_large(hostile):
    edge = 1024 * 1024
    assert _is_problem(hostile("POST", "/v1/messages", b" " * (edge + 1), Content_Type=JSON), 413) == "body_too_large"
    assert _is_problem(hostile("POST", "/v1/messages", b"x" * 10_000_000, Content_Type=JSON), 413) == "body_too_large"
    padded = GOOD + b" " * (edge - len(GOOD))
    assert hostile("POST", "/v1/messages/preview", padded, Content_Type=JSON).status_code == 200


def test_a_stranger_may_send_sixteen_kibibytes_of_json(hostile):
    edge, path = 16 * 1024, "/v1/auth/token"
    wrong = b'{"api_key": "smsk_test_x"}'
    over = wrong + b" " * (edge + 1 - len(wrong))
    assert _is_problem(hostile("POST", path, over, Content_Type=JSON), 413) == "body_too_large"
    assert _is_problem(hostile("POST", path, over[:-1], Content_Type=JSON), 401) == "unauthenticated"
    unknown = json.dumps({f"f{number}": 1 for number in range(1200)}).encode()
    assert _is_problem(hostile("POST", path, unknown, Content_Type=JSON), 422) == "validation_failed"


def test_a_limit_without_a_window_is_refused_and_not_counted_by_the_minute(hostile):
    for limit in ("5 per 0 minute", "5/0 minute", "9 per day; 5/00minute"):
        order = json.dumps({"name": "one", "limits": {"api": limit}}).encode()
        answer = hostile("POST", "/v1/clients", order, Content_Type=JSON)
        assert _is_problem(answer, 422) == "validation_failed"
        (error,) = answer.get_json()["errors"]
        assert (error["pointer"], error["message"][:15]) == ("/limits/api", "Must be limits ")


def test_a_wrong_method_is_told_the_right_ones(hostile):
    reading, both = {"GET", "HEAD", "OPTIONS"}, {"GET", "HEAD", "OPTIONS", "POST"}
    for method, path, allowed in (
        ("PUT", "/v1/messages", both),
        ("DELETE", "/v1/messages", both),
        ("TRACE", "/v1/messages", both),
        ("BREW", "/v1/messages", both),
        ("PUT", "/v1/messages/msg_0", reading | {"PATCH"}),
        ("POST", "/v1/messages/msg_0/events", reading),
    ):
        answer = hostile(method, path, GOOD, Content_Type=JSON)
        assert _is_problem(answer, 405) == "method_not_allowed"
        assert set(answer.headers["Allow"].split(", ")) == allowed


def test_head_and_options_tell_no_more_than_get(hostile):
    assert (head := hostile("HEAD", "/v1/messages")).status_code == 200
    assert head.data == b""
    assert hostile("HEAD", "/v1/messages/msg_0").status_code == 404
    options = hostile("OPTIONS", "/v1/messages")
    assert (options.status_code, options.data) == (200, b"")
    assert "POST" in options.headers["Allow"]


_NOWHERE = [
    *("/", "/v1", "/v1/", "/v1/message", "/v1/messages/", "/v1//messages", "/V1/messages"),
    *("/v1/messages/msg_", "/v1/messages/x", "/v1/messages/msg_0/", "/v1/messages/msg_0/event", "/v2/messages"),
    *("/v1/messages/%00", "/v1/messages/%ff%fe", "/v1/messages/%zz", "/v1/messages/%", "/v1/messages/%2e%2e"),
    *("/v1/messages/..%2f..%2fetc", "/v1/messages/msg_%30%31", "/v1/messages/é", "/v1/messages/%ed%a0%80"),
    *(f"/v1/messages/msg_{'0' * 31}", f"/v1/messages/msg_{'A' * 32}", f"/v1/messages/msg_{'٣' * 32}"),
    *(f"/v1/messages/evt_{'0' * 32}", f"/v1/messages/msg_{'0' * 32}\n", f"/v1/messages/{'x' * 100_000}"),
]


def test_a_path_that_leads_nowhere_is_not_found(hostile):
    for path in _NOWHERE:
        assert _is_problem(hostile("GET", path), 404) == "not_found", path


_QUERIES = [
    *(("to=%00", 422), ("to=%2B14155550123%00", 422), ("to=%2B1415%0A5550123", 422), ("to=14155550123", 422)),
    *(("from=%00", 422), ("from=x%00", 422), ("reference=%00", 422), ("reference=a%00b", 422), ("status=%00", 422)),
    *(("created_after=%00", 422), ("created_after=0001-01-01T00:00:00%2B23:59", 422), ("cursor=%00", 422)),
    *(("created_before=9999-12-31T23:59:59-23:59", 422), ("created_after=2026-13-01T00:00:00Z", 422)),
    *(("created_after=2026-01-01T00:00:00", 422), ("created_after=2026-01-01", 422), ("created_after=now", 422)),
    *(("to=%ff", 400), ("reference=%ff", 400), ("reference=%ed%a0%80", 400), ("%ff=1", 400), ("reference=%c3", 400)),
    *(("limit=%zz", 422), ("a[]=1", 422), ("&&&limit=0", 422), ("reference=", 422)),
    *((f"reference={'x' * 256}", 422), (f"reference={'x' * 100_000}", 422), (f"{'x' * 100_000}=1", 422)),
    *(("&".join(f"x{number}=1" for number in range(5000)), 422), ("to=%2B14155550123&to=%2B14155550124", 422)),
]


def test_a_query_that_cannot_be_meant_is_refused(hostile):
    for query, status in _QUERIES:
        _is_problem(hostile("GET", f"/v1/messages?{query}"), status)


def test_raw_bytes_in_a_query_are_malformed_where_they_are_no_utf8(make_app, make_caller):
    caller = make_caller(make_app())
    for query in ("reference=\xff", "\xff=1", "reference=\xc3", "reference=\xed\xa0\x80"):
        for method, path in (
            ("GET", "/v1/messages"),
            ("POST", "/v1/messages"),
            ("GET", f"/v1/messages/msg_{'0' * 32}"),
        ):
            client, raw = caller.app.test_client(), {"QUERY_STRING": query}
            answer = client.open(
                path,
                method=method,
                data=GOOD,
                content_type=JSON,
                headers={"X-API-Key": caller.key},
                environ_overrides=raw,
            )
            assert _is_problem(answer, 400) == "malformed_request"


def test_a_moment_with_its_zone_is_understood(hostile):
    for value in ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456%2B05:30", "0001-01-02T00:00:00Z"):
        assert hostile("GET", f"/v1/messages?created_after={value}&created_before={value}").get_json()["data"] == []


_HEADERS = ("Idempotency_Key", "Prefer", "X_Request_Id", "Accept", "Host", "Content_Length", "Origin", "Cookie")
_VALUES = ("", " ", "é", "\x01", "a" * 60_000, '"', "a b", "-1", "%00", "😀".encode().decode("latin-1"))


def test_a_hostile_header_is_no_error_of_ours(hostile):
    for name, value in product(_HEADERS, _VALUES):
        answer = hostile("POST", "/v1/messages", b"{}", Content_Type=JSON, **{name: value})
        assert 400 <= answer.status_code < 500, (name, value, answer.data[:300])
        assert answer.content_type == "application/problem+json"
        assert answer.headers["X-Request-Id"].isascii()


def _ids_of(hostile, given):
    return (
        hostile("POST", "/v1/messages/preview", GOOD, Content_Type=JSON, X_Request_Id=given).headers["X-Request-Id"],
        hostile("GET", "/nowhere", X_Request_Id=given).headers["X-Request-Id"],
        hostile("GET", "/nowhere", X_Request_Id=given).get_json()["request_id"],
    )


def test_a_request_id_of_visible_ascii_is_echoed(hostile):
    for wanted in ("r-1", "!~", "x" * 128, "0"):
        assert _ids_of(hostile, wanted) == (wanted, wanted, wanted)


def test_any_other_request_id_is_replaced_by_a_fresh_one(hostile):
    for wanted in ("x" * 129, "", "a b", "é", "a\x7f", "a\tb", "x" * 60_000):
        shown = _ids_of(hostile, wanted)
        assert len(set(shown)) == 3
        assert all(len(fresh) == 32 and fresh.isalnum() for fresh in shown)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    [
        *("to", "text", "from", "expires_in", "max_segments", "max_price", "smart_encoding", "category", "reference"),
        *("metadata", "dlt", "send_at", "_schema", "value", "key"),
    ]
)


def test_no_value_of_any_field_is_an_error_of_ours(hostile):
    @settings(max_examples=many(30), suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(_FIELDS, _ANYTHING, min_size=1, max_size=5))
    def check(fields):
        body = json.dumps({"to": "+14155550123", "text": "Hello"} | fields).encode()
        answer = hostile("POST", "/v1/messages/preview", body, Content_Type=JSON)
        assert answer.status_code in {200, 400, 422}, answer.data[:300]

    check()


def test_no_bytes_are_an_error_of_ours(hostile):
    @settings(max_examples=many(30), suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=60) | st.binary(max_size=8).map(lambda inner: _text(b'"' + inner + b'"')))
    def check(body):
        answer = hostile("POST", "/v1/messages/preview", body, Content_Type=JSON)
        assert answer.status_code in {200, 400, 422}, answer.data[:300]

    check()

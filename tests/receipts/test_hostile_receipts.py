"""Forms that no Plivo sends, signed all the same: whatever is in them, nothing breaks and nothing false is kept."""

import io
from itertools import product

import pytest

from smsapi.plivo.signature import MA_V3, V2, V2_NONCE, V3, V3_NONCE
from smsapi.plivo.simulator.callbacks import signature_headers
from tests.conftest import AUTH_TOKEN, new_caller
from tests.support.plivo_calls import FORM, PUBLIC_URL, path_of, report, signed

GOOD = {"Status": "delivered", "MessageUUID": "5b40a428-bfc7-4daf-9d06-726c558bf3b8"}
FIELDS = ["Status", "MessageUUID", "ErrorCode", "TotalAmount", "Units", "Sequence", "From"]
BAD_VALUES = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "-1",
    "NaN",
    "Infinity",
    "1e9",
    "9" * 400,
    "x" * 5000,
    "٣",
    "ä😀",
    "0x10",
    "1,5",
]


@pytest.fixture
def database_url(postgres_url):
    """PostgreSQL takes less than SQLite of what a form may hold."""
    return postgres_url


@pytest.fixture
def app(make_app):
    return make_app(public_url=PUBLIC_URL)


@pytest.fixture
def caller(app):
    return new_caller(app)


@pytest.fixture
def message(caller):
    return caller.send(to="+14155550009").get_json()


def test_no_value_of_any_field_breaks_anything(app, caller, message):
    for name, value in product(FIELDS, BAD_VALUES):
        answer = report(app, message["id"], GOOD | {"Status": "sent"} | {name: value}, token=AUTH_TOKEN)
        assert answer.status_code == 200, (name, value)
    seen = caller.message(message["id"])
    assert seen["status"] == "sent"
    assert seen["price"] is None or float(seen["price"]["amount"]) >= 0
    assert 1 <= seen["segments"] <= 9999
    assert seen["provider"]["message_uuid"] == message["provider"]["message_uuid"]


def test_an_error_code_that_is_none_is_not_kept(app, caller, message):
    fields = GOOD | {"Status": "failed", "ErrorCode": "<script>alert(1)</script>", "TotalAmount": "9" * 30}
    assert report(app, message["id"], fields, token=AUTH_TOKEN).status_code == 200
    seen = caller.message(message["id"])
    assert (seen["status"], seen["provider"]["error_code"], seen["price"]) == ("failed", None, None)


def test_of_a_field_that_is_given_twice_and_signed_so_the_first_counts(app, caller, message):
    url = PUBLIC_URL + path_of(message["id"])
    headers = signature_headers(method="POST", url=url, token=AUTH_TOKEN, params={"Status": ["undelivered", "sent"]})
    body = "Status=undelivered&Status=sent"
    answer = app.test_client().post(path_of(message["id"]), data=body, headers=headers, content_type=FORM)
    assert answer.status_code == 200
    assert caller.message(message["id"])["status"] == "undelivered"


BODIES = [
    (FORM, b"Status=delivered&Text=%ff%fe%fd"),
    (FORM, b"Status=\xff\xfe\xfd&\xc3("),
    (FORM, b"&&&&===;;;%%%zz"),
    (FORM, b"&".join(b"a%d=1" % n for n in range(5000))),
    (FORM + "; charset=utf-16", "Status=delivered".encode("utf-16")),
    ("application/json", b'{"Status": "delivered"}'),
    (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="Status"\r\n\r\nsent\r\n--x--',
    ),
    ("multipart/form-data; boundary=x", b"--x\r\n" * 5000),
    ("multipart/form-data", b"--x"),
    ("text/plain", b"Status=delivered"),
    ("", b""),
]


def test_no_body_without_its_signature_does_anything(app, caller, message):
    headers = signed(AUTH_TOKEN, PUBLIC_URL + path_of(message["id"]), GOOD)
    for content_type, body in BODIES:
        answer = app.test_client().post(path_of(message["id"]), data=body, headers=headers, content_type=content_type)
        assert answer.status_code == 403, (content_type, body[:40])
    assert caller.message(message["id"]) == message


def test_a_body_of_two_megabytes_is_refused_whatever_it_is(app, caller, message):
    headers = signed(AUTH_TOKEN, PUBLIC_URL + path_of(message["id"]), GOOD)
    body = b"Status=delivered&Text=" + b"x" * (2 * 1024 * 1024)
    for content_type in (FORM, "multipart/form-data; boundary=x", "application/json"):
        answer = app.test_client().post(path_of(message["id"]), data=body, headers=headers, content_type=content_type)
        assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")
    assert caller.message(message["id"]) == message


def test_a_long_form_within_the_limit_is_read(app, caller, message):
    fields = GOOD | {"Text": "x" * 60_000}
    assert report(app, message["id"], fields, token=AUTH_TOKEN).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"


def test_a_form_that_is_signed_and_longer_than_64_kib_is_refused(app, caller, message):
    answer = report(app, message["id"], GOOD | {"Text": "x" * 65_536}, token=AUTH_TOKEN)
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")
    assert caller.message(message["id"]) == message


class _Untouched(io.BytesIO):
    def read(self, *_arguments):
        raise AssertionError("the body was read")

    readline = readinto = read


@pytest.mark.parametrize("accept_v2", [False, True])
def test_without_the_headers_of_a_signature_the_body_is_not_even_read(make_app, accept_v2):
    app = make_app(public_url=PUBLIC_URL, plivo_accept_v2_signatures=accept_v2)
    half = [
        {},
        {V3: "x"},
        {V3_NONCE: "x"},
        {V3: "", V3_NONCE: "x"},
        {MA_V3: "x", V3_NONCE: ""},
        {V3: "x", V2_NONCE: "x"},
    ]
    for headers in [*half, {V2: "x"}, *([] if accept_v2 else [{V2: "x", V2_NONCE: "x"}])]:
        answer = app.test_client().post(
            path_of("msg_unknown"),
            input_stream=_Untouched(),
            content_length=500_000,
            headers=headers,
            content_type=FORM,
        )
        assert (answer.status_code, answer.get_json()["code"]) == (403, "signature_invalid"), headers


def test_only_post_and_get_are_taken(app, message):
    for method in ("PUT", "PATCH", "DELETE"):
        assert app.test_client().open(path_of(message["id"]), method=method).status_code == 405

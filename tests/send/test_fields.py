"""Every field of a message: what is taken, what is refused, and by which pointer."""

import json

import pytest

from smsapi.messages.models import messages
from tests.support.api import TO
from tests.support.far_side import count_rows

_DLT = {"entity_id": "110100001", "template_id": "1107", "template_category": "transactional"}
_NOT_TEXT = (7, 1.5, True, [], ["x"], {}, {"a": 1})

_BAD = {
    "to": [
        *(*_NOT_TEXT, None, "", " "),
        *("14155550123", "+1", "+1415 5550123", "+14155550123 x", "+1 415 555 0123", "+1415555012", "+141555501234"),
        *("+04155550123", "+9991234567", f"+{'1' * 16}", "+1415555012٣", "+4402079460000", "tel:+14155550123"),
        *("+14155550123<+14155550124", "+14155550123\x00", "x" * 100_000),
    ],
    "text": [
        *_NOT_TEXT,
        None,
        "",
        " ",
        "\n",
        "\x00",
        "a\tb",
        "\x1b[0m",
        "\x7f",
        "\x85",
        "a\x0bb",
        "a\x0cb",
        "x" * 100_001,
    ],
    "from": [
        *(*_NOT_TEXT, "", " ", "ABCDEFGHIJKL", "AC ME", "Äcme", "12", "123456789", "+1", "14155550100", "ac\nme"),
        *("+14155550100\x00", "A-B", "..."),
    ],
    "expires_in": [4, 10_800, 0, -5, 5.0, "60", True, [], {}, 10**18],
    "max_segments": [0, -1, 1001, 1.0, "1", True, [], {}],
    "max_price": [
        *("-1", "1e3", "0.0000001", ".5", "5.", "1,5", "٣", "NaN", "Infinity", "", " 1", "+1", "1234567"),
        *(1e-7, 10**7, 1e15, -1, True, [], {}, 18_446_744_073_709_551_615),
    ],
    "smart_encoding": ["true", "yes", 0, 1, [], {}],
    "category": ["Transactional", "promo", "otp ", "", *_NOT_TEXT],
    "reference": ["", "x" * 256, "a\x00b", "a\nb", "\x9f", *_NOT_TEXT],
    "metadata": [{str(number): "v" for number in range(21)}, [], "x", 1, [["a", "b"]]],
    "dlt": [[], "x", 1, True],
}
SENDERS = ["+14155550100", "ACME", "A", "ABCDEFGHIJ1", "123", "12345678", "1A"]
# What is no field is not ignored as if it had been done.
_NOT_YET = (
    "priority",
    "batch_id",
    "to_number",
    "From",
    "callback_url",
    "value",
    "key",
    "_schema",
    "a/b~c",
)


@pytest.fixture
def database_url(postgres_url):
    """The stricter of the two stores: it has types, and takes no NUL."""
    return postgres_url


@pytest.fixture
def sender(make_app, make_caller):
    app = make_app(limit_number="9999 per minute", limit_send="9999 per minute")
    return make_caller(app, mode="test", allowed_senders=SENDERS)


def _pointers(response):
    assert response.status_code == 422, response.get_data(as_text=True)[:300]
    problem = response.get_json()
    assert problem["code"] == "validation_failed"
    assert all(each["message"] for each in problem["errors"])
    return [each["pointer"] for each in problem["errors"]]


def _body(**fields):
    return {"to": TO, "text": "Hello", **fields}


def test_a_number_and_a_text_are_enough(sender):
    message = sender.post("/v1/messages", {"to": TO, "text": "x"}).get_json()
    assert message["category"] == "transactional"
    assert message["test"] is True
    unset = ("reference", "batch_id", "send_at", "delivered_at", "error", "price")
    assert {name: message[name] for name in unset} == dict.fromkeys(unset)
    assert message["metadata"] == {}


def test_a_bad_value_is_named_by_its_pointer_and_nothing_is_stored(sender):
    for field, value in ((field, value) for field, values in _BAD.items() for value in values):
        pointers = _pointers(sender.post("/v1/messages", _body(**{field: value})))
        assert pointers == [f"/{field}"], (field, value)
    assert count_rows(sender.app.extensions["smsapi"].database, "messages") == 0


def test_a_price_limit_is_read_however_json_writes_the_number(sender):
    headers = {"X-API-Key": sender.key, "Content-Type": "application/json"}
    for number in ("0.00001", "1e-06", "1E-5", "0.05", "1", "1e3", '"0.00001"'):
        body = f'{{"to": "{TO}", "text": "Hello", "max_price": {number}}}'
        answer = sender.app.test_client().post("/v1/messages/preview", data=body, headers=headers)
        # There is no price list here: a limit that was understood is one that cannot be kept.
        assert answer.status_code == 200, (number, answer.text)
        (refusal,) = answer.get_json()["refusals"]
        assert (refusal["code"], refusal["title"]) == ("price_too_high", "The price limit cannot be kept")


def test_a_missing_field_is_named(sender):
    assert _pointers(sender.post("/v1/messages", {"text": "x"})) == ["/to"]
    assert _pointers(sender.post("/v1/messages", {"to": TO})) == ["/text"]


def test_every_bad_field_is_named_at_once(sender):
    body = {"to": "1", "text": "", "category": "x", "colour": "red"}
    assert _pointers(sender.post("/v1/messages", body)) == ["/category", "/colour", "/text", "/to"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/preview"])
def test_a_field_that_is_not_known_is_refused_under_its_own_name(sender, path):
    for name in _NOT_YET:
        expected = "/" + name.replace("~", "~0").replace("/", "~1")
        assert _pointers(sender.post(path, _body(**{name: "x"}))) == [expected]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/preview"])
def test_a_query_parameter_is_refused_and_not_ignored(sender, path):
    assert _pointers(sender.post(f"{path}?send_at=2030-01-01T00:00:00Z", _body())) == ["/send_at"]
    assert _pointers(sender.post(f"{path}?to=%2B14155550123&to=x", _body())) == ["/to"]
    assert count_rows(sender.app.extensions["smsapi"].database, "messages") == 0


def test_a_body_that_is_no_object_is_named_as_a_whole(sender):
    headers = {"X-API-Key": sender.key, "Content-Type": "application/json"}
    for body in ([], [{"to": TO, "text": "x"}], "x", 1, True, None):
        answer = sender.app.test_client().post("/v1/messages", data=json.dumps(body), headers=headers)
        assert _pointers(answer) == [""], body


def test_a_bad_pair_of_metadata_is_named_by_its_key(sender):
    for metadata, pointer in (
        ({"": "v"}, "/metadata/"),
        ({"k" * 65: "v"}, f"/metadata/{'k' * 65}"),
        ({"a\x00": "v"}, "/metadata/a\x00"),
        ({"order": 7}, "/metadata/order"),
        ({"order": None}, "/metadata/order"),
        ({"order": {"id": "7"}}, "/metadata/order"),
        ({"order": "x" * 513}, "/metadata/order"),
        ({"order": "\x00"}, "/metadata/order"),
        ({"a/b~c": 1}, "/metadata/a~1b~0c"),
        ({"value": 1}, "/metadata/value"),
        ({"key": 1}, "/metadata/key"),
        ({"key": 1, "value": "fine"}, "/metadata/key"),
        ({"_schema": 1}, "/metadata/_schema"),
    ):
        assert _pointers(sender.post("/v1/messages", _body(metadata=metadata))) == [pointer], metadata


def test_a_bad_part_of_dlt_is_named(sender):
    for dlt, pointers in (
        ({}, ["/dlt/entity_id", "/dlt/template_category", "/dlt/template_id"]),
        ({**_DLT, "template_category": "marketing"}, ["/dlt/template_category"]),
        ({**_DLT, "entity_id": 1}, ["/dlt/entity_id"]),
        ({**_DLT, "template_id": "x" * 65}, ["/dlt/template_id"]),
        ({**_DLT, "value": "x"}, ["/dlt/value"]),
        ({**_DLT, "sender": "x"}, ["/dlt/sender"]),
    ):
        assert _pointers(sender.post("/v1/messages", _body(dlt=dlt))) == pointers, dlt


def test_a_refusal_of_a_hundred_thousand_fields_is_no_larger_than_it_needs_to_be(sender):
    answer = sender.post("/v1/messages", _body(**{f"f{number}": 1 for number in range(50_000)}))
    assert len(_pointers(answer)) == 100
    assert {each["message"] for each in answer.get_json()["errors"]} == {"Unknown field."}
    assert len(answer.data) < 20_000


def test_too_many_unknown_fields_are_refused_before_the_others_are_looked_at(sender):
    # Naming them all would cost most of a second; /to stands before them wherever it is looked at.
    few = _pointers(sender.post("/v1/messages", {"to": "x", **{f"z{number}": 1 for number in range(20)}}))
    many = _pointers(sender.post("/v1/messages", {"to": "x", **{f"z{number}": 1 for number in range(70_000)}}))
    assert "/to" in few
    assert "/to" not in many
    assert len(many) == 100


def test_what_is_given_is_what_is_kept(sender):
    body = _body(
        text="Zeile\r\nzwei ☃",
        expires_in=10_799,
        max_segments=1000,
        smart_encoding=False,
        category="otp",
        reference="ref " + "x" * 251,
        metadata={"k" * 64: "v" * 512, "leer": "", "ключ": "значение 🎉"},
        dlt=_DLT,
    )
    taken = sender.post("/v1/messages", body)
    assert taken.status_code == 201
    message = sender.message(taken.get_json()["id"])
    kept = ("to", "text", "category", "reference", "metadata")
    assert {name: message[name] for name in kept} == {name: body[name] for name in kept}
    assert message["encoding"] == "ucs2"


def test_the_widest_of_each_field_is_taken(sender):
    edges = [
        {"expires_in": 5},
        {"max_segments": 1},
        {"from": "A"},
        {"from": "ABCDEFGHIJ1", "to": "+447400123456"},
        {"from": "123"},
        {"from": "12345678"},
        {"metadata": {str(number): "v" for number in range(20)}},
        {"category": "marketing"},
        {"to": "+33612345678", "from": "1A"},
        {"text": "\n."},
    ]
    taken = {}
    for fields in edges:
        body = _body(**({"to": "+447400123456"} | fields))
        taken[repr(fields)] = sender.post("/v1/messages", body).status_code
    assert set(taken.values()) == {201}, taken


def test_plivo_gets_the_fields_that_are_its_own(make_app, make_caller, simulator):
    caller = make_caller(make_app())
    sent = caller.send(to="+919812345678", text="Hi", sender="+14155550100", expires_in=600, dlt=_DLT)
    assert sent.status_code == 201
    (taken,) = simulator.store.taken()
    assert (taken.to, taken.sender, taken.text) == ("919812345678", "14155550100", "Hi")
    with caller.app.extensions["smsapi"].database.read() as connection:
        assert connection.execute(messages.select()).one().dlt == _DLT

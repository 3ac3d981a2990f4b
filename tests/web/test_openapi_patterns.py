"""Patterns of openapi.yaml, each held against what the code takes: neither is stricter than the other."""

import re

import pytest
from marshmallow import ValidationError

from smsapi.clock import read_rfc3339
from smsapi.errors import IdempotencyKeyInvalid
from smsapi.ids import read_id
from smsapi.sms.phone import InvalidNumber, parse_number
from smsapi.sms.sender import InvalidSender, classify_sender
from smsapi.sms.text import is_blank
from smsapi.web.fields import no_control_characters
from smsapi.web.idempotency import read_key
from tests.support.contract import spec

HEX = "0123456789abcdef" * 2
STRANGE = [
    "",
    " ",
    "\n",
    "\0",
    "é",
    "\u0663",
    "\x7f",
    "\x85",
    "\u2028",
    '"',
    '""',
    "'",
    "%",
    "A",
    "a1",
    "12",
    "123456789",
]
WRITTEN = [
    *(HEX, HEX.upper(), HEX[:-1], f"{HEX}0", f"{HEX}\n", f" {HEX}", HEX.replace("0", "\u0660"), f"{HEX[:8]}-{HEX[8:]}"),
    *("+14155550123", "14155550123", "+14155550123\n", "+1 415 555 0123", "+04155550123", "+1", "+1415555012345678"),
    *(
        "+1415555012\u0663",
        "004915112345678",
        "ACME",
        "ACME Shop",
        "ACMEACMEACM",
        "ACMEACMEACME",
        "12345",
        "12345A",
        "+ACME",
    ),
    *("x" * 255, "x" * 256, f'"{"x" * 255}"', f'"{"x" * 256}"', '"x', 'x"', "a b", "tab\t"),
]


def takes(read, *errors):
    """Return a function that says whether the code reads a text."""

    def does(text):
        try:
            return read(text) is not None
        except errors:
            return False

    return does


def in_document(pattern, text):
    # ECMA 262's dollar is the very end, Python's is before a last line end too.
    return re.search(pattern.replace("$", r"\Z"), text) is not None


def path_parameters():
    found = {}
    for methods in spec()["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                if "pattern" in parameter["schema"] and parameter["in"] in {"path", "header"}:
                    found[parameter["name"]] = parameter["schema"]
    return found


def test_ids_in_paths_are_what_the_code_reads():
    ids = {name: schema["pattern"] for name, schema in path_parameters().items() if name.endswith("_id")}
    assert len(ids) >= 8
    for name, pattern in ids.items():
        prefix = pattern[1:4]
        for text in [*STRANGE, *WRITTEN, *(f"{prefix}_{each}" for each in (*STRANGE, *WRITTEN)), f"xyz_{HEX}"]:
            assert in_document(pattern, text) == (read_id(prefix, text) is not None), (name, text)


def test_a_number_that_the_code_reads_is_one_by_the_document():
    pattern, read = path_parameters()["number"]["pattern"], takes(parse_number, InvalidNumber)
    assert in_document(pattern, "+14155550123")
    for text in [*STRANGE, *WRITTEN]:
        # A country's plan says more than a pattern can.
        assert in_document(pattern, text) or not read(text), text


def test_an_idempotency_key_is_what_the_code_reads():
    schema = path_parameters()["Idempotency-Key"]
    read = takes(read_key, IdempotencyKeyInvalid)
    # White space at its ends is no part of a header's value.
    for text in (each for each in (*STRANGE, *WRITTEN) if each == each.strip()):
        matches = in_document(schema["pattern"], text) and len(text) <= schema["maxLength"]
        assert matches == read(text), text


@pytest.mark.parametrize("where", ["query", "Order", "BatchOrder", "ClientOrder", "ClientPatch"])
def test_a_sender_is_what_the_code_reads(where):
    if where == "query":
        operation = spec()["paths"]["/v1/batches"]["post"]
        schema = next(each["schema"] for each in operation["parameters"] if each["name"] == "from")
    else:
        properties = spec()["components"]["schemas"][where]["properties"]
        schema = properties.get("from") or properties["default_sender"]
    read = takes(classify_sender, InvalidSender)
    for text in (*STRANGE, *WRITTEN):
        assert in_document(schema["pattern"], text) or not read(text), text
        if in_document(schema["pattern"], text) and not text.startswith("+"):
            assert read(text), text


def test_a_line_is_what_the_code_reads():
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"
    assert spec()["components"]["schemas"]["Order"]["properties"]["reference"]["pattern"] == pattern
    for number in range(0x200):
        try:
            no_control_characters(chr(number))
            taken = True
        except ValidationError:
            taken = False
        assert in_document(pattern, chr(number)) == taken, number


def test_a_time_is_what_the_code_reads():
    pattern = spec()["components"]["schemas"]["Order"]["properties"]["send_at"]["pattern"]
    known = (*("T18:00:00Z", "t18:00:00z", "T18:00:00.123456789+23:59", "T00:00:00-00:00"),)
    strange = ("T18:00Z", "T18:00:00", " 18:00:00Z", "T24:00:00Z", "T18:00:60Z", "T18:00:00+24:00", "T18:00:00,1Z")
    read = takes(read_rfc3339, ValueError)
    for text in [*(f"2026-12-24{each}" for each in (*known, *strange)), *STRANGE, *WRITTEN, "2026-W52-4T18:00:00Z"]:
        assert in_document(pattern, text) == read(text), text
    # Which days a month has is more than a pattern can say.
    assert in_document(pattern, "2026-02-30T00:00:00Z")
    assert not read("2026-02-30T00:00:00Z")


def test_a_text_that_shows_nothing_is_none_by_the_document():
    pattern = spec()["components"]["schemas"]["Order"]["properties"]["text"]["pattern"]
    for number in (*range(0x0A, 0xD800), *range(0xE000, 0x10000)):
        character = chr(number)
        if in_document(pattern, character) == is_blank(character):
            assert number < 0xA0, hex(number)


def test_every_operation_says_what_the_server_answers_before_it():
    for path, methods in spec()["paths"].items():
        for method, operation in methods.items():
            assert {"405", "414", "431"} <= operation["responses"].keys(), (method, path)
            assert "requestBody" not in operation or "408" in operation["responses"], (method, path)

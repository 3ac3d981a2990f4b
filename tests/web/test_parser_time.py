"""No text of a caller's holds a process up: each parser is done in a time that hardly grows faster than its input.

Times are those of this thread alone, so that a busy machine changes nothing.
"""

import time
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from marshmallow import ValidationError
from orjson import dumps

from smsapi.auth.secrets import read_key as read_api_key
from smsapi.auth.secrets import read_key_parts
from smsapi.auth.tokens import read_token
from smsapi.batches.reading import CsvRows, JsonLines
from smsapi.batches.template import read_template
from smsapi.errors import SmsapiError
from smsapi.inbound.reading import read_address
from smsapi.log import mask_numbers
from smsapi.optouts.files import read_csv
from smsapi.optouts.words import read_text
from smsapi.plivo.answers import retry_after_seconds
from smsapi.settings import Settings
from smsapi.sms.encoding import measure, smart_encode
from smsapi.sms.phone import parse_number
from smsapi.sms.sender import classify_sender
from smsapi.sms.text import is_blank, plain_name
from smsapi.web.fields import Moment
from smsapi.web.idempotency import read_key
from smsapi.web.pagination import read_cursor
from smsapi.web.prefer import read_prefer
from smsapi.webhooks.addresses import check_url
from tests.support.contract import spec

LONGEST = 16 * 1024
SECONDS = 2.0
PIECES = (
    *("1 per minute;", "1/1 per minute,", "1 ", " ", "\t", "per", "0", "9", "a", "A.", "-", "+1", "=", '"', "\\", ","),
    *(";", "a=", '"a",', "{{", "{{a}}", "}}", "{", "https://", "a.", ":", "@", "[", "/", "%", "eyJ.", "_", "smsk_"),
    *("\n", "\r\n", "T", "2030-01-01", "é", "☃", "\u0301", "\u200d", "stop ", "STOP", "1.", "::", "10.0.0.0/8,"),
    *("\u0301\u0316", "\u200b", "\u3000", "$t0", "|", "'"),
)
STARTS = (
    "",
    "number\n",
    "to,",
    "number,reason\n",
    "https://a",
    "1 per minute",
    "wait=",
    "+",
    "smsk_live_",
    "2030-01-01T",
)
SETTINGS = {field.metadata["name"]: field.metadata["parse"] for field in fields(Settings)}
PARSERS = {
    "Prefer": read_prefer,
    "Retry-After": lambda text: retry_after_seconds(text, now=datetime.now(UTC)),
    "number": parse_number,
    "strict number": lambda text: parse_number(text, strict=True),
    "sender": classify_sender,
    "template": read_template,
    "CSV": lambda text: read_csv(text.encode()),
    "CSV of a batch": lambda text: list(CsvRows([text.encode()])),
    "line of JSON": lambda text: list(JsonLines([dumps({"to": text, "vars": {text: text}})])),
    "name": plain_name,
    "blank": is_blank,
    "address": read_address,
    "cursor": read_cursor,
    "Idempotency-Key": read_key,
    "API key": read_api_key,
    "Basic id": lambda text: read_key_parts(text, "x"),
    "Basic secret": lambda text: read_key_parts(f"key_{'0' * 32}", text),
    "webhook URL": lambda text: check_url(text, ()),
    "moment": Moment().deserialize,
    "opt-out words": read_text,
    "text": measure,
    "smart text": smart_encode,
    "log line": mask_numbers,
    **SETTINGS,
}


def seconds_of(parse, text):
    began = time.thread_time()
    with suppress(ValueError, SmsapiError, ValidationError, RecursionError):
        parse(text)
    return time.thread_time() - began


@pytest.mark.parametrize("name", PARSERS)
def test_a_long_text_takes_a_parser_no_time_to_speak_of(name):
    for start in STARTS:
        for piece in PIECES:
            text = (start + piece * LONGEST)[:LONGEST]
            for hostile in (text, text[:255], text + "!", text[:200] + "!"):
                assert seconds_of(PARSERS[name], hostile) < SECONDS, (name, start, piece, len(hostile))


def test_a_header_of_very_many_columns_takes_no_time_to_speak_of():
    names = [chr(0x4E00 + number) for number in range(31_000)]
    header = "to," + ",".join(names[:15_000]) + ',"\n",' + ",".join(names[15_000:])
    for text in (header, header + "\n+14155550123", ",".join(["to", *names])[:60_000]):
        assert seconds_of(PARSERS["CSV of a batch"], text) < SECONDS


def test_short_rows_take_the_time_of_their_cells_and_not_of_the_columns():
    header = ",".join(["to", *(f"column-{number}" for number in range(999))])
    assert seconds_of(PARSERS["CSV of a batch"], header + "\n" + "a\n" * 40_000) < SECONDS


def test_a_token_of_any_form_is_read_in_no_time(app):
    with app.test_request_context():
        for piece in PIECES:
            text = (piece * LONGEST)[:LONGEST]
            assert seconds_of(lambda value: read_token(value, datetime.now(UTC)), text) < SECONDS, piece


def test_limits_that_nearly_match_are_refused_at_once_through_the_front_door(caller):
    limits = {"limits": {"send": "1 per minute;" * 11 + "1 per minute!"}}
    began = time.thread_time()
    answer = caller.request("PATCH", f"/v1/clients/{caller.client_id}", limits)
    assert time.thread_time() - began < SECONDS
    assert [error["pointer"] for error in answer.get_json()["errors"]] == ["/limits/send"]


@pytest.mark.parametrize(
    "text", ["5 per minute", "5/minute", "5 per 2 hours; 10/day", " 5 PER minute |7 per 1 year, 1/second ", "0 per day"]
)
def test_what_the_notation_allows_is_taken(text):
    assert SETTINGS["SMSAPI_LIMIT_SEND"](text) == text


@pytest.mark.parametrize(
    "text",
    ["", ";", "5 per minute;", "5 per", "per minute", "5 per 0 minutes", "5 per 2 years", "-1 per day", "5 per x"],
)
def test_what_it_does_not_is_refused(text):
    with pytest.raises(ValueError, match="must be limits"):
        SETTINGS["SMSAPI_LIMIT_SEND"](text)


def resolved(schema):
    while "$ref" in schema:
        kind, name = schema["$ref"].split("/")[-2:]
        schema = spec()["components"][kind][name]
    return schema


def many_of():
    """Yield each operation with a list or an object of any names in its body, and the name of that."""
    for path, item in spec()["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
            schema = resolved(content.get("application/json", {}).get("schema", {}))
            for name, rule in schema.get("properties", {}).items():
                kinds = resolved(rule).get("type", ())
                if "array" in kinds or ("object" in kinds and "additionalProperties" in rule):
                    yield method.upper(), path, name, "array" in kinds


@pytest.fixture
def database_url(sqlite_url):
    """What is asked here never gets as far as a store."""
    return sqlite_url


def test_a_list_is_measured_before_its_items_in_every_body(caller):
    found = list(many_of())
    assert {name for _, _, name, _ in found} >= {"events", "scopes", "allowed_senders", "metadata", "recipients"}
    for method, path, name, is_list in found:
        value = ["x"] * 200_000 if is_list else {f"x{place}": "x" for place in range(60_000)}
        began = time.thread_time()
        answer = caller.request(method, path.replace("{", "").replace("}", ""), {name: value})
        assert time.thread_time() - began < SECONDS, (method, path, name)
        assert answer.status_code in {404, 413, 422}, answer.text
        assert len(answer.data) < 10_000, (path, name)

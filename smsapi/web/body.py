"""Reading what came in: JSON that is what it seems, and Marshmallow's complaints as pointers."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import orjson
from flask import g, request
from marshmallow import Schema, ValidationError, fields
from werkzeug.exceptions import RequestEntityTooLarge

from smsapi.errors import FieldError, InvalidInput, MalformedRequest, UnsupportedMediaType
from smsapi.sms.text import without_mark
from smsapi.web.fields import JsonText
from smsapi.web.operations import current_operation

_T = TypeVar("_T")
_MAX_DEPTH = 32
# As many as anybody reads; a megabyte of unknown fields would otherwise be answered with seven.
_MAX_ERRORS = 100
# Of a route that asks for no login; a key, or a token, is a few hundred bytes.
MAX_PUBLIC_BYTES = 16 * 1024
_UNKNOWN = "Unknown field."


def read_json() -> Any:
    """Return the JSON value of the request's body; the work is done once a request.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON in UTF-8.
        MalformedRequest: it is not JSON, or JSON that two readers could understand differently.
        RequestEntityTooLarge: it is longer than this route takes, from a stranger less than from a client.

    """
    if "json" not in g:
        g.json = _parse_json()
    return g.json


def _parse_json() -> Any:
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMediaType("The body must be JSON: send Content-Type: application/json.")
    refuse_other_charsets()
    if (request.content_encoding or "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
    called = current_operation()
    if called is not None and called.public is not None:
        request.max_content_length = MAX_PUBLIC_BYTES
    raw = request.get_data(cache=True)
    _refuse_a_cut_body(raw)
    raw = without_mark(raw)
    try:
        # orjson refuses NaN, lone surrogates and other encodings; the second reading finds what it lets pass.
        value = orjson.loads(raw)
        json.loads(raw, object_pairs_hook=_without_duplicates, parse_int=_bounded_int)
        if _depth_exceeds(value, _MAX_DEPTH):
            raise MalformedRequest(f"The JSON is nested more than {_MAX_DEPTH} deep.")
    except RecursionError:
        raise MalformedRequest(f"The JSON is nested more than {_MAX_DEPTH} deep.") from None
    except ValueError as error:
        reason = str(error) if isinstance(error, _Rejected) else "The body is not valid JSON in UTF-8."
        raise MalformedRequest(reason) from None
    return value


def read_raw_body() -> bytes:
    """Return the request's body as it came, of whatever type the route takes; who reads it tells what is not UTF-8.

    Raises:
        UnsupportedMediaType: it is compressed, or declared in another encoding than UTF-8.
        RequestEntityTooLarge: it is longer than is read.

    """
    refuse_other_charsets()
    if (request.content_encoding or "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
    raw = request.get_data(cache=True)
    _refuse_a_cut_body(raw)
    return raw


def refuse_other_charsets() -> None:
    """Raise UnsupportedMediaType where the request's body is declared in another encoding than UTF-8."""
    if request.mimetype_params.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType("The body must be in UTF-8.")


def _refuse_a_cut_body(raw: bytes) -> None:
    # Of a body that comes in chunks, without a length, Werkzeug reads as much as is allowed and drops the rest in
    # silence: what was kept may be good JSON that says something else.
    if len(raw) != request.max_content_length or request.content_length is not None:
        return
    if "rest_of_body" not in g:
        g.rest_of_body = request.environ["wsgi.input"].read(1)
    if g.rest_of_body:
        raise RequestEntityTooLarge


class _Rejected(ValueError):
    """Valid JSON by the letter that we do not take; its text is for the caller."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Rejected("An object in the body names the same key twice.")
    return found


def _bounded_int(digits: str) -> int:
    if len(digits) > 20:  # noqa: PLR2004 - a 64-bit integer has at most 20 characters
        raise _Rejected("A number in the body is too large.")
    return int(digits)


def _depth_exceeds(value: Any, limit: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    if limit == 0:
        return True
    return any(_depth_exceeds(item, limit - 1) for item in (value.values() if isinstance(value, dict) else value))


def load_optional_body(schema: Schema, made: type[_T]) -> _T:
    """Return the body as the schema makes it; no body at all is an empty object. Raises as :func:`load_body` does."""
    _refuse_query()
    return load(schema, read_json() if request.get_data(cache=True) else {}, made)


def load_body(schema: Schema, made: type[_T]) -> _T:
    """Return the body as the schema makes it.

    Raises:
        InvalidInput: the JSON breaks the schema, and each broken rule has a pointer; or there is a query beside it,
            which would otherwise be ignored.

    """
    _refuse_query()
    return load(schema, read_json(), made)


def load_query(schema: Schema, made: type[_T]) -> _T:
    """Return the query as the schema makes it; a parameter given twice is refused, not chosen from.

    Raises:
        InvalidInput: a parameter is unknown, repeated or breaks its rule.
        MalformedRequest: the query is not in UTF-8.

    """
    values: dict[str, str] = {}
    for name, given in _query():
        if len(given) > 1:
            raise InvalidInput.at(f"/{_escaped(name)}", "Given more than once.")
        values[name] = given[0]
    return load(schema, values, made)


def _query() -> list[tuple[str, list[str]]]:
    try:
        # Werkzeug fails on raw bytes that are not UTF-8, and leaves encoded ones as they are.
        unquote_to_bytes(request.query_string).decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The query is not in UTF-8.") from None
    return list(request.args.lists())


def _refuse_query() -> None:
    if request.query_string and (unknown := [FieldError(f"/{_escaped(name)}", _UNKNOWN) for name, _ in _query()]):
        raise InvalidInput(unknown[:_MAX_ERRORS])


def load(schema: Schema, value: Any, made: type[_T]) -> _T:
    """Return the value as the schema makes it, or raise :class:`InvalidInput`."""
    _refuse_a_flood(schema, value)
    try:
        loaded = schema.load(value)
    except ValidationError as error:
        # In an order of their own: Marshmallow names unknown fields in another one on each run.
        errors = sorted(_flatten(error.messages, schema), key=lambda each: each.pointer)
        raise InvalidInput(errors[:_MAX_ERRORS]) from None
    if not isinstance(loaded, made):
        raise TypeError(f"{type(schema).__name__} makes {type(loaded).__name__}, not {made.__name__}")
    return loaded


def _refuse_a_flood(schema: Schema, value: Any) -> None:
    # Of a few unknown names Marshmallow tells, beside all else that is wrong; for a megabyte of them it would take most
    # of a second, and no more than these would be shown.
    if not isinstance(value, Mapping):
        return
    known = {field.data_key or name for name, field in schema.load_fields.items()}
    unknown = list(islice((name for name in value if name not in known), _MAX_ERRORS))
    if len(unknown) == _MAX_ERRORS:
        errors = [FieldError(f"/{_escaped(name)}", _UNKNOWN) for name in unknown]
        raise InvalidInput(sorted(errors, key=lambda each: each.pointer))


def _flatten(found: Any, rule: Schema | fields.Field[Any] | None, path: str = "") -> Iterator[FieldError]:
    """Yield each message with its pointer; only the rule tells Marshmallow's own keys from a caller's."""
    if not isinstance(found, Mapping):
        yield from (FieldError(path, str(message)) for message in found)
        return
    for key, inner in found.items():
        here = f"{path}/{_escaped(str(key))}"
        if isinstance(rule, fields.Mapping):
            # Filed under "key" and "value", for both may be wrong; they are one pair to the caller.
            for part in inner.values():
                yield from _flatten(part, rule.value_field, here)
        else:
            is_of_the_whole = key == "_schema" and inner != [_UNKNOWN]
            yield from _flatten(inner, _rule_of(rule, key), path if is_of_the_whole else here)


def _rule_of(rule: Schema | fields.Field[Any] | None, key: Any) -> Schema | fields.Field[Any] | None:
    if isinstance(rule, fields.List):
        return rule.inner
    schema = rule.schema if isinstance(rule, fields.Nested) else rule
    if not isinstance(schema, Schema):
        return None
    found = next((field for name, field in schema.fields.items() if key == (field.data_key or name)), None)
    return found.inner if isinstance(found, JsonText) else found


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")

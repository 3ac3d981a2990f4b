"""Reading what came in: JSON that is what it seems, and Marshmallow's complaints as pointers."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from flask import g, request
from marshmallow import Schema, ValidationError

from smsapi.errors import FieldError, InvalidInput, MalformedRequest, UnsupportedMediaType

_T = TypeVar("_T")
_MAX_DEPTH = 32


def read_json() -> Any:
    """Return the JSON value of the request's body; the work is done once a request.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON in UTF-8.
        MalformedRequest: it is not JSON, or JSON that two readers could understand differently.

    """
    if "json" not in g:
        g.json = _parse_json()
    return g.json


def _parse_json() -> Any:
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMediaType("The body must be JSON: send Content-Type: application/json.")
    if request.mimetype_params.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType("The body must be in UTF-8.")
    if request.content_encoding not in {None, "identity"}:
        raise UnsupportedMediaType("The body must not be compressed.")
    raw = request.get_data(cache=True)
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
    return load(schema, read_json() if request.get_data(cache=True) else {}, made)


def load_body(schema: Schema, made: type[_T]) -> _T:
    """Return the body as the schema makes it.

    Raises:
        InvalidInput: the JSON breaks the schema; each broken rule has a pointer.

    """
    return load(schema, read_json(), made)


def load_query(schema: Schema, made: type[_T]) -> _T:
    """Return the query as the schema makes it; a parameter given twice is refused, not chosen from.

    Raises:
        InvalidInput: a parameter is unknown, repeated or breaks its rule.

    """
    values: dict[str, str] = {}
    for name, given in request.args.lists():
        if len(given) > 1:
            raise InvalidInput.at(f"/{name}", "Given more than once.")
        values[name] = given[0]
    return load(schema, values, made)


def load(schema: Schema, value: Any, made: type[_T]) -> _T:
    """Return the value as the schema makes it, or raise :class:`InvalidInput`."""
    try:
        loaded = schema.load(value)
    except ValidationError as error:
        raise InvalidInput(_flatten(_messages_of(error))) from None
    if not isinstance(loaded, made):
        raise TypeError(f"{type(schema).__name__} makes {type(loaded).__name__}, not {made.__name__}")
    return loaded


def _messages_of(error: ValidationError) -> Mapping[Any, Any]:
    messages = error.messages
    return messages if isinstance(messages, Mapping) else {"_schema": messages}


def _flatten(messages: Mapping[Any, Any], path: str = "") -> list[FieldError]:
    errors: list[FieldError] = []
    for key, value in messages.items():
        # Marshmallow files errors of the whole object under _schema, and of a mapping's items under key and value.
        here = path if key in {"_schema", "value", "key"} else f"{path}/{_escaped(str(key))}"
        if isinstance(value, Mapping):
            errors += _flatten(value, here)
        else:
            errors += [FieldError(here, str(message)) for message in value]
    return errors


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")

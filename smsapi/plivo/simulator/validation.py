"""What Plivo accepts of a send call, and the sentences in which it refuses."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from smsapi.plivo.simulator.units import Length, measure

MAXIMUM_DESTINATIONS = 1000

_NUMBER = re.compile(r"[1-9][0-9]{4,13}")
_DESTINATION_NOISE = re.compile(r"[/\-.+() ]")
_SOURCE_NOISE = re.compile(r"[^A-Za-z0-9]")
_LONGEST_NUMBER, _LONGEST_NAME = 14, 11
_LOG_VALUES = frozenset({"true", "false", "number_only", "content_only"})


class RefusedError(Exception):
    """Plivo answers 400 with this sentence."""


@dataclass(frozen=True, slots=True)
class SendCall:
    """A send call that Plivo takes: numbers cleaned of ``+`` and punctuation, each once, in the order given."""

    sender: str
    numbers: tuple[str, ...]
    invalid: tuple[str, ...]
    text: str
    length: Length
    url: str | None
    method: str
    log: str


def parse_send(body: bytes) -> SendCall:
    """Return the call in the JSON body.

    Raises RefusedError with Plivo's kind of sentence. A bad number among good ones is reported, not refused.
    """
    content = _parse_object(body)
    sender = _parse_source(content)
    text = _required(content, "text")
    numbers, invalid = _parse_destinations(_required(content, "dst"))
    if sender in numbers:
        raise RefusedError("src parameter is identical to dst parameter")
    length = measure(text)
    if length.is_too_long:
        kind = "characters" if length.is_gsm7 else "unicode characters"
        raise RefusedError(f"text parameter length exceeds {length.maximum} {kind}")
    if content.get("type", "sms") != "sms":
        raise RefusedError("type parameter is not valid: this simulator sends sms only")
    _check_expiry(content.get("message_expiry"))
    return SendCall(
        sender=sender,
        numbers=numbers,
        invalid=invalid,
        text=text,
        length=length,
        url=_parse_url(content.get("url")),
        method=_one_of(content, "method", "POST", frozenset({"GET", "POST"})),
        log=_one_of(content, "log", "true", _LOG_VALUES),
    )


def clean_number(number: str) -> str:
    """Return the number as Plivo keeps it: without ``+``, spaces and punctuation."""
    return _DESTINATION_NOISE.sub("", number)


def is_web_address(url: Any) -> bool:
    """Say whether a callback may go there: an http or https URL with a host."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError("request body is not valid JSON") from error
    if not isinstance(content, dict):
        raise RefusedError("request body is not a JSON object")
    return content


def _required(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not value:
        raise RefusedError(f"{name} parameter is required")
    return value


def _parse_source(content: dict[str, Any]) -> str:
    sender = _SOURCE_NOISE.sub("", _required(content, "src"))
    longest = _LONGEST_NUMBER if sender.isdigit() else _LONGEST_NAME
    if not 0 < len(sender) <= longest:
        raise RefusedError("src parameter is not valid")
    return sender


def _parse_destinations(destinations: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the valid numbers, each once, and the invalid ones as they were written."""
    numbers: dict[str, None] = {}
    invalid: dict[str, None] = {}
    for destination in destinations.split("<"):
        number = clean_number(destination)
        if _NUMBER.fullmatch(number):
            numbers[number] = None
        else:
            invalid[destination] = None
    if len(numbers) + len(invalid) > MAXIMUM_DESTINATIONS:
        raise RefusedError(f"dst parameter exceeds {MAXIMUM_DESTINATIONS} unique numbers")
    if not numbers:
        raise RefusedError(f"{destinations[:100]} is not a valid phone number")
    return tuple(numbers), tuple(invalid)


def _check_expiry(expiry: Any) -> None:
    # bool is an int to Python, not to Plivo; its SDK sends a number.
    if expiry is not None and not (type(expiry) is int and 5 <= expiry <= 10_799):  # noqa: PLR2004 - Plivo's bounds
        raise RefusedError("message_expiry parameter must be between 5 and 10799 seconds")


def _parse_url(url: Any) -> str | None:
    if url is None or url == "":
        return None
    if not is_web_address(url):
        raise RefusedError("url parameter is not a valid URL")
    return str(url)


def _one_of(content: dict[str, Any], name: str, default: str, allowed: frozenset[str]) -> str:
    value = content.get(name, default)
    if isinstance(value, bool):
        value = "true" if value else "false"
    if value not in allowed:
        raise RefusedError(f"{name} parameter is not valid")
    return str(value)

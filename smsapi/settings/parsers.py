"""The forms that a setting's value may have: each parser returns the value or raises ValueError with the rule."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from limits import parse_many
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError


def text(value: str) -> str:
    """Return the value as it is."""
    return value


def secret_of(minimum: int) -> Callable[[str], str]:
    """Return a parser of secrets with at least so many characters."""

    def parse(value: str) -> str:
        if len(value) < minimum:
            raise ValueError(f"must have at least {minimum} characters")
        return value

    return parse


def secrets(value: str) -> tuple[str, ...]:
    """Return the secrets of a list, each of 32 characters or more."""
    return tuple(secret_of(32)(part) for part in words(value))


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within both bounds."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]+", value, re.ASCII) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of seconds within both bounds."""

    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value, re.ASCII) or not low <= float(value) <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return float(value)

    return parse


def boolean(value: str) -> bool:
    """Return true or false from the usual words."""
    if value.lower() in {"1", "true", "yes", "on"}:
        return True
    if value.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("must be true or false")


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that takes one of these words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value.lower()

    return parse


def database_url(value: str) -> str:
    """Return the URL of a store that we support."""
    try:
        name = make_url(value).get_backend_name()
    except ArgumentError:
        name = ""
    if name not in {"sqlite", "postgresql"}:
        raise ValueError("must be a sqlite:///… or postgresql://… URL")
    return value


def url(*schemes: str) -> Callable[[str], str]:
    """Return a parser of URLs with one of these schemes."""

    def parse(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not (parts.netloc or parts.scheme == "unix"):
            raise ValueError(f"must be a URL that starts with {' or '.join(f'{s}://' for s in schemes)}")
        return value

    return parse


def origin(value: str) -> str:
    """Return an HTTP origin or base path without its trailing slash."""
    url("http", "https")(value)
    if urlsplit(value).query or urlsplit(value).fragment:
        raise ValueError("must have no query and no fragment")
    return value.rstrip("/")


def countries(value: str) -> tuple[str, ...]:
    """Return the ISO 3166 alpha-2 codes of a list, in capitals."""
    codes = tuple(code.upper() for code in words(value))
    if bad := [code for code in codes if not re.fullmatch(r"[A-Z]{2}", code, re.ASCII)]:
        raise ValueError(f"must be two-letter country codes, not {', '.join(bad)}")
    return codes


def limit_list(value: str) -> str:
    """Return limits in the notation of flask-limiter, checked."""
    try:
        parse_many(value)
    except ValueError:
        raise ValueError("must be limits such as 600 per minute; 10000 per day") from None
    return value


def plivo_auth_id(value: str) -> str:
    """Return Plivo's Auth ID."""
    # Plivo's SDK refuses anything else at construction (plivo 4.63, utils.is_valid_mainaccount).
    if not re.fullmatch(r"(MA|SA)[A-Z0-9]{18}", value, re.ASCII):
        raise ValueError("must be Plivo's Auth ID: MA or SA and 18 capitals or digits")
    return value


def bind_address(value: str) -> str:
    """Return HOST:PORT."""
    if not re.fullmatch(r"[^\s:]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}", value):
        raise ValueError("must be HOST:PORT")
    return value


def words(value: str) -> tuple[str, ...]:
    """Return the words of a list that is separated by commas or spaces."""
    return tuple(part for part in re.split(r"[,\s]+", value) if part)

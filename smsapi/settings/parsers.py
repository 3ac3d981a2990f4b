"""The forms that a setting's value may have: each parser returns the value or raises ValueError with the rule."""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from smsapi.settings.windows import read_windows
from smsapi.sms.phone import is_country, unwrap_number
from smsapi.sms.sender import InvalidSender, classify_sender

_MAX_PORT = 65535


def text(value: str) -> str:
    """Return the value as it is."""
    return value


def secret_of(minimum: int) -> Callable[[str], str]:
    """Return a parser of secrets with at least so many characters."""

    def parse(value: str) -> str:
        if len(value) < minimum:
            raise ValueError(f"must be {minimum} characters or more")
        return value

    return parse


def visible_secret_of(minimum: int) -> Callable[[str], str]:
    """Return a parser of secrets that travel in a header: visible ASCII, with at least so many characters."""

    def parse(value: str) -> str:
        if not re.fullmatch(r"[!-~]+", value) or len(value) < minimum:
            raise ValueError(f"must be {minimum} or more characters of visible ASCII, without spaces")
        return value

    return parse


def secrets(value: str) -> tuple[str, ...]:
    """Return the secrets of a list, each of 32 characters or more; they may have spaces, and no commas."""
    return tuple(secret_of(32)(part.strip()) for part in value.split(",") if part.strip())


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within both bounds."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value, re.ASCII) or not low <= int(value) <= high:
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


def rate(high: float) -> Callable[[str], float]:
    """Return a parser of rates up to this one: 0, or no less than one in a thousand units of time."""

    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value, re.ASCII) or not (
            float(value) == 0 or _LOWEST_RATE <= float(value) <= high
        ):
            raise ValueError(f"must be 0 or a number from {_LOWEST_RATE:g} to {high:g}")
        return float(value)

    return parse


_LOWEST_RATE = 0.001


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
        url = make_url(value)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        # SQLAlchemy's own words may repeat a part of the password.
        raise ValueError(_DATABASE_RULE) from None
    if backend == "sqlite" and url.drivername in {"sqlite", "sqlite+pysqlite"}:
        # In memory, each connection would have a store of its own.
        if url.database in {None, "", ":memory:"}:
            raise ValueError("must name a file: sqlite:///smsapi.db")
        return value
    if backend != "postgresql":
        raise ValueError(_DATABASE_RULE)
    return value


_DATABASE_RULE = "must be a sqlite:///… or postgresql://… URL"


def url(*schemes: str) -> Callable[[str], str]:
    """Return a parser of URLs with one of these schemes."""
    rule = f"must be a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}"

    def parse(value: str) -> str:
        parts = _split(value, rule)
        if parts.scheme not in schemes or not (parts.path if parts.scheme == "unix" else parts.hostname):
            raise ValueError(rule)
        return value

    return parse


def _split(value: str, rule: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        # The library's own words may repeat a part of a password.
        raise ValueError(rule) from None
    if re.search(r"[\x00-\x20\x7f]", value):
        raise ValueError(rule)
    return parts


def redis_url(value: str) -> str:
    """Return the URL of a Redis; its path, where there is one, is the number of a database."""
    url("redis", "rediss", "unix")(value)
    parts = urlsplit(value)
    if parts.scheme != "unix" and not re.fullmatch(r"(/[0-9]{0,4})?", parts.path, re.ASCII):
        raise ValueError("must end in the number of a database, such as redis://localhost:6379/0")
    return value


def broker_url(value: str) -> str:
    """Return the URL of what carries the hints between processes: a Redis, or RabbitMQ."""
    url("redis", "rediss", "amqp", "amqps")(value)
    return redis_url(value) if value.startswith("redis") else value


def base_url(value: str) -> str:
    """Return an HTTP origin, perhaps with a path, without its trailing slash."""
    url("http", "https")(value)
    parts = urlsplit(value)
    if parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise ValueError("must have no query, no fragment and no password")
    return value.rstrip("/")


def origin(value: str) -> str:
    """Return an HTTP origin without its trailing slash."""
    if urlsplit(base_url(value)).path:
        raise ValueError("must be an origin such as http://127.0.0.1:8099, without a path")
    return value.rstrip("/")


def sentry_dsn(value: str) -> str:
    """Return the address of a Sentry project: its key, its host, its number."""
    rule = "must be a Sentry DSN such as https://key@host/1"
    parts = _split(value, rule)
    if parts.scheme not in {"http", "https"} or not (parts.hostname and parts.username):
        raise ValueError(rule)
    if not re.fullmatch(r"(/[^/]+)*/[0-9]+", parts.path, re.ASCII):
        raise ValueError(rule)
    return value


def existing_file(value: str) -> Path:
    """Return the path of a file that is there."""
    try:
        is_there = "\0" not in value and Path(value).is_file()
    except OSError:  # the name is too long for a file, or its folder may not be looked into
        is_there = False
    if not is_there:
        raise ValueError("must be the name of a file that is there")
    return Path(value)


def sender(value: str) -> str:
    """Return what can be a sender: a number in E.164, a short code, or letters and digits."""
    try:
        return classify_sender(unwrap_number(value)).value
    except InvalidSender:
        raise ValueError("must be a number such as +14155550100, a short code, or 1 to 11 letters and digits") from None


def countries(value: str) -> tuple[str, ...]:
    """Return the ISO 3166 alpha-2 codes of a list, in capitals."""
    codes = tuple(code.upper() for code in words(value))
    if not all(is_country(code) for code in codes):
        raise ValueError("must be country codes of two letters (ISO 3166), such as US,GB")
    return codes


def limit_list(value: str) -> str:
    """Return limits in the notation of flask-limiter, which the limiter can count."""
    read_windows(value)
    return value


def plivo_auth_id(value: str) -> str:
    """Return Plivo's Auth ID."""
    # Plivo's SDK refuses anything else at construction (plivo 4.63, utils.is_valid_mainaccount).
    if not re.fullmatch(r"(MA|SA)[A-Z0-9]{18}", value, re.ASCII):
        raise ValueError("must be Plivo's Auth ID: MA or SA and 18 capitals or digits")
    return value


def bind_address(value: str) -> str:
    """Return HOST:PORT."""
    if not re.fullmatch(r"[^\s:]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}", value, re.ASCII) or (
        int(value.rpartition(":")[2]) > _MAX_PORT
    ):
        raise ValueError("must be HOST:PORT")
    return value


def words(value: str) -> tuple[str, ...]:
    """Return the words of a list that is separated by commas or spaces."""
    return tuple(part for part in re.split(r"[,\s]+", value) if part)


def port_ranges(value: str) -> tuple[tuple[int, int], ...]:
    """Return the ports of a list such as 443,8000-9999, as first and last of each range."""
    rule = "must be ports and ranges of them such as 443,80,8000-9999"
    found = []
    for part in words(value):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part, re.ASCII)
        if match is None:
            raise ValueError(rule)
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= _MAX_PORT:
            raise ValueError(rule)
        found.append((first, last))
    if not found:
        raise ValueError(rule)
    return tuple(found)


def networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks of a list such as 10.0.0.0/8,fd00::/8."""
    try:
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be networks such as 10.0.0.0/8,fd00::/8") from None

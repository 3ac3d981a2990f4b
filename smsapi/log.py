"""Logs: one JSON line an event on stderr, with request, client and message ids, and never a text or a whole number."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

_SECRET = re.compile(r"(secret|token|password|authorization|api_key|dsn|cookie)$", re.IGNORECASE)
_TEXT = frozenset({"text", "body", "content"})
_KEY = re.compile(r"smsk_(live|test)_([0-9a-f]{8})[0-9A-Za-z_]*")
# A run of digits as long as a phone number (E.164: up to 15), with its plus where it has one, outside hex ids.
_NUMBER = re.compile(r"(?<![0-9A-Za-z_.:-])\+?[1-9][0-9]{6,14}(?![0-9A-Za-z_.:-])")
_PLUS_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_REDACTED = "[redacted]"
_SHOWN_DIGITS = 2
_PREFIX_DIGITS = 4


def mask_numbers(text: str) -> str:
    """Return the text with each phone number reduced to its first digits and its last two, and keys cut short."""
    text = _KEY.sub(r"smsk_\1_\2…", text)
    return _NUMBER.sub(_masked, _PLUS_NUMBER.sub(_masked, text))


def _masked(match: re.Match[str]) -> str:
    number = match.group()
    stars = len(number) - _PREFIX_DIGITS - _SHOWN_DIGITS
    return f"{number[:_PREFIX_DIGITS]}{'*' * stars}{number[-_SHOWN_DIGITS:]}"


def scrub(value: Any, name: str = "") -> Any:
    """Return the value without secrets, texts and whole phone numbers, as logs and Sentry may hold it."""
    if _SECRET.search(name) or name in _TEXT:
        return _REDACTED
    if isinstance(value, str):
        return mask_numbers(value)
    if isinstance(value, dict):
        return {key: scrub(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item, name) for item in value]
    return value


def _scrub_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: scrub(value, key) for key, value in event.items()}


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=str).decode()


def _processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.StackInfoRenderer(),
        _scrub_event,
    ]


def configure_logging(level: str = "info") -> None:
    """Send our events, and those of the libraries, as JSON lines to stderr from this level up."""
    structlog.configure(
        processors=[*_processors(), _render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_processors()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak of connections and retries at info; ours is the level that was asked for.
    root.setLevel(max(logging.WARNING, getattr(logging, level.upper())))


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; event names are constant, the data are fields."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger

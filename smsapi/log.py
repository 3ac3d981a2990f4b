"""Logs: one JSON line an event on stderr, with request, client and message ids, and never a text or a whole number."""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import PurePath
from types import TracebackType
from typing import Any
from uuid import UUID

import orjson
import structlog

from smsapi.errors import SmsapiError
from smsapi.logsink import LogSink, count_dropped

ErrorListener = Callable[[BaseException], None]

_SECRET = re.compile(r"(secret|token|password|authorization|api[-_]?key|dsn|cookie|signature)$", re.IGNORECASE)
_TEXT = frozenset({"text", "body", "content", "data", "params"})
_KEY = re.compile(r"(smsk_(?:live|test)_[0-9a-f]{8}|smsk_)[0-9A-Za-z_]*")
_JWT = re.compile(r"eyJ[0-9A-Za-z_-]{6,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]*")
# A run of digits as long as a phone number (E.164: up to 15), with its plus where it has one, outside hex ids.
_NUMBER = re.compile(r"(?<![0-9A-Za-z_.:-])\+?[1-9][0-9]{6,14}(?![0-9A-Za-z_.:-])")
_PLUS_NUMBER = re.compile(r"(?:\+|%2[Bb])[1-9][0-9]{6,14}")
_REDACTED = "[redacted]"
_SHOWN_DIGITS = 2
_PREFIX_DIGITS = 4
_PLAIN = (bool, int, float, type(None))
_SHOWN_AS_TEXT = (UUID, Decimal, date, datetime, PurePath)

# Errors of the program, which name types, functions and attributes.
_SPEAK_OF_CODE = AttributeError | NameError | ImportError | TypeError


def mask_numbers(text: str) -> str:
    """Return the text with each phone number reduced to its first digits and its last two, and credentials cut."""
    text = _JWT.sub("eyJ…", _KEY.sub(r"\1…", text))
    return _NUMBER.sub(_masked, _PLUS_NUMBER.sub(_masked, text))


def _masked(match: re.Match[str]) -> str:
    number = match.group()
    stars = len(number) - _PREFIX_DIGITS - _SHOWN_DIGITS
    return f"{number[:_PREFIX_DIGITS]}{'*' * stars}{number[-_SHOWN_DIGITS:]}"


def scrub(value: Any, name: str = "") -> Any:
    """Return the value without secrets, texts and whole phone numbers, as logs and Sentry may hold it.

    Of an object that is no plain value only its type is left: what it would print is nobody's to foresee.
    """
    if _SECRET.search(name) or name in _TEXT:
        return _REDACTED
    if isinstance(value, str):
        return mask_numbers(value)
    if isinstance(value, dict):
        return {str(key): scrub(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [scrub(item, name) for item in value]
    if isinstance(value, _PLAIN):
        return value
    return mask_numbers(str(value)) if isinstance(value, _SHOWN_AS_TEXT) else f"<{type(value).__name__}>"


def reason_of(error: BaseException) -> str:
    """Return what may be shown of an exception: its type, and its sentence only where nobody's data can be in it.

    PostgreSQL quotes whole rows in its errors, and Python's own quote the value that they could not read.
    """
    kind = type(error).__name__
    if isinstance(error, SmsapiError | _SPEAK_OF_CODE):
        return f"{kind}: {mask_numbers(str(error))}"
    return f"{kind}: {error.strerror}" if isinstance(error, OSError) and error.strerror else kind


def trace_of(error: BaseException) -> str:
    """Return where an exception came from and what caused it, innermost cause first, without the exceptions' texts."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        parts.append(f"{''.join(traceback.format_tb(current.__traceback__))}{reason_of(current)}")
        hidden = current.__suppress_context__ or current.__cause__ is not None
        current = current.__cause__ if hidden else current.__context__
    return "\nwhich led to\n".join(reversed(parts))


def _exception_of(given: Any) -> BaseException | None:
    if isinstance(given, tuple):
        return next((part for part in given if isinstance(part, BaseException)), None)
    return given if isinstance(given, BaseException) else (sys.exc_info()[1] if given else None)


def _tell_errors(listener: ErrorListener | None) -> Any:
    def render_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        error = _exception_of(event.pop("exc_info", None))
        if error is not None:
            event["exception"] = trace_of(error)
            if listener is not None:
                with suppress(Exception):  # Sentry that fails takes no line from the log, and stops nobody
                    listener(error)
        return event

    return render_exception


def _scrub_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value if key.startswith("_") else scrub(value, key) for key, value in event.items()}


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    try:
        return orjson.dumps(event).decode()
    except TypeError:
        # Lone surrogates and integers beyond 64 bits are no JSON to orjson; a log line must never fail its request.
        return json.dumps(event)


def _processors(listener: ErrorListener | None) -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _tell_errors(listener),
        _scrub_event,
    ]


class _SinkHandler(logging.Handler):
    """The libraries' lines on the way to the sink. Python's own handlers print what fails, and may raise at that."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as one line; never raises."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a line that cannot be made is one that is dropped
            count_dropped(error)
        else:
            self._sink.write(line)


def _never_raising(level: str) -> Any:
    """Return structlog's logger of this level, of which no line raises, whatever is in it."""
    filtering: Any = structlog.make_filtering_bound_logger(level)

    def proxy_to_logger(self: Any, method_name: str, event: str | None = None, **fields: Any) -> None:
        try:
            filtering._proxy_to_logger(self, method_name, event, **fields)  # noqa: SLF001 - all lines pass here
        except Exception as error:  # noqa: BLE001 - a line that cannot be made is one that is dropped
            count_dropped(error)

    return type("NeverRaisingLogger", (filtering,), {"_proxy_to_logger": proxy_to_logger})


def configure_logging(level: str = "info", *, on_error: ErrorListener | None = None) -> None:
    """Send our events, and those of the libraries, as JSON lines to stderr from this level up.

    ``on_error`` is told of each exception that is logged. No line raises or blocks: one that cannot be written, or
    made, is dropped and counted (:mod:`smsapi.logsink`).
    """
    sink = LogSink(sys.stderr)
    structlog.configure(
        processors=[*_processors(on_error), _render],
        wrapper_class=_never_raising(level),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=True,
    )
    handler = _SinkHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_processors(on_error)],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak of connections and retries at info; ours is the level that was asked for.
    root.setLevel(max(logging.WARNING, getattr(logging, level.upper())))


def is_logging_configured() -> bool:
    """Say whether whoever runs in this process has said where our events go."""
    return structlog.is_configured()


def log_uncaught(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Log what nobody caught, in place of Python's own traceback, which shows the exception's text."""
    get_logger().error("uncaught", exc_info=error)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; event names are constant, the data are fields."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger

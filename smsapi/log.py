"""Logs: one JSON line an event on stderr, with request, client and message ids, and never a text or a whole number."""

import errno
import json
import logging
import os
import re
import socket
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from copy import copy
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

# The interpreter's own sentences about names, types and calls: the only ones of a foreign exception that are logged. A
# library may raise the same types with the value that it did not like, and a sentence that is not here is left out.
_OF_CODE = AttributeError | ImportError | NameError | TypeError
_N = r"""['"]?[A-Za-z_][\w.]{0,80}(?:\(\))?['"]?"""
_SENTENCES = re.compile(
    "|".join(
        (
            rf"(?:(?:module |type object )?{_N} (?:object )?has )?no attribute {_N}",
            rf"name {_N} is not defined",
            rf"cannot access (?:local|free) variable {_N} where it is not associated with a value(?: in \w+ scope)?",
            rf"No module named {_N}|cannot import name {_N} from {_N} \((?:/[^()]*|unknown location)\)",
            rf"{_N} object is not (?:callable|iterable|subscriptable|reversible|an iterator|a mapping)",
            rf"{_N} object (?:does not|doesn't) support (?:item (?:assignment|deletion)|the context manager protocol)",
            rf"(?:object|argument) of type {_N} (?:has no len\(\)|is not (?:a container or )?iterable)",
            rf"(?:cannot use {_N} as a (?:dict key|set element) \()?unhashable type: {_N}\)?",
            rf"cannot unpack non-iterable {_N} object",
            rf"{_N} missing \d+ required (?:positional|keyword-only) arguments?: '\w+'(?:(?:,|,? and) '\w+')*",
            rf"{_N} takes (?:no arguments|(?:from \d+ to )?\d+ positional arguments? but \d+ (?:was|were) given)",
            rf"{_N} got (?:an unexpected keyword|multiple values for) argument {_N}(?:\. Did you mean {_N}\?)?",
            rf"unsupported operand type\(s\) for [^\w\s]{{1,3}}: {_N} and {_N}",
            rf"'[^\w\s]{{1,2}}' not supported between instances of {_N} and {_N}",
            rf"can only concatenate {_N} \(not {_N}\) to {_N}",
            rf"{_N} argument must be a string(?:, a bytes-like object)? or a real number, not {_N}",
            rf"{_N} indices must be integers(?: or slices)?, not {_N}",
            r"can't (?:compare|subtract) offset-naive and offset-aware datetimes",
        )
    )
)
_OF_SYSTEM = frozenset(map(os.strerror, errno.errorcode))


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

    PostgreSQL quotes whole rows in its errors, and Python's own quote the value that they could not read. Nothing is
    raised, whatever the exception's ``__str__`` does.
    """
    kind = type(error).__name__
    sentence = _sentence_of(error)
    return f"{kind}: {mask_numbers(sentence)}" if sentence else kind


def _sentence_of(error: BaseException) -> str:
    if isinstance(error, OSError):
        known = isinstance(error, socket.gaierror | ssl.SSLError)
        return error.strerror if isinstance(error.strerror, str) and (known or error.strerror in _OF_SYSTEM) else ""
    with suppress(Exception):
        said = str(error)
        if isinstance(error, SmsapiError) or (isinstance(error, _OF_CODE) and _SENTENCES.fullmatch(said)):
            return said
    return ""


def trace_of(error: BaseException) -> str:
    """Return where an exception came from and what caused it, innermost cause first, without the exceptions' texts.

    Of the code only the place is told: a source line may be what somebody typed, with a number in it, and Python 3.13
    and newer quote whole statements, even of code that was given to the interpreter as a string.
    """
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        parts.append(f"{_places(current.__traceback__)}{reason_of(current)}")
        hidden = current.__suppress_context__ or current.__cause__ is not None
        current = current.__cause__ if hidden else current.__context__
    return "\nwhich led to\n".join(reversed(parts))


def _places(trace: TracebackType | None) -> str:
    at = [(frame.f_code.co_filename, line, frame.f_code.co_qualname, "") for frame, line in traceback.walk_tb(trace)]
    return "".join(traceback.format_list(at))


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
        """Write the record as one line, or, where none can be made of it, that there was one; never raises."""
        try:
            line = self.format(_without_sentences(record))
        except Exception as error:  # noqa: BLE001 - a line that cannot be made is one that is dropped
            count_dropped(error)
            get_logger().error("log_failed", logger=record.name, exc_info=error)
        else:
            self._sink.write(line)


def _without_sentences(record: logging.LogRecord) -> logging.LogRecord:
    """Return the record without what an exception says that it was given."""
    shown = copy(record)
    if isinstance(record.args, tuple):
        shown.args = tuple(reason_of(each) if isinstance(each, BaseException) else each for each in record.args)
    return shown


def _never_raising(level: str) -> Any:
    """Return structlog's logger of this level, of which no line raises, whatever is in it."""
    filtering: Any = structlog.make_filtering_bound_logger(level)

    def proxy_to_logger(self: Any, method_name: str, event: str | None = None, **fields: Any) -> None:
        try:
            filtering._proxy_to_logger(self, method_name, event, **fields)  # noqa: SLF001 - all lines pass here
        except Exception as error:  # noqa: BLE001 - a line that cannot be made is one that is dropped
            count_dropped(error)

    return type("NeverRaisingLogger", (filtering,), {"_proxy_to_logger": proxy_to_logger})


# One list for all of the process: a logger that was used before keeps it, and so follows when logging is configured
# again.
_chain: list[structlog.typing.Processor] = []


def configure_logging(level: str = "info", *, on_error: ErrorListener | None = None) -> None:
    """Send our events, and those of the libraries, as JSON lines to stderr from this level up.

    ``on_error`` is told of each exception that is logged. No line raises or blocks: one that cannot be written, or
    made, is dropped and counted (:mod:`smsapi.logsink`).
    """
    sink = LogSink(sys.stderr)
    _chain[:] = [*_processors(on_error), _render]
    structlog.configure(
        processors=_chain,
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


def log_all_uncaught() -> None:
    """Log what nobody catches in this process, on any thread, and what Python itself can only ignore."""
    sys.excepthook = log_uncaught
    threading.excepthook = lambda given: log_uncaught(
        given.exc_type, given.exc_value or given.exc_type(), given.exc_traceback
    )
    sys.unraisablehook = lambda given: log_uncaught(
        given.exc_type, given.exc_value or given.exc_type(), given.exc_traceback
    )


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; event names are constant, the data are fields."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger

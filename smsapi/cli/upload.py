"""The request of ``smsapi batch send``: what the file and the options make of it, and the command that repeats it."""

import hashlib
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlencode

import click
import orjson
from click.core import ParameterSource

from smsapi.batches.arriving import MOST_ON_THE_WIRE
from smsapi.cli.calling import Answer, Service
from smsapi.cli.parcel import Parcel, TooLarge, pack
from smsapi.sms.text import without_mark

STDIN: Final = "-"
FORMATS: Final = {"csv": "text/csv", "ndjson": "application/x-ndjson", "json": "application/json"}
_SUFFIXES: Final = {".csv": "csv", ".tsv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json"}
# While it is read the service says nothing, and what it reads last takes it a moment.
_TIMEOUT_SECONDS: Final = 120.0
# As they are named in the contract.
_FIELDS: Final = {
    "text": "text",
    "sender": "from",
    "category": "category",
    "send_at": "send_at",
    "expires_in": "expires_in",
    "max_price": "max_price",
    "max_segments": "max_segments",
    "smart_encoding": "smart_encoding",
    "metadata": "metadata",
    "all_or_nothing": "all_or_nothing",
    "dry_run": "dry_run",
}


@dataclass(slots=True)
class Upload:
    """One batch to be uploaded, as often as it takes. ``was_whole``: all of it left at least once."""

    parcel: Parcel
    path: str
    content_type: str
    key: str
    was_whole: bool = False

    def post(self, service: Service, on_sent: Callable[[int, int], None]) -> Answer:
        """Upload it once."""
        headers = {"Content-Type": self.content_type, "Idempotency-Key": self.key}
        if self.parcel.is_packed:
            headers["Content-Encoding"] = "gzip"

        def note(sent: int) -> None:
            self.was_whole = self.was_whole or sent >= self.parcel.size
            on_sent(sent, self.parcel.size)

        body = self.parcel.body(note)
        return service.ask("POST", self.path, data=body, headers=headers, timeout=_TIMEOUT_SECONDS)


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message fields that were given, named as in the contract."""
    given = ((name, options[option]) for option, name in _FIELDS.items())
    # A nought is given, too.
    found = {name: value for name, value in given if value is not None and value is not False and value != ()}
    if "metadata" in found:
        found["metadata"] = dict(found["metadata"])
    return found


def format_of(source: str, given: str | None) -> str:
    """Return the name of the file's format: as it was given, or by the file's name."""
    found = given or _SUFFIXES.get(Path(source).suffix.lower())
    if found is None:
        raise click.UsageError(f"Say with --format what {source!r} is: {', '.join(FORMATS)}.")
    return found


def prepare(
    source: str, form: str, fields: Mapping[str, Any], *, key: str | None, on_read: Callable[[int, int | None], None]
) -> Upload:
    """Read the file or the pipe to its end and return the request.

    Without a ``key`` it gets one that is the same whenever file, options and format are: an upload that is repeated
    sends nobody anything twice.
    """
    if form != "json" and "text" not in fields:
        raise click.UsageError("Missing option '--text'.")
    try:
        total = None if source == STDIN else Path(source).stat().st_size
        with click.open_file(source, "rb") as file:
            parcel, path = _read(file, form, fields, total, on_read)
    except TooLarge:
        raise click.UsageError(f"{source} is more than one batch may hold; make several files of it.") from None
    except OSError as error:
        raise click.UsageError(f"{source} cannot be read: {type(error).__name__}.") from None
    if not parcel.size:
        parcel.close()
        raise click.UsageError(f"{source} is empty.")
    # Not the service's address: the same batch at two addresses of one service is one batch.
    derived = hashlib.sha256(f"{form}\n{path}\n{parcel.digest}".encode()).hexdigest()
    return Upload(parcel, path, FORMATS[form], key or f"batch-{derived[:40]}")


def _read(
    file: IO[bytes], form: str, fields: Mapping[str, Any], total: int | None, on_read: Callable[[int, int | None], None]
) -> tuple[Parcel, str]:
    if form == "json":
        return pack(BytesIO(_in_json(file.read(MOST_ON_THE_WIRE + 1), fields)), lambda _: None), "/v1/batches"
    shown = {name: _in_query(value) for name, value in fields.items()}
    return pack(file, lambda count: on_read(count, total)), f"/v1/batches?{urlencode(shown)}"


def _in_query(value: Any) -> str:
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    return "true" if value is True else str(value)


def _in_json(content: bytes, fields: Mapping[str, Any]) -> bytes:
    """Return the file with the options put in. What it holds stays as it was written, numbers too."""
    if len(content) > MOST_ON_THE_WIRE:
        raise TooLarge
    text = without_mark(content).strip()
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise click.UsageError("The file is not valid JSON in UTF-8.") from None
    if isinstance(found, list):
        found, text = {"recipients": found}, b'{"recipients":' + text + b"}"
    if not isinstance(found, dict) or "recipients" not in found:
        raise click.UsageError("The file must be a list of recipients, or an object with recipients.")
    if twice := sorted(found.keys() & fields.keys()):
        raise click.UsageError(f"{twice[0]} is in the file and in an option, too.")
    if "text" not in found and "text" not in fields:
        raise click.UsageError("Missing option '--text'.")
    more = orjson.dumps(dict(fields))[1:-1]
    return text[:-1] + b"," + more + b"}" if more else text


def again(context: click.Context, key: str) -> str:
    """Return the command line that takes this upload up again: as it was given, with its key, without the token."""
    words = context.command_path.split()
    for option in context.command.params:
        name = option.name or ""
        if isinstance(option, click.Argument) or name in {"token", "idempotency_key"}:
            continue
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            words += _said(option.opts[-1], context.params[name])
    words += ["--idempotency-key", key, context.params["source"]]
    return shlex.join(words)


def _said(option: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [option] if value else []
    if isinstance(value, tuple):
        return [word for name, each in value for word in (option, f"{name}={each}")]
    return [option, str(value)]


def pair(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of options such as ``shop=berlin``."""
    found = []
    for value in values:
        if not re.match(r"[^=]+=", value):
            raise click.BadParameter(f"{value!r} is not NAME=VALUE")
        name, _, rest = value.partition("=")
        found.append((name, rest))
    return tuple(found)


def with_text(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields if they can be sent at all: a shell may hand over bytes that are no text."""
    try:
        orjson.dumps(dict(fields))
    except orjson.JSONEncodeError:
        raise click.UsageError("An option is not valid UTF-8, or a number in it is too large.") from None
    return fields

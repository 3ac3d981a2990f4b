"""The route that takes a batch: as JSON, or streamed as a file with the rest in the query."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import orjson
from flask import request
from flask.wrappers import Response
from werkzeug.exceptions import ClientDisconnected, HTTPException

from smsapi.auth.guard import caller
from smsapi.batches.arriving import MEBIBYTE, MOST_ON_THE_WIRE, MOST_UNPACKED, Body
from smsapi.batches.forms import BatchOrderSchema, BatchQuerySchema
from smsapi.batches.intake import Asked, take_batch
from smsapi.batches.orders import BatchOrder
from smsapi.batches.reading import CsvRows, Doubled, JsonLines, JsonList, Rows, read_recipients
from smsapi.batches.schemas import BatchSchema
from smsapi.batches.views import blueprint
from smsapi.errors import BodyIncomplete, BodyTooLarge, MalformedRequest, SmsapiError, Unavailable, UnsupportedMediaType
from smsapi.web.body import load, load_query, refuse_other_charsets
from smsapi.web.context import deps, request_id, to_response
from smsapi.web.fields import StrictSchema
from smsapi.web.idempotency import Claim, claim_of, read_key
from smsapi.web.once import REPLAYED
from smsapi.web.operations import operation

CSV: Final = "text/csv"
LINES: Final = "application/x-ndjson"
_ROWS: Final[dict[str, Callable[[Body], Rows]]] = {CSV: CsvRows, LINES: JsonLines}
_ROUTE: Final = "POST /v1/batches"
_JSON_SIZE: Final = MEBIBYTE
# Ten thousand recipients with a hundred variables each. What is more would only fill the memory.
_MOST_VALUES: Final = 1_000_000
_DRAIN_SECONDS: Final = 10.0
_BUSY_SECONDS: Final = 5

__all__ = ["blueprint"]

_order = BatchOrderSchema()
_query = BatchQuerySchema()
_no_query = StrictSchema()


@blueprint.post("/v1/batches")
@operation(
    summary="Send to many",
    scope="messages:send",
    body=BatchOrderSchema,
    takes=(CSV, LINES),
    query=BatchQuerySchema,
    answers={202: BatchSchema, 200: BatchSchema},
    problems=(
        *("body_incomplete", "batch_rejected", "queue_full"),
        *("sender_not_allowed", "text_too_long", "too_many_segments"),
    ),
    idempotent=True,
    sends=True,
    streams=True,
)
def create_batch() -> Response:
    """Take a text for many recipients: 202 with the batch once it is stored durably; 200 with `dry_run`.

    `{{name}}` in the text is each recipient's own variable. Bad rows never stop good ones: they are counted, and listed
    in `GET /v1/batches/{batch_id}/rejects`. A number that comes twice is sent to once.

    As `application/json` the recipients are in the body, at most 10,000, and there is no query. As `text/csv` (a header
    row with `to`; every other column is a variable, and `reference` is the row's reference too; separated by comma,
    semicolon or tab) and as `application/x-ndjson` (a recipient a line, at most 64 KiB) the body is read as it comes,
    up to SMSAPI_BATCH_MAX_ROWS rows and 64 MiB, and `text` (required then) and the other fields are in the query;
    `metadata` and `dlt` are JSON texts there. `Content-Encoding: gzip` is taken, up to 512 MiB unpacked.
    """
    _refuse_other_forms()
    request.max_content_length = MOST_ON_THE_WIRE
    is_json = request.mimetype not in _ROWS
    packed = _is_packed()
    most = MOST_ON_THE_WIRE if is_json else MOST_UNPACKED
    body = Body(_arriving, gzip=packed, length=request.content_length, most_unpacked=most)
    with _read_to_its_end(body), _one_of_few(_is_long()):
        order, source = _in_json(body) if is_json else _in_file(body)
        asked = Asked(caller(), order, _claim(), request_id())
        given, replayed = take_batch(deps(), asked, source)
    return to_response(given, REPLAYED if replayed else None)


def _arriving(size: int) -> bytes:
    try:
        return request.stream.read(size)
    except (OSError, ClientDisconnected):
        raise BodyIncomplete("The upload broke off, or nothing of it came for too long.") from None


class _Source:
    """The rows of this request's body, and what tells it from another."""

    def __init__(self, body: Body, read: Callable[[Body], Rows]) -> None:
        self._body = body
        self._read = read
        # In the order of their names: whoever repeats a request may well order them otherwise.
        self._query = orjson.dumps(sorted(request.args.items(multi=True)))

    def watch(self, listener: Callable[[], None]) -> None:
        self._body.on_piece = listener

    def rows(self) -> Rows:
        return self._read(self._body)

    def exhaust(self) -> None:
        self._body.exhaust()

    def digest(self) -> bytes:
        return hashlib.sha256(self._query + b"\n" + self._body.digest()).digest()


def _refuse_other_forms() -> None:
    kind = request.mimetype
    if kind not in _ROWS and kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"The body must be JSON, {CSV} or {LINES}: send such a Content-Type.")
    refuse_other_charsets()


def _is_packed() -> bool:
    encoding = (request.content_encoding or "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise UnsupportedMediaType("The body may be packed with gzip, and with nothing else.")
    return encoding != "identity"


def _is_long() -> bool:
    return request.content_length is None or request.content_length > _JSON_SIZE


def _in_file(body: Body) -> tuple[BatchOrder, _Source]:
    order = load_query(_query, BatchOrder)
    return order, _Source(body, _ROWS[request.mimetype])


def _in_json(body: Body) -> tuple[BatchOrder, _Source]:
    load_query(_no_query, dict)
    text = b"".join(body)
    if text.count(b",") + text.count(b"[") + text.count(b"{") > _MOST_VALUES:
        raise BodyTooLarge(f"The JSON has more than {_MOST_VALUES} values.")
    order = load(_order, _json_of(text), BatchOrder)
    recipients = _recipients_of(text)
    return order, _Source(body, lambda _: JsonList(recipients))


def _json_of(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MalformedRequest("The body is not valid JSON in UTF-8.") from None


def _recipients_of(text: bytes) -> list[Any]:
    try:
        value = read_recipients(text)
    except RecursionError:
        raise MalformedRequest("The JSON is nested too deep.") from None
    shared = [value, *(each for name, each in value.items() if name != "recipients")]
    if any(isinstance(each, Doubled) for each in shared):
        raise MalformedRequest("An object in the body names the same key twice.")
    recipients: list[Any] = value["recipients"]
    return recipients


def _claim() -> Claim | None:
    header = request.headers.get("Idempotency-Key")
    if header is None:
        return None
    return claim_of(caller().owner, _ROUTE, read_key(header))


@contextmanager
def _one_of_few(long: bool) -> Iterator[None]:  # noqa: FBT001 - it reads as a sentence where it is used
    """Let only so many long uploads be read at once that threads are left for everybody else."""
    uploads = deps().uploads
    if long and not uploads.acquire(blocking=False):
        raise Unavailable("Too many uploads at once; try again.", retry_after_seconds=_BUSY_SECONDS)
    try:
        yield
    finally:
        if long:
            uploads.release()


@contextmanager
def _read_to_its_end(body: Body) -> Iterator[None]:
    """Read on where the body is refused in the middle: who is still sending would not see the answer."""
    try:
        yield
    except (SmsapiError, HTTPException):
        until = time.monotonic() + _DRAIN_SECONDS
        with suppress(SmsapiError, HTTPException, OSError):
            body.drain(is_enough=lambda: time.monotonic() > until)
        raise

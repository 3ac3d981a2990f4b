"""The route that takes a batch: as JSON, or streamed as a file with the rest in the query."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Self
from uuid import UUID

import orjson
from flask import request
from flask.wrappers import Response
from werkzeug.exceptions import ClientDisconnected, HTTPException

from smsapi.auth.guard import caller
from smsapi.batches.arriving import MEBIBYTE, MOST_JSON, MOST_ON_THE_WIRE, MOST_UNPACKED, Body
from smsapi.batches.forms import BatchOrderSchema, BatchQuerySchema, BesideJsonSchema, refuse_contradiction
from smsapi.batches.intake import Asked, take_batch
from smsapi.batches.limiting import Spending
from smsapi.batches.orders import BatchOrder
from smsapi.batches.reading import CsvRows, Doubled, JsonLines, JsonList, Rows, read_recipients
from smsapi.batches.schemas import BatchSchema
from smsapi.batches.views import blueprint
from smsapi.deps import Deps
from smsapi.errors import BodyIncomplete, BodyTooLarge, MalformedRequest, SmsapiError, Unavailable, UnsupportedMediaType
from smsapi.sms.text import without_mark
from smsapi.web.body import load, load_query, refuse_other_charsets
from smsapi.web.context import deps, request_id, to_response
from smsapi.web.idempotency import Claim, claim_of, read_key
from smsapi.web.limiter import renew_standing
from smsapi.web.once import REPLAYED
from smsapi.web.operations import operation

CSV: Final = "text/csv"
LINES: Final = "application/x-ndjson"
_ROWS: Final[dict[str, Callable[[Body], Rows]]] = {CSV: CsvRows, LINES: JsonLines}
_ROUTE: Final = "POST /v1/batches"
# A body that is no longer, unpacked, is one like any other.
_SHORT: Final = MEBIBYTE
_LITTLE: Final = 4096
# Ten thousand recipients with a hundred variables each. What is more would only fill the memory.
_MOST_VALUES: Final = 1_000_000
_DRAIN_SECONDS: Final = 10.0
_BUSY_SECONDS: Final = 5

__all__ = ["blueprint"]

_order = BatchOrderSchema()
_query = BatchQuerySchema()
_beside = BesideJsonSchema(partial=True)


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

    As `application/json` the recipients are in the body, at most 10,000 and 8 MiB, unpacked; the query need say
    nothing, and what it says may not contradict the body. As `text/csv` (a header row with `to`; every other column is
    a variable, and `reference` is the row's reference too; separated by comma, semicolon or tab; the names `to` and
    `reference` in any case) and as
    `application/x-ndjson` (a recipient a line, at most 64 KiB) the body is read as it comes, up to
    SMSAPI_BATCH_MAX_ROWS rows, 64 MiB and SMSAPI_UPLOAD_SECONDS, and `text` (required then) and the other fields are in
    the query; `metadata` and `dlt` are JSON texts there. `Content-Encoding: gzip` is taken, up to 512 MiB unpacked.
    """
    _refuse_other_forms()
    request.max_content_length = MOST_ON_THE_WIRE
    is_json = request.mimetype not in _ROWS
    arriving = _Arriving(deps(), caller().client.id)
    body = Body(
        arriving.read,
        gzip=_is_packed(),
        length=request.content_length,
        most_unpacked=MOST_JSON if is_json else MOST_UNPACKED,
        on_unpacked=arriving.note_unpacked,
    )
    with _read_to_its_end(body, arriving), arriving:
        order, source = _in_json(body) if is_json else _in_file(body)
        claim = _claim()
        spending = _spending(order, claim)
        try:
            given, replayed = take_batch(deps(), Asked(caller(), order, claim, request_id(), spending), source)
        finally:
            if spending.standing is not None:
                renew_standing(spending.standing)
    return to_response(given, REPLAYED if replayed else None)


class _Arriving:
    """This request's body on its way. One that is long, or slow, is read only where its client has a slot for it.

    So there are always threads for everybody else, and slots for other clients, however slowly one client sends.
    """

    def __init__(self, world: Deps, client_id: UUID) -> None:
        self._slots = world.uploads
        self._holder = client_id.hex
        self._has_slot = False
        self._begun = time.monotonic()
        self._quick_seconds = world.settings.request_read_seconds
        self._most_seconds = world.settings.upload_seconds
        self.is_refused = False

    def __enter__(self) -> Self:
        length = request.content_length
        if length is not None and length > _SHORT:
            self._take_slot()
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_slot:
            self._slots.leave(self._holder)

    def read(self, size: int) -> bytes:
        """Return up to so many bytes of it; none at its end.

        Raises:
            BodyIncomplete: it broke off, or took too long.
            Unavailable: too many bodies are long or slow at the moment.

        """
        if not self.is_refused:
            self._require_time()
        try:
            # As long as a slow sender has no slot it is looked at often.
            return request.stream.read(size if self._has_slot else min(size, _LITTLE))
        except (OSError, ClientDisconnected):
            raise BodyIncomplete("The upload broke off, or nothing of it came for too long.") from None

    def note_unpacked(self, count: int) -> None:
        """Take a slot where the body, unpacked, turns out to be long."""
        if count > _SHORT:
            self._take_slot()

    def _require_time(self) -> None:
        seconds = time.monotonic() - self._begun
        if seconds > self._most_seconds:
            raise BodyIncomplete(f"The upload took longer than {self._most_seconds:g} s. Send it in parts.")
        if seconds > self._quick_seconds:
            self._take_slot()

    def _take_slot(self) -> None:
        if self._has_slot:
            return
        if not self._slots.take(self._holder):
            raise Unavailable("Too many uploads at once; try again.", retry_after_seconds=_BUSY_SECONDS)
        self._has_slot = True


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


def _in_file(body: Body) -> tuple[BatchOrder, _Source]:
    order = load_query(_query, BatchOrder)
    return order, _Source(body, _ROWS[request.mimetype])


def _in_json(body: Body) -> tuple[BatchOrder, _Source]:
    load_query(_beside, dict)
    text = without_mark(b"".join(body))
    if text.count(b",") + text.count(b"[") + text.count(b"{") > _MOST_VALUES:
        raise BodyTooLarge(f"The JSON has more than {_MOST_VALUES} values.")
    value = _json_of(text)
    order = load(_order, value, BatchOrder)
    refuse_contradiction(value, request.args)
    del value
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


def _spending(order: BatchOrder, claim: Claim | None) -> Spending:
    token = None if claim is None else f"{claim.client_id.hex}|{claim.route}|{claim.key}"
    return Spending(deps(), caller(), dry_run=order.dry_run, token=token)


@contextmanager
def _read_to_its_end(body: Body, arriving: _Arriving) -> Iterator[None]:
    """Read on where the body is refused in the middle: who is still sending would not see the answer."""
    try:
        yield
    except (SmsapiError, HTTPException):
        arriving.is_refused = True
        until = time.monotonic() + _DRAIN_SECONDS
        with suppress(SmsapiError, HTTPException, OSError):
            body.drain(is_enough=lambda: time.monotonic() > until)
        raise

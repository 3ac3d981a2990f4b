"""What Plivo's message list says: an answer in, a page or a failure out; nothing here touches a network.

The list decides whether a text is sent a second time, so anything that is not wholly understood is a failure: a record
that was skipped would count as a message that Plivo never took.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from smsapi.plivo.answers import ERROR_CODE, UUID_FORM, Answer, clean, error_of, parsed_object, retry_after_seconds
from smsapi.plivo.lookup import LookupFailed, Page, Query, Record

# The most that Plivo gives at a time.
PAGE_SIZE = 20

_NUMBER = re.compile(r"(?=[^0-9]*[0-9])[-+0-9*(). /]{1,40}")
_SENDER = re.compile(r"(?=[^A-Za-z0-9]*[A-Za-z0-9])[ -~]{1,40}")
_STATE = re.compile(r"[a-z][a-z_]{0,31}")
_AMOUNT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_BY_CURSOR = re.compile(r"[?&]cursor=")
_MOST = 2**31 - 1
# Some of Plivo's samples show times without their fraction, so a record may seem to lie before what was asked for.
_CUT_OFF = timedelta(seconds=1)


class _NotUnderstoodError(Exception):
    """The list is not one to draw conclusions from. The text is one of a few fixed sentences."""


def read_listing(answer: Answer, query: Query, *, now: datetime, secrets: Iterable[str] = ()) -> Page | LookupFailed:
    """Return the page that the answer to the query holds.

    ``LookupFailed`` is every status but 200, and a 200 without a list, a total or a place in the list, with a record
    that lacks its UUID, numbers, time (with its offset from UTC) or state, with a time outside of the query, or with
    no record where the total says that some are left. ``secrets`` never reach the reason.
    """
    found = parsed_object(answer.body)
    if answer.status != HTTPStatus.OK:
        reason = clean(error_of(found) or f"status {answer.status} without a readable error", secrets)
        return LookupFailed(reason, answer.status, retry_after_seconds(answer.retry_after, now=now))
    try:
        page = _page_of(found, query.offset)
        _check_times(page, query)
    except _NotUnderstoodError as error:
        return LookupFailed(str(error), answer.status)
    return page


def _page_of(found: dict[str, Any], offset: int) -> Page:
    meta, objects = found.get("meta"), found.get("objects")
    if not isinstance(meta, dict) or not isinstance(objects, list) or found.get("error"):
        raise _NotUnderstoodError("the answer holds no list")
    _check_place(meta, offset)
    records = tuple(_record_of(each) for each in objects)
    reached = offset + len(records)
    total = _total(meta, reached)
    if not records and reached < total:
        raise _NotUnderstoodError("the list breaks off")
    more = bool(records) and (reached < total or bool(_next_of(meta)))
    return Page(records, total, reached if more else None)


def _total(meta: dict[str, Any], reached: int) -> int:
    """Return how many records there are; where Plivo counts none, at least as many as ``next`` says there must be.

    Plivo's page on the list has ``total_count``, and so has its Python SDK's sample; that of another SDK has not.
    """
    if "total_count" not in meta and "next" in meta:
        return reached + 1 if _next_of(meta) else reached
    total = _count(meta.get("total_count"))
    if total is None:
        raise _NotUnderstoodError("the list has no total")
    return total


def _check_place(meta: dict[str, Any], offset: int) -> None:
    """Raise unless the page is the one that was asked for: a server that pages otherwise would repeat its first."""
    place = meta.get("offset")
    if not (place is None and offset == 0) and _count(place) != offset:
        raise _NotUnderstoodError("the list is not at the place that was asked for")


def _next_of(meta: dict[str, Any]) -> str:
    """Return where Plivo says that the list goes on, empty at its end."""
    match meta.get("next"):
        case None:
            return ""
        # The SDK's own walk knows deployments that page by cursor and may ignore an offset.
        case str(url) if not _BY_CURSOR.search(url):
            return url
        case _:
            raise _NotUnderstoodError("the list goes on in a way that is not known")


def _check_times(page: Page, query: Query) -> None:
    """Raise where a filter did not mean what was meant, by which other records may be missing."""
    if any(not query.since - _CUT_OFF <= record.taken_at <= query.until for record in page.records):
        raise _NotUnderstoodError("the list holds a time that was not asked for")


def _record_of(found: Any) -> Record:
    if not isinstance(found, dict):
        raise _NotUnderstoodError("a record is not an object")
    code = str(found.get("error_code"))
    amount = found.get("total_amount")
    return Record(
        message_uuid=_text(found, "message_uuid", UUID_FORM),
        to=_text(found, "to_number", _NUMBER),
        sender=_text(found, "from_number", _SENDER),
        taken_at=_moment(found.get("message_time")),
        state=_text(found, "message_state", _STATE),
        error_code=code if ERROR_CODE.fullmatch(code) and code.strip("0") else None,  # 000 is success
        units=_count(found.get("units")),
        amount=amount if isinstance(amount, str) and _AMOUNT.fullmatch(amount) else None,
    )


def _text(found: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _NotUnderstoodError(f"a record has no readable {name}")
    return value


def _moment(said: Any) -> datetime:
    """Return the time in UTC. Without an offset it could be of any zone, so it is none."""
    try:
        moment = datetime.fromisoformat(said)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise _NotUnderstoodError("a record has no readable message_time")


def _count(said: Any) -> int | None:
    countable = isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= _MOST
    return said if countable else None

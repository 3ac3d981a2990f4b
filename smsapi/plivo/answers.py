"""What Plivo's answer means: status, headers and body in, an outcome out; nothing here touches a network."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from smsapi.plivo.outcomes import (
    Accepted,
    AcceptedTogether,
    JoinedOutcome,
    Outcome,
    Rejected,
    Unavailable,
    Unknown,
)

MAX_REASON_CHARACTERS = 300
RETRY_AFTER_CAP_SECONDS = 3600.0

UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LIKE_A_NUMBER = re.compile(r"\+?\(?\d[\d ().-]{5,}\d")
_SHORTEST_SECRET = 8
ERROR_CODE = re.compile(r"[0-9]{1,5}")
_NO_DIGIT = re.compile(r"[^0-9]")
_DELTA_SECONDS = re.compile(r"[0-9]{1,100}")

# The status that Plivo uses for an empty account is not documented; its wording is.
_NO_CREDIT = re.compile(r"insufficient[\s_-]+(?:credit|fund|balance)", re.IGNORECASE)
_GEO = re.compile(r"geo[\s_-]*permission", re.IGNORECASE)
NO_CREDIT_CODE = "900"
GEO_CODE = "450"

# Statuses by which a far side, or what stands before it, says that it did not look at the request at all.
_NOT_TAKEN = frozenset(
    {
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_ACCOUNT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as it came: its body whole and undecoded, ``retry_after`` the header of that name."""

    status: int
    body: bytes
    retry_after: str | None = None


def read_answer(answer: Answer, *, now: datetime, secrets: Iterable[str] = ()) -> Outcome:
    """Return what the answer to a request for one message means.

    2xx is ``Accepted`` only with exactly one UUID in ``message_uuid``. 429 is ``Unavailable``. Another 4xx but 408 is
    ``Rejected``, of our account for 401, 402, 403 and wherever Plivo writes of insufficient credit (code 900; 450
    where a 403 is about the country). All else is ``Unknown``: 408, 5xx, a redirect, a 2xx that is not Plivo's.
    ``secrets`` and what looks like a phone number never reach the outcome's reason.
    """
    status, found = answer.status, parsed_object(answer.body)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        uuid = _only_uuid(found)
        return Accepted(uuid) if uuid else Unknown("the answer names no single message_uuid", status)
    return _not_accepted(answer, found, now=now, secrets=secrets)


def read_joined_answer(
    answer: Answer, numbers: Sequence[str], *, now: datetime, secrets: Iterable[str] = ()
) -> JoinedOutcome:
    """Return what the answer to one request for several numbers means.

    2xx is ``AcceptedTogether`` only where it accounts for each number: as many UUIDs, all different, as are left of
    the numbers without those of ``invalid_number``, all of which were asked for. Whatever else it says, it cannot be
    told who was texted: ``Unknown``. All other statuses are as :func:`read_answer` says, for all of the numbers.
    """
    status, found = answer.status, parsed_object(answer.body)
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _not_accepted(answer, found, now=now, secrets=secrets)
    uuids, invalid = _distinct_uuids(found), _invalid_among(numbers, found)
    if uuids is None or invalid is None or len(uuids) + len(invalid) != len(numbers):
        return Unknown("the answer does not account for every number", status)
    return AcceptedTogether(uuids, invalid)


def _not_accepted(
    answer: Answer, found: dict[str, Any], *, now: datetime, secrets: Iterable[str]
) -> Rejected | Unavailable | Unknown:
    status = answer.status
    said = error_of(found) or f"status {status} without a readable error"
    reason = clean(said, secrets)
    if status in _NOT_TAKEN:
        return Unavailable(reason, status, retry_after_seconds(answer.retry_after, now=now))
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if not refused or status == HTTPStatus.REQUEST_TIMEOUT:
        return Unknown(reason, status)
    if _NO_CREDIT.search(said):
        return Rejected("account", reason, status, NO_CREDIT_CODE)
    if status == HTTPStatus.FORBIDDEN and _GEO.search(said):
        return Rejected("account", reason, status, GEO_CODE)
    return Rejected("account" if status in _ACCOUNT else "message", reason, status, _code_of(found))


def retry_after_seconds(
    header: str | None, *, now: datetime, cap_seconds: float = RETRY_AFTER_CAP_SECONDS
) -> float | None:
    """Return the wait that a ``Retry-After`` asks for (RFC 9110, 10.2.3), from 0 to the cap; ``None`` for garbage."""
    value = (header or "").strip()
    if _DELTA_SECONDS.fullmatch(value):
        return min(float(value), cap_seconds)
    try:
        moment = parsedate_to_datetime(value)
        # A date in "-0000" comes back naive; an HTTP date is UTC whatever it says.
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max((aware - now).total_seconds(), 0.0), cap_seconds)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text on one line, without the secrets and without digits that look like a phone number, bounded.

    A secret under 8 characters is let be: replacing "code" wherever it stands would garble the sentence.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "[hidden]")
    text = _LIKE_A_NUMBER.sub("[number]", text)
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= MAX_REASON_CHARACTERS else line[: MAX_REASON_CHARACTERS - 1] + "…"


def sentence(said: Any) -> str:
    """Return the words of what an ``error`` holds: Plivo and its SDK put a text, a list or an object there."""
    match said:
        case str():
            return said
        case list() | tuple():
            return "; ".join(filter(None, map(_flat, said)))
        case dict():
            return next((said[key] for key in ("message", "error") if isinstance(said.get(key), str)), _flat(said))
        case _:
            return ""


def parsed_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that the body is, empty where it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # the second: a body of nothing but "["
        return {}
    return found if isinstance(found, dict) else {}


def error_of(found: dict[str, Any]) -> str:
    """Return the sentence in which Plivo refused, empty where it gave none that can be read."""
    # Plivo's services disagree about the member's name.
    return next(filter(None, (sentence(found.get(key)) for key in ("error", "Error", "message", "global_error"))), "")


def _flat(said: Any) -> str:
    if isinstance(said, str):
        return said
    return json.dumps(said, ensure_ascii=False) if isinstance(said, dict) else ""


def _only_uuid(found: dict[str, Any]) -> str | None:
    match found.get("message_uuid"):
        case [str(uuid)] if UUID_FORM.fullmatch(uuid):
            return uuid
        case _:
            return None


def _distinct_uuids(found: dict[str, Any]) -> tuple[str, ...] | None:
    uuids = found.get("message_uuid")
    if not isinstance(uuids, list) or not all(isinstance(uuid, str) and UUID_FORM.fullmatch(uuid) for uuid in uuids):
        return None
    return tuple(uuids) if len({uuid.lower() for uuid in uuids}) == len(uuids) else None


def _invalid_among(numbers: Sequence[str], found: dict[str, Any]) -> tuple[str, ...] | None:
    """Return which of the numbers Plivo calls invalid, or None where what it names are not some of them."""
    named = found.get("invalid_number") or []
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        return None
    asked = {_NO_DIGIT.sub("", number): number for number in numbers}
    digits = [_NO_DIGIT.sub("", each) for each in named]
    if len(set(digits)) < len(digits) or not asked.keys() >= set(digits):
        return None
    return tuple(asked[each] for each in digits)


def _code_of(found: dict[str, Any]) -> str | None:
    inner = found.get("error")
    for place in (found, inner if isinstance(inner, dict) else {}):
        code = str(place.get("error_code", ""))
        if ERROR_CODE.fullmatch(code):
            return code
    return None

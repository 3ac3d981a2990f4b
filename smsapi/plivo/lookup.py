"""Asking Plivo what it has taken: the question, and the two answers to it. Values only."""

import re
from dataclasses import dataclass
from datetime import datetime

from smsapi.sms.phone import read_provider_number, spellings

_NO_DIGIT = re.compile(r"[^0-9]")
_MASK = "*"
_NOT_OF_A_SENDER = re.compile(r"[^A-Za-z0-9]")


def digits_of(number: str) -> str:
    """Return the number as it compares: the digits of its canonical form, without the plus sign."""
    digits = _NO_DIGIT.sub("", number)
    return (read_provider_number(digits) or digits).removeprefix("+")


def may_be_masked(number: str, masked: str) -> bool:
    """Say whether the number (E.164) may stand behind what Plivo shows of it, its last digits hidden by ``*``."""
    shown = _NO_DIGIT.sub("", masked.partition(_MASK)[0])
    return any(form.startswith(shown) for form in spellings(number))


def form_of_sender(sender: str) -> str:
    """Return the sender as it compares: Plivo strips all but letters and digits."""
    return _NOT_OF_A_SENDER.sub("", sender).lower()


@dataclass(frozen=True, slots=True)
class Query:
    """Which outbound messages are asked for: of one sender, taken from ``since`` to ``until``, both included.

    Numbers are E.164 with their ``+``, which is how Plivo's filters want them; a short code or an alphanumeric
    sender stands as it is. ``to`` ``None`` means every recipient. Both moments are aware. ``offset`` counts records,
    newest first; the first page has 0 and a later one the ``next_offset`` of the page before.
    """

    sender: str
    to: str | None
    since: datetime
    until: datetime
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One message that Plivo took, as its list shows it.

    ``to`` and ``sender`` are as they came, without a ``+`` as a rule; where the account redacts its logs the last
    three digits of ``to`` are ``***``. ``taken_at`` is aware and in UTC, and may be cut off to the whole second.
    ``state`` is Plivo's word (``queued``, ``sent``, ``failed``, …). ``error_code`` is ``None`` also where Plivo
    writes ``000``, its code for success. ``units`` and ``amount`` are ``None`` where they cannot be read.
    """

    message_uuid: str
    to: str
    sender: str
    taken_at: datetime
    state: str
    error_code: str | None = None
    units: int | None = None
    amount: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of Plivo's list, wholly understood.

    ``total`` is how many records match the query on all its pages. ``next_offset`` is where to go on, ``None`` on the
    last page. What is not on a page is only known not to be there once the last page is read.
    """

    records: tuple[Record, ...]
    total: int
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """No list that can be trusted came back, which says nothing of what Plivo has taken.

    ``status`` is that of the answer, ``None`` where none came; ``retry_after_seconds`` is the wait that it named.
    ``reason`` holds no secret and no number.
    """

    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None

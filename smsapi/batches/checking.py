"""Validation of rows by the rules of a single send; what is the same for many rows is decided once."""

import re
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from smsapi.auth.models import Client
from smsapi.batches.orders import BatchOrder, Broken, Given
from smsapi.batches.seen import Seen
from smsapi.batches.store import Reject
from smsapi.batches.template import LONGEST_TEXT, Template, TooLong, Unfilled, Unfit, read_template
from smsapi.errors import InvalidInput, Refused, SenderNotAllowed, TextTooLong, TooManySegments
from smsapi.ids import new_id
from smsapi.messages.present import MICROS
from smsapi.send.order import Order
from smsapi.send.plan import SENDER_REFUSED, Plan, plan
from smsapi.settings import Settings
from smsapi.sms.phone import InvalidNumber, Number, parse_number
from smsapi.sms.prices import PriceList

# The codes of rejects that a single send knows no code of its own for.
INVALID_NUMBER: Final = "invalid_number"
MISSING_VARIABLE: Final = "missing_variable"
INVALID_ROW: Final = InvalidInput.code

# Any number that is valid in its country: what does not depend on the recipient is asked of it.
_ANYBODY: Final = "+14155552671"
# The fields of an order that each row has for itself.
_OWN: Final = frozenset({"to", "text"})
_LONGEST_REFERENCE: Final = 255
_LONGEST_SHOWN: Final = 64
_MOST_REMEMBERED: Final = 512
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for all rows of a batch. ``text`` is what leaves, where that is the same for every row."""

    sender: str
    template: Template
    text: str | None


class Good(NamedTuple):
    """A row that may be sent. ``text`` is None where it is the batch's own; the price is in millionths, if known."""

    row: int
    message_id: UUID
    number: str
    country: str | None
    text: str | None
    encoding: str
    segments: int
    price_micros: int | None
    reference: str | None


class _Verdict(NamedTuple):
    refusal: Refused | None
    text: str
    encoding: str
    segments: int
    price_micros: int | None


def agree(order: BatchOrder, client: Client, settings: Settings, prices: PriceList | None, *, now: datetime) -> Terms:
    """Return what holds for all rows.

    Raises:
        InvalidInput: ``send_at`` is not in the future that may be planned, or a place in the text is no variable.
        SenderNotAllowed, TextTooLong, TooManySegments: no row could be sent, whoever it is to.

    """
    template = read_template(order.message.text)
    decided = plan(replace(order.message, to=_ANYBODY), client, settings, prices, now=now)
    sender = decided.sender
    if sender is None:
        raise SenderNotAllowed("No usable sender: name one in from, or give the client a default sender.")
    if sender.value not in client.senders(settings.plivo_sender_id):
        raise SenderNotAllowed(SENDER_REFUSED)
    if not template.is_fixed:
        _refuse_endless(template, order, settings)
        return Terms(sender=sender.value, template=template, text=None)
    for refusal in decided.refusals:
        if isinstance(refusal, TextTooLong | TooManySegments):
            raise refusal
    return Terms(sender=sender.value, template=template, text=decided.text)


def _refuse_endless(template: Template, order: BatchOrder, settings: Settings) -> None:
    # Each row would be put together and measured to find out the same; smart_encoding may leave characters out.
    cap = settings.gsm7_max_units
    if not order.message.smart_encoding and sum(map(len, template.literals)) > max(cap, settings.ucs2_max_units):
        raise TextTooLong(f"Without its variables the text has more than {cap} characters already.")


class Checker:
    """Looks at the rows of one batch, one after the other. Not for several threads at once."""

    def __init__(
        self,
        terms: Terms,
        order: BatchOrder,
        client: Client,
        settings: Settings,
        prices: PriceList | None,
        *,
        now: datetime,
    ) -> None:
        self._terms = terms
        # ``dataclasses.replace`` takes longer than all else that is done for a row with a text of its own.
        message = order.message
        self._shared = {each.name: getattr(message, each.name) for each in fields(Order) if each.name not in _OWN}
        self._client = client
        self._settings = settings
        self._prices = prices
        self._now = now
        self._seen = Seen()
        self._used = frozenset(terms.template.names)
        caps = (settings.gsm7_max_units, settings.ucs2_max_units)
        # smart_encoding may leave characters out. Others have at least one unit each.
        self._longest = LONGEST_TEXT if message.smart_encoding else max(caps)
        self._verdicts: dict[tuple[str | None, str], _Verdict] = {}

    def check(self, row: Given | Broken) -> Good | Reject | None:
        """Return the row as it would be sent, or why it cannot be; None where its number was taken before."""
        if isinstance(row, Given) and row.short is not None and not row.variables.keys() >= self._used:
            # Where the cells that are not there are of no use, the row is as good as any.
            row = Broken(row.row, row.to, row.short)
        if isinstance(row, Broken):
            return _reject(row.row, row.value, INVALID_ROW, row.message)
        try:
            number = parse_number(row.to, strict=self._settings.strict_numbers)
        except InvalidNumber as error:
            return _reject(row.row, row.to, INVALID_NUMBER, str(error))
        if number.e164 in self._seen:
            return None
        try:
            text = self._text_of(row)
        except _Refusal as refusal:
            return _reject(row.row, row.to, refusal.code, str(refusal))
        verdict = self._verdict(number, text)
        if verdict.refusal is not None:
            return _reject(row.row, row.to, verdict.refusal.code, verdict.refusal.detail)
        self._seen.add(number.e164)
        return Good(
            row.row,
            new_id(),
            number.e164,
            number.country,
            None if self._terms.text is not None else verdict.text,
            verdict.encoding,
            verdict.segments,
            verdict.price_micros,
            row.reference,
        )

    def _text_of(self, row: Given) -> str:
        reference = row.reference
        if reference is not None and (len(reference) > _LONGEST_REFERENCE or _CONTROL.search(reference)):
            raise _Refusal(INVALID_ROW, f"reference must be one line of at most {_LONGEST_REFERENCE} characters.")
        try:
            return self._terms.template.fill(row.variables, longest=self._longest)
        except Unfilled as missing:
            raise _Refusal(MISSING_VARIABLE, str(missing)) from None
        except Unfit as unfit:
            raise _Refusal(INVALID_ROW, str(unfit)) from None
        except TooLong as long:
            raise _Refusal(TextTooLong.code, str(long)) from None

    def _verdict(self, number: Number, text: str) -> _Verdict:
        if number.e164 == self._terms.sender:
            return self._judge(number, text)
        known = self._verdicts.get((number.country, text))
        if known is None:
            known = self._judge(number, text)
            if len(text) <= self._settings.gsm7_max_units:
                if len(self._verdicts) >= _MOST_REMEMBERED:
                    self._verdicts.clear()
                self._verdicts[number.country, text] = known
        return known

    def _judge(self, number: Number, text: str) -> _Verdict:
        order = Order(to=number.e164, text=text, **self._shared)
        decided: Plan = plan(order, self._client, self._settings, self._prices, now=self._now)
        price = None if decided.price is None else int(decided.price.amount * MICROS)
        refusal = decided.refusals[0] if decided.refusals else None
        return _Verdict(refusal, decided.text, decided.measured.encoding, decided.measured.segments, price)


class _Refusal(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _reject(row: int, value: str, code: str, message: str) -> Reject:
    # Whatever a caller wrote is there: PostgreSQL takes no U+0000, and a list of rejects is looked at in a terminal.
    shown = "".join(each if each.isprintable() else "\ufffd" for each in value[:_LONGEST_SHOWN])
    return Reject(row=row, value=shown, code=code, message=message)

"""What Plivo says of a message, read and weighed: form fields in, one standing out; nothing here touches a store."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal

from smsapi.messages.present import MICROS
from smsapi.messages.statuses import DELIVERED, EXPIRED, FAILED, FINAL, SENT, UNDELIVERED

# Plivo's words for a status (plivo-facts 2.6). "queued" tells that Plivo has the message, which is our "sent".
_FACTS = {
    "queued": SENT,
    "sent": SENT,
    "delivered": DELIVERED,
    "read": DELIVERED,
    "undelivered": UNDELIVERED,
    "failed": FAILED,
    "rejected": FAILED,
}
# 420: the message's own expiry passed in Plivo's queue; it was not sent and not charged (plivo-facts 2.7).
_EXPIRED_CODE = "420"
_SUCCESS_CODES = frozenset({"", "000", "0"})
_UUID = re.compile(r"[0-9A-Za-z-]{1,64}")
_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_UNITS = re.compile(r"[0-9]{1,4}", re.ASCII)
_SEQUENCE = re.compile(r"[0-9]{1,9}", re.ASCII)
_CODE = re.compile(r"[0-9A-Za-z_-]{1,16}")
_NETWORK = re.compile(r"[0-9]{1,4}", re.ASCII)
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,6})?", re.ASCII)

# Of two ends that nothing else tells apart, the earlier here; of several texts, what the recipient got counts first.
_ENDS: Sequence[str] = (DELIVERED, UNDELIVERED, FAILED, EXPIRED)
_BEST_OF_TEXTS: Sequence[str] = (DELIVERED, SENT, UNDELIVERED, FAILED, EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one delivery report says; a field that is missing or not understood is None.

    ``said`` is Plivo's word and ``fact`` the status that it means. The four times are Plivo's own, as text of one form
    (``YYYY-MM-DD HH:MM:SS.ffffff``), since Plivo does not say of which zone they are (plivo-facts 2.6).
    """

    said: str
    fact: str
    provider_uuid: str | None = None
    sequence: int | None = None
    error_code: str | None = None
    units: int | None = None
    amount_micros: int | None = None
    mcc: str | None = None
    mnc: str | None = None
    message_time: str | None = None
    queued_time: str | None = None
    sent_time: str | None = None
    report_time: str | None = None

    @property
    def time(self) -> str | None:
        """Return the latest of Plivo's times, which is when it came to know this."""
        times = (self.message_time, self.queued_time, self.sent_time, self.report_time)
        return max((each for each in times if each is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a message stands by all that Plivo said of it.

    ``decisive`` is the receipt that says so. ``units`` and ``amount_micros`` are None where no receipt tells.
    """

    status: str
    decisive: Receipt
    units: int | None
    amount_micros: int | None


def read_receipt(fields: Mapping[str, str]) -> Receipt | None:
    """Return what the form fields of a report say, or None where its status is none that we know."""
    said = fields.get("Status", "").lower()
    code = _matched(_CODE, fields.get("ErrorCode"))
    fact = _FACTS.get(said)
    if fact is None:
        return None
    amount = _matched(_AMOUNT, fields.get("TotalAmount"))
    return Receipt(
        said=said,
        fact=EXPIRED if fact == FAILED and code == _EXPIRED_CODE else fact,
        provider_uuid=_matched(_UUID, fields.get("MessageUUID")),
        sequence=_whole(_SEQUENCE, fields.get("Sequence")),
        error_code=None if code in _SUCCESS_CODES else code,
        units=_whole(_UNITS, fields.get("Units")),
        amount_micros=None if amount is None else int(Decimal(amount) * MICROS),
        mcc=_matched(_NETWORK, fields.get("MCC")),
        mnc=_matched(_NETWORK, fields.get("MNC")),
        message_time=_time(fields.get("MessageTime")),
        queued_time=_time(fields.get("QueuedTime")),
        sent_time=_time(fields.get("SentTime")),
        report_time=_time(fields.get("DeliveryReportTime")),
    )


def settle(receipts: Collection[Receipt], *, texts: AbstractSet[str] | None = None) -> Standing | None:
    """Return how the message stands by these receipts, or None where there are none.

    Neither their order nor a repetition makes a difference. An end (delivered, undelivered, failed, expired) outweighs
    ``sent``. Where Plivo contradicts itself, the end stands that it came to first: by ``Sequence`` where all of those
    receipts have one, else by Plivo's time where all have one, else delivered before undelivered, failed and expired.

    ``texts`` is given where more than one attempt may have been taken: the UUIDs that Plivo gave us in its answers.
    Each UUID is then a text of its own, under way as long as no receipt says otherwise; the message is delivered where
    one of them is, and has a bad end only once all of them have. The price is that of all texts together.
    """
    if not receipts:
        return None
    if texts is None:
        return _of_one_text(receipts)
    by_text: defaultdict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_text[_form(receipt.provider_uuid)].append(receipt)
    each = [_of_one_text(heard) for heard in by_text.values()]
    best = min(each, key=lambda one: (_BEST_OF_TEXTS.index(one.status), repr(one.decisive)))
    silent = {_form(uuid) for uuid in texts} - by_text.keys()
    amounts = [one.amount_micros for one in each if one.amount_micros is not None]
    return Standing(
        status=SENT if silent and best.status != DELIVERED else best.status,
        decisive=best.decisive,
        units=max((one.units for one in each if one.units is not None), default=None),
        amount_micros=sum(amounts) if amounts else None,
    )


def _of_one_text(receipts: Collection[Receipt]) -> Standing:
    ends = [receipt for receipt in receipts if receipt.fact in FINAL]
    decisive = _in_order(ends)[0] if ends else _in_order(receipts)[-1]
    counted = _in_order([receipt for receipt in receipts if receipt.units])
    priced = _in_order([receipt for receipt in receipts if _is_price(receipt)])
    return Standing(
        status=decisive.fact,
        decisive=decisive,
        units=counted[-1].units if counted else None,
        amount_micros=priced[-1].amount_micros if priced else None,
    )


def _is_price(receipt: Receipt) -> bool:
    # Before a text is sent Plivo writes a price of nothing, which is not the price.
    return receipt.amount_micros is not None and (receipt.amount_micros > 0 or receipt.fact in FINAL)


def _in_order(receipts: Collection[Receipt]) -> list[Receipt]:
    """Return the receipts in the order that Plivo made them, as far as they tell; any order gives the same."""
    if all(receipt.sequence is not None for receipt in receipts):
        return sorted(receipts, key=lambda receipt: (receipt.sequence, _by_rule(receipt)))
    if all(receipt.time is not None for receipt in receipts):
        return sorted(receipts, key=lambda receipt: (receipt.time, _by_rule(receipt)))
    return sorted(receipts, key=_by_rule)


def _by_rule(receipt: Receipt) -> tuple[int, int, str]:
    # What is under way comes before any end. The rest only keeps the order of the arguments from mattering.
    place = _ENDS.index(receipt.fact) + 1 if receipt.fact in _ENDS else 0
    return (place, receipt.amount_micros or 0, repr(receipt))


def _form(uuid: str | None) -> str:
    return "" if uuid is None else uuid.lower()


def _whole(form: re.Pattern[str], value: str | None) -> int | None:
    found = _matched(form, value)
    return None if found is None else int(found)


def _matched(form: re.Pattern[str], value: str | None) -> str | None:
    return value if value is not None and form.fullmatch(value) else None


def _time(value: str | None) -> str | None:
    """Return Plivo's time in the one form in which texts sort as the times do."""
    found = None if value is None else _TIME.fullmatch(value)
    return None if found is None else f"{found[1]} {found[2]}.{(found[3] or '.')[1:]:0<6}"

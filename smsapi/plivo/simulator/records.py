"""A taken message as Plivo shows it: in its message list, in delivery reports, and as an inbound text."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from smsapi.plivo.magic import PlannedReceipt
from smsapi.plivo.simulator.state import Taken
from smsapi.plivo.simulator.units import measure

DEFAULT_WINDOW = timedelta(hours=24)
MAXIMUM_PAGE = 20

# Plivo's own samples carry this offset; a reader that takes the digits for UTC should fail here and not in production.
_LIST_ZONE = timezone(timedelta(hours=5, minutes=30))
_RATE = Decimal("0.00550")
_NO_MONEY = "0.00000"
_OPT_OUT = frozenset({"STOP", "END", "QUIT", "CANCEL", "UNSUBSCRIBE", "UNSUB", "STOP ALL"})
_OPT_IN = frozenset({"START", "YES", "RESUME", "UNSTOP", "GO"})
_HELP = frozenset({"HELP", "INFO"})
# What a time in a filter may look like, and how long the moment is that it names.
_FILTER_TIMES = (
    ("%Y-%m-%d %H:%M", timedelta(minutes=1)),
    ("%Y-%m-%d %H:%M:%S", timedelta(seconds=1)),
    ("%Y-%m-%d %H:%M:%S.%f", timedelta(microseconds=1)),
)


def message_record(message: Taken, auth_id: str, now: datetime) -> dict[str, object]:
    """Return the message detail record, as of now."""
    state, error_code, reached_at = message.progress(now)
    left = state != "failed"
    return {
        "carrier_fees": _NO_MONEY,
        "carrier_fees_rate": _NO_MONEY,
        "error_code": "000" if state == "delivered" else error_code,
        "error_message": None if error_code is None else f"simulated error {error_code}",
        "from_number": message.sender,
        "log": message.log,
        "message_direction": "outbound",
        "message_sent_time": None if state in {"queued", "failed"} else _list_time(message.taken_at),
        "message_state": state,
        "message_time": _list_time(message.taken_at),
        "message_type": "sms",
        "message_updated_time": _list_time(reached_at),
        "message_uuid": message.message_uuid,
        "requester_ip": message.requester_ip,
        "resource_uri": f"/v1/Account/{auth_id}/Message/{message.message_uuid}/",
        "to_number": _shown(message),
        "total_amount": _amount(message.units) if left else _NO_MONEY,
        "total_rate": str(_RATE),
        "units": message.units,
    }


def receipt_fields(message: Taken, receipt: PlannedReceipt) -> dict[str, str]:
    """Return the form of the delivery report."""
    failed = receipt.status == "failed"
    at = message.after(receipt.delay_seconds)
    return {
        "DeliveryReportTime": _callback_time(at),
        "ErrorCode": receipt.error_code or "",
        "From": message.sender,
        "MCC": "310",
        "MNC": "260",
        "MessageTime": _callback_time(message.taken_at),
        "MessageUUID": message.message_uuid,
        "ParentMessageUUID": message.message_uuid,
        "PartInfo": "1 of 1",
        "PowerpackUUID": "",
        "QueuedTime": _callback_time(message.taken_at),
        "SentTime": "" if failed else _callback_time(message.taken_at),
        "Sequence": str(receipt.sequence),
        "Status": receipt.status,
        "To": _shown(message),
        "TotalAmount": _NO_MONEY if failed else _amount(message.units),
        "TotalRate": str(_RATE),
        "Type": "sms",
        "Units": str(message.units),
        "requester_ip": message.requester_ip,
    }


def inbound_fields(message_uuid: str, sender: str, to: str, text: str) -> dict[str, str]:
    """Return the form of an inbound text, its intent recognised as Plivo does for long codes and toll-free numbers."""
    units = measure(text).units
    return {
        "From": sender,
        "MessageIntent": _intent(text),
        "MessageUUID": message_uuid,
        "PowerpackUUID": "",
        "Text": text,
        "To": to,
        "TotalAmount": _NO_MONEY,
        "TotalRate": _NO_MONEY,
        "Type": "sms",
        "Units": str(units),
    }


@dataclass(frozen=True, slots=True)
class Filters:
    """Which messages a list call wants; None wants any."""

    sender: str | None
    to: str | None
    state: str | None
    error_code: str | None
    direction: str | None
    times: tuple[tuple[str, datetime, datetime], ...]

    def admit(self, message: Taken, now: datetime) -> bool:
        """Say whether the message is wanted, as of now."""
        if self.direction == "inbound" or self.sender not in {None, message.sender}:
            return False
        if self.to not in {None, message.to} or not all(_in_time(message.taken_at, *bound) for bound in self.times):
            return False
        state, error_code, _ = message.progress(now)
        shown = "000" if state == "delivered" else error_code
        return self.state in {None, state} and self.error_code in {None, shown}


def parse_filters(query: Mapping[str, str], now: datetime) -> Filters:
    """Return the filters of a list call; without any time the last 24 hours count, as at Plivo.

    Raises ValueError on a time that Plivo cannot read.
    """
    times = []
    for suffix in ("", "__gt", "__gte", "__lt", "__lte"):
        value = query.get(f"message_time{suffix}")
        if value is not None:
            times.append((suffix, *_parse_moment(value)))
    if not times:
        times.append(("__gte", now - DEFAULT_WINDOW, now - DEFAULT_WINDOW))
    return Filters(
        sender=_unsigned(query.get("from_number")),
        to=_unsigned(query.get("to_number")),
        state=query.get("message_state"),
        error_code=query.get("error_code"),
        direction=query.get("message_direction"),
        times=tuple(times),
    )


def _in_time(taken_at: datetime, suffix: str, start: datetime, end: datetime) -> bool:
    """Compare with a moment that a filter names down to the minute, second or microsecond: from start, before end."""
    match suffix:
        case "__gt":
            return taken_at > start
        case "__gte":
            return taken_at >= start
        case "__lt":
            return taken_at < start
        case "__lte":
            return taken_at <= start
        case _:
            return start <= taken_at < end


def _parse_moment(value: str) -> tuple[datetime, datetime]:
    for form, length in _FILTER_TIMES:
        try:
            start = datetime.strptime(value, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return start, start + length
    raise ValueError("message_time is not YYYY-MM-DD HH:MM[:ss[.uuuuuu]]")


def _unsigned(number: str | None) -> str | None:
    # A plus sign that nobody escaped arrives as a space.
    return None if number is None else number.strip().removeprefix("+")


def _shown(message: Taken) -> str:
    """Return the recipient as the message's ``log`` setting lets it be shown, also to the sender itself."""
    return f"{message.to[:-3]}***" if message.log in {"false", "content_only"} else message.to


def _amount(units: int) -> str:
    return str(_RATE * units)


def _list_time(moment: datetime) -> str:
    return moment.astimezone(_LIST_ZONE).isoformat(sep=" ", timespec="microseconds")


def _callback_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _intent(text: str) -> str:
    word = text.rstrip().upper()
    if word in _OPT_OUT:
        return "optout"
    if word in _OPT_IN:
        return "optin"
    return "help" if word in _HELP else ""

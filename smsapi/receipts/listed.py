"""What Plivo's list says of a message, read as the delivery report that it stands for."""

from decimal import Decimal, InvalidOperation

from smsapi.plivo.lookup import Record
from smsapi.receipts.facts import Receipt, read_receipt


def receipt_of(record: Record, *, state: str | None = None) -> Receipt | None:
    """Return a record of Plivo's list as a report, or None where its state is none we know.

    ``state`` is used in place of the record's own.
    """
    return read_receipt(
        {
            "MessageUUID": record.message_uuid,
            "Status": record.state if state is None else state,
            "ErrorCode": record.error_code or "",
            "Units": "" if record.units is None else str(record.units),
            "TotalAmount": _amount(record),
        }
    )


def _amount(record: Record) -> str:
    try:
        # Before it is sent Plivo writes no price, which is not the price.
        return record.amount if record.amount and Decimal(record.amount) > 0 else ""
    except InvalidOperation:
        return ""

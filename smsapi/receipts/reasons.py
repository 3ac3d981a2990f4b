"""Reasons of failure in words: the meaning of Plivo's error codes (plivo-facts 2.7), and of a status without one."""

from collections.abc import Mapping
from typing import Any, Final

from smsapi.messages.statuses import EXPIRED, FAILED, UNDELIVERED

# The recipient told this sender STOP.
OPTED_OUT_CODE: Final = "200"

_BY_STATUS: Final[Mapping[str, str]] = {
    UNDELIVERED: "The carrier did not deliver the message.",
    FAILED: "Plivo could not send the message.",
    EXPIRED: "The message expired in Plivo's queue.",
}
_BY_CODE: Final[Mapping[str, str]] = {
    "10": "The carrier says that the message is invalid.",
    "20": "The carrier's network failed.",
    "30": "The carrier took the message for spam, or for too many.",
    "40": "The carrier does not know the sender.",
    "50": "The number cannot receive texts: it is not in use, or a landline.",
    "60": "The message went round in a loop.",
    "70": "The number cannot be reached for good.",
    "80": "The number cannot be reached at the moment: the phone is off or has no network.",
    "90": "Plivo has no route to this number.",
    "100": "The carrier does not allow the message.",
    "110": "The message is too long for the carrier.",
    OPTED_OUT_CODE: "The recipient has opted out of this sender: it said STOP.",
    "300": "Plivo could not dispatch the message.",
    "450": "The country is not enabled in the geo permissions of the account at Plivo.",
    "451": "The account at Plivo has reached its hourly limit for this country.",
    "900": "The account at Plivo is out of credit.",
    "910": "The account at Plivo is disabled.",
    "960": "The toll-free number is not verified, and has reached its limit.",
}


def reason_for(status: str, provider_code: str | None) -> dict[str, Any] | None:
    """Return ``code``, the status, and ``message`` of the error of a message, or None where the status is no error."""
    if status not in _BY_STATUS:
        return None
    said = _BY_STATUS[status] if provider_code is None else _BY_CODE.get(provider_code, _BY_STATUS[status])
    return {"code": status, "message": said}

"""Who a text is from: the four kinds of sender, and where each may not be used.

Only what Plivo documents is refused here, and only what can be told from the sender and the country alone. Whether the
account owns a number, has registered a name (Singapore, the United Kingdom) or leases a short code in that country is
Plivo's to answer.
"""

import re
from dataclasses import dataclass
from typing import Literal

from smsapi.sms.phone import InvalidNumber, is_toll_free, parse_number

SenderKind = Literal["long_code", "toll_free", "short_code", "alphanumeric"]

# Lengths of the numbers that libphonenumber's short-number plans list for text services: 3 to 8 digits everywhere (one
# country has longer ones besides). US and Canadian codes have 5 or 6.
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
# At most 11 of A-Z, a-z, 0-9 (Plivo's send API drops anything else in silence); without a letter it would be a number.
_ALPHANUMERIC = re.compile(r"(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,11}")

_INDIA_HEADER = re.compile(r"[A-Za-z]{6}")
_INDIA_SHORT_CODE_DIGITS = 6

# Plivo: never in the United States and Canada, where a sender must be a Plivo number; in Brazil by an older page of
# Plivo's alone, kept because nothing newer says otherwise and a refusal costs less than a text that never arrives.
_NO_ALPHANUMERIC = {"US": "the United States", "CA": "Canada", "BR": "Brazil"}


class InvalidSender(ValueError):
    """This can't be the sender of any text; the message says why, and never repeats the value."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who a text is from.

    ``country`` is the number's (ISO 3166-1 alpha-2), ``None`` for a number of no country, a short code and an
    alphanumeric sender. North American toll-free numbers are US ones: the plan does not tell the two countries apart.
    """

    value: str
    kind: SenderKind
    country: str | None


def classify_sender(value: str) -> Sender:
    """Return the sender with its kind: an E.164 number, a short code (3 to 8 digits) or 1 to 11 letters and digits.

    A number comes back in its canonical form.

    Raises InvalidSender, with a sentence for the caller, for anything else. Case is kept: Indian headers depend on it.
    """
    if value.startswith("+"):
        return _number_sender(value)
    if _SHORT_CODE.fullmatch(value):
        return Sender(value, "short_code", None)
    if _ALPHANUMERIC.fullmatch(value):
        return Sender(value, "alphanumeric", None)
    if value.isascii() and value.isdigit():
        raise InvalidSender(
            "The sender has neither the 3 to 8 digits of a short code nor the plus sign of a number in E.164 form."
        )
    raise InvalidSender(
        "The sender is none of these: a number in E.164 form such as +14155550100, a short code of 3 to 8 digits, "
        "or 1 to 11 of A-Z, a-z and 0-9 with at least one letter."
    )


def check_sender_for_country(sender: Sender, destination_country: str | None) -> str | None:
    """Return the sentence that says why this sender can't text that country, or ``None`` where nothing forbids it.

    ``destination_country`` is ISO 3166-1 alpha-2; a number of no country (``None``) has no rules. The rules are
    Plivo's sender ID and messaging compliance pages: no alphanumeric senders in the US, Canada and Brazil; no Canadian
    long codes to the US; in India a header of exactly 6 letters, or 6 digits for promotional texts. An ordinary number
    may text India: that is Plivo's international route.
    """
    if sender.kind == "alphanumeric" and destination_country in _NO_ALPHANUMERIC:
        return f"Alphanumeric senders can't be used in {_NO_ALPHANUMERIC[destination_country]}: send from a number."
    if destination_country == "US" and sender.kind == "long_code" and sender.country == "CA":
        return "Canadian long codes can't text the United States: send from a US or toll-free number."
    if destination_country == "IN":
        return _check_for_india(sender)
    return None


def _number_sender(value: str) -> Sender:
    try:
        number = parse_number(value)
    except InvalidNumber as error:
        raise InvalidSender(f"The sender is not a usable number. {error}") from error
    return Sender(number.e164, "toll_free" if is_toll_free(number) else "long_code", number.country)


def _check_for_india(sender: Sender) -> str | None:
    if sender.kind == "alphanumeric" and not _INDIA_HEADER.fullmatch(sender.value):
        return "A sender for India is a registered header of exactly 6 letters."
    if sender.kind == "short_code" and len(sender.value) != _INDIA_SHORT_CODE_DIGITS:
        return "A numeric sender for promotional texts in India has exactly 6 digits."
    return None

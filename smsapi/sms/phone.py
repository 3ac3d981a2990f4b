"""Phone numbers: E.164 in, the number and its country out.

Numbering plans come with the ``phonenumbers`` package and age with it. So the question asked by default is whether a
number is *possible* (the length fits its country), not whether it is *valid* (its range was in use when the package
was made): new ranges open every week.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, PhoneNumberType, ValidationResult

from smsapi.sms.text import trim

# ITU-T E.164: at most 15 digits, the country code first, which never begins with 0. ASCII digits only; use fullmatch.
E164 = re.compile(r"\+[1-9][0-9]{1,14}")

_NON_GEOGRAPHIC = "001"  # what the package calls the region of satellite and other worldwide country codes
_REMEMBERED = 8192
_LONGEST_CODE = 3
_SHORTEST_REST = 2


class InvalidNumber(ValueError):
    """This is no phone number to send to or from; the message says why, and never repeats the number."""


@dataclass(frozen=True, slots=True)
class Number:
    """A phone number in E.164 and the country it belongs to.

    ``country`` is an ISO 3166-1 alpha-2 code, ``None`` for numbers of no country (satellite, worldwide freephone).
    A number in a range that the numbering plans do not know belongs to the main country of its code (+1: US).
    """

    e164: str
    country: str | None


def unwrap_number(written: str) -> str:
    """Return a number, or a sender, without the white space and the invisible characters that were pasted around it.

    Address books put marks of direction around a number (U+202A, U+202C), web pages spaces that do not break. Every
    door calls this before it reads a number. What is within the number stays, and is refused by :func:`parse_number`.
    """
    return trim(written)


def parse_number(value: str, *, strict: bool = False) -> Number:
    """Return the number, which must be E.164 and possible in its country; with ``strict``, valid there too.

    Raises InvalidNumber otherwise, with a sentence for the caller. One number has one spelling: a national prefix
    after the country code (+44 0…) is refused and not repaired, so that an opt-out can't be missed by a digit.
    """
    return _parse(value, strict)


def is_toll_free(number: Number) -> bool:
    """Return whether the number lies in a freephone range of its country's plan."""
    return _number_type(number.e164) == PhoneNumberType.TOLL_FREE


def is_country(code: str) -> bool:
    """Return whether a ``Number`` may carry this country code (ISO 3166-1 alpha-2, upper case)."""
    return code in phonenumbers.SUPPORTED_REGIONS


@lru_cache(maxsize=_REMEMBERED)
def _parse(value: str, strict: bool) -> Number:  # noqa: FBT001  a cache keys on positions
    if E164.fullmatch(value) is None:
        raise InvalidNumber(
            "The number is not in E.164 form: a plus sign, the country code and the number, "
            "digits only and at most 15 of them, such as +14155550100."
        )
    parsed = _read(value)
    country = _country(parsed)
    place = f"country ({country})" if country else f"country code (+{parsed.country_code})"
    reason = phonenumbers.is_possible_number_with_reason(parsed)
    if reason != ValidationResult.IS_POSSIBLE:
        raise InvalidNumber(_IMPOSSIBLE.get(reason, "The number is not possible in its {place}.").format(place=place))
    if phonenumbers.format_number(parsed, PhoneNumberFormat.E164) != value:
        raise InvalidNumber(
            "The number is not in E.164 form: it has a national prefix between its country code and the number "
            f"proper, where its {place} has none."
        )
    if strict and not phonenumbers.is_valid_number(parsed):
        raise InvalidNumber(f"The number is in no range that is in use in its {place}.")
    return Number(value, country)


_IMPOSSIBLE = {
    ValidationResult.TOO_SHORT: "The number is too short for its {place}.",
    ValidationResult.TOO_LONG: "The number is too long for its {place}.",
    ValidationResult.INVALID_LENGTH: "The number has a length that its {place} does not use.",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "The number is too short for its {place}: it lacks its area code.",
}


def _read(value: str) -> PhoneNumber:
    # The package reads whatever people write. Of a number in E.164 it changes nothing but a national prefix; where
    # there is none, that reading is most of the work and for nothing.
    plain = _read_plain(value)
    return _read_any(value) if plain is None else plain


def _read_plain(value: str) -> PhoneNumber | None:
    """Return what the package would read, or None where only the package can tell."""
    for end in range(2, _LONGEST_CODE + 2):
        if (code := int(value[1:end])) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            break
    else:
        return None
    rest, prefix = value[end:], _national_prefix(code)
    if len(rest) < _SHORTEST_REST or (prefix is not None and prefix.match(rest)):
        return None
    # Of nothing but zeros the last is the number itself.
    zeros = len(rest) - len(rest[:-1].lstrip("0")) - 1
    return PhoneNumber(
        country_code=code,
        national_number=int(rest),
        italian_leading_zero=True if zeros else None,
        number_of_leading_zeros=zeros if zeros > 1 else None,
    )


@cache
def _national_prefix(code: int) -> re.Pattern[str] | None:
    region = phonenumbers.region_code_for_country_code(code)
    plan = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    pattern = None if plan is None else plan.national_prefix_for_parsing
    return re.compile(pattern) if pattern else None


def _read_any(value: str) -> PhoneNumber:
    try:
        return phonenumbers.parse(value)
    except NumberParseException as error:
        if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
            raise InvalidNumber("The number begins with a country code that does not exist.") from None
        raise InvalidNumber("The number is too short to be a phone number.") from None


def _country(parsed: PhoneNumber) -> str | None:
    region = phonenumbers.region_code_for_number(parsed) or phonenumbers.region_code_for_country_code(
        parsed.country_code or 0
    )
    return None if region == _NON_GEOGRAPHIC else region


@lru_cache(maxsize=_REMEMBERED)
def _number_type(e164: str) -> int:
    return phonenumbers.number_type(phonenumbers.parse(e164))

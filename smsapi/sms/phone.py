"""Phone numbers: one reader for each way in which a number comes, and one canonical form out, E.164 with its ``+``.

:func:`parse_number` reads the number of a text that is to be sent, :func:`read_number` one that is looked for, opted
out or erased, :func:`read_provider_number` one as Plivo writes it. What one of them returns, the others return too.

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
# Mexico's mobile numbers had a 1 between country code and number until August 2019, and phones,
# address books and carriers still write it. The plan has ten digits, so that nothing else can be meant.
_FORMER_MEXICAN = re.compile(r"\+521([1-9][0-9]{9})")
_MEXICAN = re.compile(r"\+52([1-9][0-9]{9})")
# No country has a shorter number, whatever becomes of its plan.
_FEWEST_DIGITS = 7
# Of digits without a plus sign, that no plan knows: so many and fewer are a short code.
_MOST_DIGITS_OF_SHORT_CODE = 8
_SEPARATORS = re.compile(r"[-. ()/]")


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

    Raises InvalidNumber otherwise, with a sentence for the caller. Mexico's former mobile form (+52 1 and ten digits)
    comes back as today's. A national prefix after the country code (+44 0…) is refused and not repaired.
    """
    return _parse(value, strict)


def read_number(value: str) -> str:
    """Return the number in its canonical form, also one that its country's plan does not know (any more).

    It must be E.164 of at least seven digits; a national prefix is taken out where the number is possible without it.
    Raises InvalidNumber otherwise, with a sentence for the caller.
    """
    try:
        return parse_number(value).e164
    except InvalidNumber:
        if E164.fullmatch(value) is None:
            raise
    if len(value) <= _FEWEST_DIGITS:
        raise InvalidNumber("The number is too short to be a phone number.")
    return _without_national_prefix(value)


def read_provider_number(shown: str) -> str | None:
    """Return the canonical form of a number as Plivo writes it, with or without a plus sign; None for other senders.

    Digits that no plan knows are a number from nine of them on, and otherwise a short code. The 00 of an international
    call stands for the plus sign: no number begins so.
    """
    written = _SEPARATORS.sub("", shown) if shown.startswith("+") else shown
    written = f"+{written[2:]}" if written.startswith("00") else written
    number = f"+{written.removeprefix('+')}"
    try:
        if written == number or len(written) > _MOST_DIGITS_OF_SHORT_CODE:
            return read_number(number)
        return parse_number(number).e164
    except InvalidNumber:
        return None


def spellings(e164: str) -> tuple[str, ...]:
    """Return every form of a canonical number that is read as this number, itself first.

    For what was written before there was one form (stored events, masked receipts); what is stored now has one.
    """
    former = _MEXICAN.fullmatch(e164)
    forms = (e164,) if former is None else (e164, f"+521{former[1]}")
    return (*forms, *(form.removeprefix("+") for form in forms))


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
    value = _FORMER_MEXICAN.sub(r"+52\1", value) if _FORMER_MEXICAN.fullmatch(value) else value
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


def _without_national_prefix(value: str) -> str:
    try:
        parsed = _read(value)
    except InvalidNumber:  # a country code that does not exist, or no longer
        return value
    possible = phonenumbers.is_possible_number(parsed)
    return phonenumbers.format_number(parsed, PhoneNumberFormat.E164) if possible else value


def _country(parsed: PhoneNumber) -> str | None:
    region = phonenumbers.region_code_for_number(parsed) or phonenumbers.region_code_for_country_code(
        parsed.country_code or 0
    )
    return None if region == _NON_GEOGRAPHIC else region


@lru_cache(maxsize=_REMEMBERED)
def _number_type(e164: str) -> int:
    return phonenumbers.number_type(phonenumbers.parse(e164))

import re
from contextlib import suppress

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smsapi.sms.phone import (
    E164,
    InvalidNumber,
    Number,
    _read_any,
    _read_plain,
    is_country,
    is_toll_free,
    parse_number,
    read_number,
    read_provider_number,
    spellings,
)
from tests.support.examples import many

EXAMPLES = sorted(
    phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    for region in phonenumbers.SUPPORTED_REGIONS
    if (example := phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE))
)


@pytest.mark.parametrize(
    ("value", "country"),
    [
        ("+14155550100", "US"),
        ("+14165550100", "CA"),
        ("+18095550100", "DO"),
        ("+447400123456", "GB"),
        ("+390612345678", "IT"),  # the zero belongs to an Italian number
        ("+919876543210", "IN"),
        ("+5511987654321", "BR"),
        ("+77012345678", "KZ"),
        ("+8816512345678", None),  # satellite
        ("+80012345678", None),  # worldwide freephone
    ],
)
def test_a_number_knows_its_country(value, country):
    assert parse_number(value) == Number(value, country)


@pytest.mark.parametrize("last_four", [f"{outcome:04}" for outcome in range(1, 12)])
@pytest.mark.parametrize("prefix", ["+1500555", "+1202555", "+1415555"])
def test_the_magic_test_numbers_are_possible(prefix, last_four):
    assert parse_number(prefix + last_four).country == "US"


def test_every_countrys_example_mobile_number_parses_to_itself():
    assert len(EXAMPLES) > 200
    for value in EXAMPLES:
        assert parse_number(value, strict=True).e164 == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "+",
        "+1",
        "14155550100",
        "0014155550100",
        "+04155550100",
        "+1 415 555 0100",
        "+1-415-555-0100",
        "+1(415)5550100",
        "tel:+14155550100",
        "+14155550100\n",
        " +14155550100",
        "+14155550100;ext=1",
        "+1415555010a",
        "+1800FLOWERS",
        "+١٤١٥٥٥٥٠١٠٠",
        "＋14155550100",  # noqa: RUF001
        "+1415555０100",  # noqa: RUF001
        "+1234567890123456",
        "+14155550100<+14155550101",
    ],
)
def test_a_number_in_another_form_is_refused(value):
    with pytest.raises(InvalidNumber, match=r"not in E\.164 form: a plus sign"):
        parse_number(value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("+1415555010", "too short for its country (US)"),
        ("+141555501001", "too long for its country (US)"),
        ("+52155123456789", "too long for its country (MX)"),
        ("+12", "too short to be a phone number"),
        ("+999123456", "country code that does not exist"),
        ("+80012", "too short for its country code (+800)"),
        ("+13101234", "it lacks its area code"),
    ],
)
def test_an_impossible_number_is_refused_with_the_reason(value, sentence):
    with pytest.raises(InvalidNumber) as refused:
        parse_number(value)

    assert sentence in str(refused.value)


@pytest.mark.parametrize("value", ["+4407400123456", "+114155550100", "+86013812345678", "+4901711234567"])
def test_a_national_prefix_after_the_country_code_is_refused_and_not_repaired(value):
    # Two spellings of one number would let the second one slip past an opt-out of the first.
    with pytest.raises(InvalidNumber, match="national prefix"):
        parse_number(value)


def test_an_unassigned_range_is_possible_but_not_valid():
    assert parse_number("+11234567890") == Number("+11234567890", "US")
    with pytest.raises(InvalidNumber, match="no range that is in use"):
        parse_number("+11234567890", strict=True)


@pytest.mark.parametrize("value", ["+5215512345678", "+525512345678"])
def test_a_former_mexican_mobile_number_is_read_as_today_s(value):
    assert parse_number(value) == Number("+525512345678", "MX")
    assert parse_number(value, strict=True).e164 == "+525512345678"


@pytest.mark.parametrize("value", ["+2250707123456", "+2250102123456", "+2290197123456", "+2290121123456"])
def test_the_plans_of_ivory_coast_since_2021_and_of_benin_since_2024_are_known(value):
    assert parse_number(value, strict=True).e164 == value


@settings(max_examples=many(200))
@given(st.one_of(st.from_regex(E164, fullmatch=True), st.sampled_from(EXAMPLES)))
def test_the_readers_agree_on_the_form_and_reading_it_again_changes_nothing(value):
    try:
        canonical = read_number(value)
    except InvalidNumber:
        assert len(value) < 8
        return
    assert read_number(canonical) == canonical == read_provider_number(canonical)
    assert canonical == read_provider_number(value)
    assert all(read_number(form) == canonical for form in spellings(canonical) if form.startswith("+"))
    if len(canonical) > 9:
        assert all(read_provider_number(form) == canonical for form in spellings(canonical))
    with suppress(InvalidNumber):  # some are not to be texted, and found all the same
        assert parse_number(value).e164 == canonical


@pytest.mark.parametrize(
    "shown", ["12345", "67076", "12345678", "+12345", "T-Mobile", "0712345678", "1234567890123456", ""]
)
def test_a_short_code_or_a_name_is_no_number(shown):
    assert read_provider_number(shown) is None


def refusal(value):
    try:
        assert parse_number(value).e164 in {value, value.replace("+521", "+52", 1)}
    except InvalidNumber as error:
        return str(error)
    return ""


@given(st.one_of(st.text(max_size=20), st.from_regex(E164, fullmatch=True), st.from_regex(r"\+[2-9][0-9]{5,19}")))
def test_any_text_is_a_number_or_an_invalid_one_and_no_refusal_repeats_it(value):
    # Five digits and more would let a reader of a log find the person; the sentence's own example has eleven.
    said = refusal(value).replace("+14155550100", "")

    assert not re.search(r"[0-9]{5}", said)
    assert len(value) < 6 or value not in said


def test_toll_free_numbers_are_told_from_others():
    assert is_toll_free(parse_number("+18005550100"))
    assert is_toll_free(parse_number("+448081570192"))
    assert not is_toll_free(parse_number("+14155550100"))
    assert not is_toll_free(parse_number("+11234567890"))


def test_countries_are_known_by_their_iso_codes():
    assert is_country("GB")
    assert not any(is_country(code) for code in ("UK", "gb", "", "001", "EU"))


def all_that_may_be_asked():
    """Numbers of every country code, long and short, with every beginning that a national prefix may have."""
    for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        given = {f"+{code}{example.national_number}" for region in regions for example in examples_of(region, code)}
        for digits in (*(f"{start:02}" for start in range(100)), *(f"{start:03}" for start in range(0, 1000, 9))):
            given.add(f"+{code}{digits}"[:16])
            given.add(f"+{code}{digits}{'5551234'}"[:16])
            given.add(f"+{code}{digits}{'0000000000'}"[:16])
        yield from sorted(given)


def examples_of(region, code):
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    found = [phonenumbers.example_number_for_type(region, kind) for kind in kinds]
    return [each for each in (*found, phonenumbers.example_number_for_non_geo_entity(code)) if each is not None]


def test_the_short_way_to_read_a_number_gives_what_the_long_one_does_wherever_it_is_taken():
    short = plain = 0
    for value in all_that_may_be_asked():
        quick = _read_plain(value)
        short += quick is not None
        plain += 1
        assert quick is None or quick == _read_any(value), value
    assert plain > 100_000
    # Otherwise it would prove nothing, and save nothing.
    assert short > plain * 0.7


@settings(max_examples=many(120))
@given(st.from_regex(E164, fullmatch=True))
def test_no_number_is_read_otherwise_by_the_short_way(value):
    quick = _read_plain(value)
    assert quick is None or quick == _read_any(value)

import dataclasses
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.sms.prices import InvalidPriceList, Price, PriceList

LIST = {"currency": "USD", "default": "0.05", "countries": {"US": "0.0079", "DE": "0.00350", "JP": "0"}}


@pytest.mark.parametrize(
    ("country", "segments", "text"),
    [
        ("US", 1, "0.0079"),
        ("US", 3, "0.0237"),
        ("DE", 1, "0.00350"),
        ("DE", 1000, "3.50000"),
        ("FR", 2, "0.10"),
        (None, 1, "0.05"),
        ("JP", 5, "0"),
        ("US", 0, "0.0000"),
    ],
)
def test_a_text_costs_its_segments_at_the_rate_of_the_country(country, segments, text):
    price = PriceList.from_mapping(LIST).estimate(country, segments)

    assert price == Price(Decimal(text), "USD")
    assert price.text == text


def test_without_a_default_other_countries_have_no_price():
    prices = PriceList.from_mapping({"currency": "EUR", "countries": {"DE": "0.07"}})

    assert prices.estimate("US", 1) is None
    assert prices.estimate(None, 1) is None
    assert prices.estimate("DE", 1) == Price(Decimal("0.07"), "EUR")


def test_a_default_of_zero_is_a_price_and_null_is_none():
    assert PriceList.from_mapping({"currency": "USD", "default": "0"}).estimate("US", 2) == Price(Decimal(0), "USD")
    assert PriceList.from_mapping({"currency": "USD", "default": None}).estimate("US", 2) is None


def test_a_negative_count_of_segments_is_a_mistake():
    with pytest.raises(ValueError, match="negative"):
        PriceList.from_mapping(LIST).estimate("US", -1)


def test_a_million_texts_cost_what_one_costs_times_a_million():
    prices = PriceList.from_mapping({"currency": "USD", "default": "999999999.99999"})

    assert prices.estimate("US", 11_000_000).text == "10999999999999890.00000"


def test_all_faults_are_named_at_once():
    with pytest.raises(InvalidPriceList) as refused:
        PriceList.from_mapping(
            {"currency": "dollars", "default": 0.05, "countries": {"UK": "0.04", "us": "0.01", "DE": "-1"}, "rates": {}}
        )

    message = str(refused.value)
    for fault in (
        "unknown field 'rates'",
        "currency: three capital letters",
        "default: the price must be a string",
        "countries: 'UK' is not",
        "countries: 'us' is not",
        "countries: DE: the price must be a string",
    ):
        assert fault in message


@pytest.mark.parametrize("source", [None, [], "USD", 3, {}, {"currency": "USD", "countries": ["US"]}, {1: 2}])
def test_a_list_of_another_shape_is_refused(source):
    with pytest.raises(InvalidPriceList):
        PriceList.from_mapping(source)


def test_a_list_is_read_from_a_file(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(LIST), encoding="utf-8")

    assert PriceList.from_file(path) == PriceList.from_mapping(LIST)


def test_a_file_that_is_missing_or_no_json_is_refused_with_its_reason(tmp_path):
    with pytest.raises(InvalidPriceList, match="No such file"):
        PriceList.from_file(tmp_path / "missing.json")
    for content in (b"", b"{", b"\xff\xfe\xff", b"not json"):
        with pytest.raises(InvalidPriceList, match="can't be read"):
            PriceList.from_json(content)


def test_two_prices_for_one_country_are_refused():
    with pytest.raises(InvalidPriceList, match="US given twice"):
        PriceList.from_json('{"currency": "USD", "countries": {"US": "0.01", "DE": "0.07", "US": "0.02"}}')


def test_a_list_cannot_be_changed_after_it_was_checked():
    prices = PriceList.from_mapping(LIST)

    with pytest.raises(TypeError):
        prices.countries["US"] = Decimal(0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        prices.default = Decimal(0)


@given(
    st.decimals(min_value=0, max_value=Decimal("999999999.99999"), places=5), st.integers(min_value=0, max_value=10**9)
)
def test_an_estimate_is_exact(rate, segments):
    price = PriceList.from_mapping({"currency": "USD", "default": format(rate, "f")}).estimate("US", segments)

    assert int(price.amount.scaleb(5)) == int(rate.scaleb(5)) * segments

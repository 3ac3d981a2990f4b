"""What a text is expected to cost, by the operator's own price list, in exact decimals.

An estimate, never the bill: Plivo's receipts carry the price that was charged.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Self

from smsapi.sms.phone import is_country

# Plivo writes rates and amounts as strings with at most five decimals ("0.00350"). Nine digits before the point keep
# every product with a count of segments exact in the default decimal context of 28 digits.
_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,5})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_FIELDS = frozenset({"currency", "default", "countries"})


class InvalidPriceList(ValueError):
    """A price list can't be used; the message names every fault in it."""


@dataclass(frozen=True, slots=True)
class Price:
    """An amount of money; ``currency`` is ISO 4217."""

    amount: Decimal
    currency: str

    @property
    def text(self) -> str:
        """Return the amount as the API shows it: plain digits, the decimals as in the list, no exponent."""
        return format(self.amount, "f")


@dataclass(frozen=True, slots=True)
class PriceList:
    """The price of one segment by destination country, and of every other country where there is a default."""

    currency: str
    default: Decimal | None
    countries: Mapping[str, Decimal]

    @classmethod
    def from_mapping(cls, source: object) -> Self:
        """Return the list that a mapping describes, as it comes from JSON.

        ``{"currency": "USD", "default": "0.05", "countries": {"US": "0.0079"}}``: a currency (ISO 4217), optionally a
        default, optionally prices by country (ISO 3166-1 alpha-2, upper case); prices are decimal strings. Raises
        InvalidPriceList with all faults at once.
        """
        if not isinstance(source, Mapping):
            raise InvalidPriceList("The price list is not a JSON object.")
        faults = [f"unknown field {name!r}" for name in source if name not in _FIELDS]
        currency = source.get("currency")
        if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
            faults.append('currency: three capital letters are needed, such as "USD"')
            currency = ""
        default = None if source.get("default") is None else _price(source["default"], "default", faults)
        countries = _prices(source.get("countries", {}), faults)
        if faults:
            raise InvalidPriceList(f"The price list can't be used: {'; '.join(faults)}.")
        return cls(currency, default, MappingProxyType(countries))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the list that a JSON text describes, by the rules of ``from_mapping``.

        Raises InvalidPriceList, also where the text is no JSON or has one name twice: which of two prices was meant
        can't be known.
        """
        try:
            source = json.loads(text, object_pairs_hook=_no_name_twice)
        except ValueError as error:  # malformed JSON, and bytes that are not UTF-8
            raise InvalidPriceList(f"The price list can't be read: {error}.") from error
        return cls.from_mapping(source)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Return the list in a UTF-8 JSON file; raises InvalidPriceList, also where the file can't be read."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InvalidPriceList(f"The price list {path} can't be read: {error.strerror}.") from error
        return cls.from_json(content)

    def estimate(self, country: str | None, segments: int) -> Price | None:
        """Return what so many segments to one number of that country cost, or ``None`` where the list does not say.

        A number of no country (``None``) costs the default. Raises ValueError for a negative count of segments.
        """
        if segments < 0:
            raise ValueError(f"segments must not be negative, got {segments}")
        rate = self.default if country is None else self.countries.get(country, self.default)
        return None if rate is None else Price(rate * segments, self.currency)


def _price(value: object, name: str, faults: list[str]) -> Decimal:
    """Return the price, or write down what is wrong with it; a JSON number is wrong because it is a binary fraction."""
    if isinstance(value, str) and _AMOUNT.fullmatch(value):
        return Decimal(value)
    faults.append(f'{name}: the price must be a string with at most five decimals, such as "0.0079"')
    return Decimal(0)


def _prices(source: object, faults: list[str]) -> dict[str, Decimal]:
    if not isinstance(source, Mapping):
        faults.append("countries: an object of prices by country is needed")
        return {}
    # UK for GB is the usual slip, and would go unnoticed: those texts would cost the default.
    faults.extend(
        f"countries: {code!r} is not an ISO 3166-1 alpha-2 country code in capitals"
        for code in source
        if not (isinstance(code, str) and is_country(code))
    )
    return {code: _price(value, f"countries: {code}", faults) for code, value in source.items()}


def _no_name_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} given twice")
    return dict(pairs)

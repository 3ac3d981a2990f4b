"""Orders of batches, as plain values: what a caller asks to be sent to many."""

from dataclasses import dataclass
from typing import NamedTuple

from smsapi.send.order import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOrder:
    """A batch as it was asked for, without its recipients; the schema has checked its form, nothing else is decided.

    ``message`` is what all have in common: its text is the template, and it has no number and no reference.
    """

    message: Order
    all_or_nothing: bool
    dry_run: bool


class Given(NamedTuple):
    """One recipient as it was written. ``row`` is its number as the caller counts.

    Of a row of a CSV that ends early ``short`` says so; it has no variable for the cells that are not there.
    """

    row: int
    to: str
    variables: dict[str, str | None]
    reference: str | None
    short: str | None = None


class Broken(NamedTuple):
    """A row that is no recipient: ``value`` is what stands there for a number, ``message`` says what is wrong."""

    row: int
    value: str
    message: str

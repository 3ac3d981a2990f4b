"""What would leave if an order were taken, and every reason not to take it: a pure function of values."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from smsapi.auth.models import Client
from smsapi.errors import (
    CountryNotAllowed,
    InvalidInput,
    PriceTooHigh,
    Refused,
    SenderNotAllowed,
    TextTooLong,
    TooManySegments,
)
from smsapi.messages.models import Message
from smsapi.messages.present import MICROS
from smsapi.send.order import Order
from smsapi.settings import Settings
from smsapi.sms.encoding import Measured, measure, smart_encode
from smsapi.sms.phone import InvalidNumber, Number, parse_number
from smsapi.sms.prices import Price, PriceList
from smsapi.sms.sender import InvalidSender, Sender, check_sender_for_country, classify_sender

SENDER_REFUSED: Final = "The client may not use this sender: it is not one of its allowed senders, nor its default."
FURTHEST_AHEAD = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One message as it would leave. ``refusals`` empty: it may."""

    number: Number
    sender: Sender | None
    text: str
    measured: Measured
    price: Price | None
    refusals: tuple[Refused, ...]


def plan(order: Order, client: Client, settings: Settings, prices: PriceList | None, *, now: datetime) -> Plan:
    """Return the plan for an order.

    Raises:
        InvalidInput: the number is not one, by the strict rule where the settings ask for it; or ``send_at`` is over,
            or more than 30 days ahead.

    """
    if order.send_at is not None and not now < order.send_at <= now + FURTHEST_AHEAD:
        raise InvalidInput.at("/send_at", "Must be in the future, at most 30 days ahead.")
    try:
        number = parse_number(order.to, strict=settings.strict_numbers)
    except InvalidNumber as error:
        raise InvalidInput.at("/to", str(error)) from None
    # A text of nothing but invisible characters would be encoded to nothing, which cannot be sent.
    text = (order.smart_encoding and smart_encode(order.text)) or order.text
    measured = measure(text)
    sender = _sender(order, client, settings)
    price = None if prices is None else prices.estimate(number.country, measured.segments)
    found = (
        _refuse_sender(order, sender, number, client.senders(settings.plivo_sender_id)),
        _refuse_country(number, client, settings),
        _refuse_length(measured, settings),
        _refuse_segments(measured, order.max_segments),
        _refuse_price(price, order),
    )
    refusals = tuple(refusal for refusal in found if refusal is not None)
    return Plan(number=number, sender=sender, text=text, measured=measured, price=price, refusals=refusals)


def planned_columns(order: Order, decided: Plan) -> dict[str, Any]:
    """Return the columns of a message that say what is sent, to whom and how: of an order that was not refused."""
    if decided.sender is None:
        raise TypeError("an order without a sender was planned without a refusal")
    price = decided.price
    return {
        "to_number": order.to,
        "country": decided.number.country,
        "sender": decided.sender.value,
        "text": decided.text,
        "category": order.category,
        "on_unknown": order.on_unknown,
        "encoding": decided.measured.encoding,
        "segments": decided.measured.segments,
        "price_micros": None if price is None else int(price.amount * MICROS),
        "price_currency": None if price is None else price.currency,
        "reference": order.reference,
        "metadata": order.metadata,
        "dlt": order.dlt,
    }


def _sender(order: Order, client: Client, settings: Settings) -> Sender | None:
    value = next((v for v in (order.sender, client.default_sender, settings.plivo_sender_id) if v is not None), None)
    try:
        return None if value is None else classify_sender(value)
    except InvalidSender:
        # A default whose form was right when it was set, and which is no possible number all the same.
        return None


def _refuse_sender(order: Order, sender: Sender | None, number: Number, allowed: AbstractSet[str]) -> Refused | None:
    if sender is None:
        return SenderNotAllowed("No usable sender: name one in from, or give the client a default sender.")
    if sender.value == order.to:
        return SenderNotAllowed("A message cannot go from a number to itself.")
    # A default is no way around it, neither the client's nor the whole service's.
    if sender.value not in allowed:
        return SenderNotAllowed(SENDER_REFUSED)
    reason = check_sender_for_country(sender, number.country)
    return None if reason is None else SenderNotAllowed(reason)


def _refuse_country(number: Number, client: Client, settings: Settings) -> Refused | None:
    return _country_refusal(number.country, client.allowed_countries, settings)


def _country_refusal(country: str | None, of_client: Sequence[str] | None, settings: Settings) -> Refused | None:
    where = f"Country {country}" if country is not None else "A number of no country"
    if settings.allowed_countries and country not in settings.allowed_countries:
        return CountryNotAllowed(f"{where} is not allowed on this service.")
    if of_client is not None and country not in of_client:
        return CountryNotAllowed(f"{where} is not allowed for this client.")
    return None


def refusal_when_due(
    message: Message,
    settings: Settings,
    *,
    allowed_senders: Sequence[str] | None,
    allowed_countries: Sequence[str] | None,
) -> Refused | None:
    """Return the refusal that a stored message meets when its turn comes, or None.

    What it needs may have been taken from its client, or from the service, since it was accepted.
    The lists are its client's as they are now (None: any). All else was decided when it was taken, and holds.
    """
    if allowed_senders is not None and message.sender not in allowed_senders:
        return SenderNotAllowed("The client may not use this sender.")
    return _country_refusal(message.country, allowed_countries, settings)


def _refuse_length(measured: Measured, settings: Settings) -> Refused | None:
    cap = settings.gsm7_max_units if measured.encoding == "gsm7" else settings.ucs2_max_units
    if measured.units <= cap:
        return None
    unit = "septets in GSM-7" if measured.encoding == "gsm7" else "code units in UCS-2"
    return TextTooLong(f"The text has {measured.units} {unit}; at most {cap} can be sent.")


def _refuse_segments(measured: Measured, most: int | None) -> Refused | None:
    if most is None or measured.segments <= most:
        return None
    return TooManySegments(f"The text needs {measured.segments} segments; max_segments is {most}.")


def _refuse_price(price: Price | None, order: Order) -> Refused | None:
    if order.max_price is None:
        return None
    if price is None:
        return PriceTooHigh("The price to this number is not known, so max_price cannot be kept.")
    if price.amount <= order.max_price:
        return None
    return PriceTooHigh(f"The message would cost {price.text} {price.currency}; max_price is {order.max_price}.")

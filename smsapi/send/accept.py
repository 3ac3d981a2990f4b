"""Taking a message: replay, refusal or a row, an event and the idempotency key in one transaction."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from smsapi.auth.models import Caller
from smsapi.deps import Deps
from smsapi.errors import ProviderAccount, RejectedByProvider, SmsapiError
from smsapi.ids import new_id, show_id
from smsapi.messages.models import Message
from smsapi.messages.present import MICROS, present_message
from smsapi.messages.statuses import QUEUED
from smsapi.messages.store import add_event, add_message, get_message
from smsapi.send.order import Order
from smsapi.send.plan import Plan, plan
from smsapi.web.answers import Answer, answer
from smsapi.web.idempotency import Abandoned, Claim, begin, finish
from smsapi.web.prefer import Preference
from smsapi.web.problems import render

# How much longer than its caller's patience a request may take before it counts as dead.
_GRACE_SECONDS = 5.0

_REFUSALS: dict[str, type[SmsapiError]] = {error.code: error for error in (RejectedByProvider, ProviderAccount)}


@dataclass(frozen=True, slots=True)
class Taken:
    """A new message, stored; ``held`` says that it is under this request's own lease, to be delivered at once."""

    message: Message
    held: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer that the first request with this key got, or would have."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Declined:
    """The order was refused; nothing of it is stored but the answer to its key."""

    answer: Answer


def accept(
    world: Deps, caller: Caller, order: Order, *, claim: Claim | None, preference: Preference, request_id: str
) -> Taken | Replayed | Declined:
    """Store the message, durably, or say why not.

    With ``preference.wait_seconds`` the message is under the lease of this request, epoch 1, and the caller of this
    function has to deliver it; without, a dispatcher will.

    Raises:
        InvalidInput: the number is not one.
        IdempotencyKeyReused, IdempotencyInProgress: as :func:`smsapi.web.idempotency.begin` says.

    """
    decided = plan(order, caller.client, world.settings, world.prices)
    held = preference.wait_seconds is not None
    message = None if decided.refusals else _message(world, caller, order, decided, held=held)
    with world.database.transaction() as connection:
        if claim is not None:
            found = _begin(world, connection, claim, message, preference)
            if found is not None:
                return found
        if message is None:
            declined = render(decided.refusals[0], request_id)
            if claim is not None:
                finish(connection, claim, declined)
            return Declined(declined)
        add_message(connection, message)
        add_event(connection, message, "message.queued", message.created_at, {})
        if claim is not None and preference.wait_seconds is None:
            finish(connection, claim, answer_for(message, preference, request_id))
    world.metrics.count_message(QUEUED, test=message.test)
    return Taken(message, held=held)


def _begin(
    world: Deps, connection: Connection, claim: Claim, message: Message | None, preference: Preference
) -> Replayed | None:
    found = begin(
        connection,
        world.database,
        claim,
        now=world.clock.now(),
        lock_seconds=(preference.wait_seconds or 0) + _GRACE_SECONDS,
        ttl_seconds=world.settings.idempotency_ttl_seconds,
        subject_id=None if message is None else message.id,
    )
    if isinstance(found, Answer):
        return Replayed(found)
    if isinstance(found, Abandoned):
        # The first request died before it could answer. What it would say is what its message is.
        made = get_message(connection, found.subject_id, client_id=claim.client_id)
        late = answer_for(made, preference, show_id("msg", made.id))
        finish(connection, claim, late)
        return Replayed(late)
    return None


def answer_for(message: Message, preference: Preference, request_id: str) -> Answer:
    """Return the answer that a send gets for how its message stands: 201, 202, or the refusal by Plivo."""
    shown = show_id("msg", message.id)
    refusal = _REFUSALS.get(message.error_code or "")
    if refusal is not None and message.status == "failed":
        return render(refusal(message.error_message or "Plivo refused the message."), request_id, message_id=shown)
    headers = {"Location": f"/v1/messages/{shown}"}
    if preference.applied is not None:
        headers["Preference-Applied"] = preference.applied
    settled = message.sent_at is not None
    return answer(present_message(message), 201 if settled else 202, headers)


def _message(world: Deps, caller: Caller, order: Order, decided: Plan, *, held: bool) -> Message:
    now = world.clock.now()
    lease = timedelta(seconds=world.settings.lease_seconds)
    price = decided.price
    if decided.sender is None:
        raise TypeError("an order without a sender was planned without a refusal")
    return Message(
        id=new_id(),
        client_id=caller.client.id,
        key_id=caller.key.id,
        test=not caller.key.live,
        to_number=order.to,
        country=decided.number.country,
        sender=decided.sender.value,
        text=decided.text,
        status=QUEUED,
        category=order.category,
        encoding=decided.measured.encoding,
        segments=decided.measured.segments,
        price_micros=None if price is None else int(price.amount * MICROS),
        price_currency=None if price is None else price.currency,
        price_estimated=True,
        provider_name=None,
        provider_uuid=None,
        provider_error_code=None,
        error_code=None,
        error_message=None,
        reference=order.reference,
        metadata=order.metadata,
        dlt=order.dlt,
        attempts=0,
        epoch=1 if held else 0,
        due_at=now + lease if held else now,
        expires_at=None if order.expires_in is None else now + timedelta(seconds=order.expires_in),
        created_at=now,
        updated_at=now,
        sent_at=None,
        delivered_at=None,
    )

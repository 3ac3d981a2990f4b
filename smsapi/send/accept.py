"""Taking a message: replay, refusal or a row, an event and the idempotency key in one transaction."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from smsapi.auth.models import Caller
from smsapi.deps import Deps
from smsapi.errors import (
    InvalidInput,
    ProviderAccount,
    QueueFull,
    RecipientOptedOut,
    RejectedByProvider,
    SmsapiError,
)
from smsapi.ids import new_id, show_id
from smsapi.messages.lanes import OTP, TEST, lane_of
from smsapi.messages.models import Message
from smsapi.messages.present import present_message
from smsapi.messages.statuses import QUEUED, SCHEDULED, SENDING
from smsapi.messages.store import add_event, add_message, get_message
from smsapi.optouts.ledger import refusal_of_message
from smsapi.send.intake import store_in_one_statement
from smsapi.send.order import Order, bounds_of
from smsapi.send.plan import Plan, plan, planned_columns
from smsapi.web.answers import Answer, answer
from smsapi.web.idempotency import Abandoned, Claim, answer_columns, begin, entry_of, finish, is_claimed
from smsapi.web.prefer import Preference
from smsapi.web.problems import render

# How much longer than its caller's patience a request may take before it counts as dead.
_GRACE_SECONDS = 5.0

_RETRY_FULL_SECONDS = 10
# Codes are of use now or not at all, and few; test messages are sent by nobody.
_NEVER_FULL = frozenset({OTP, TEST})

_REFUSALS: dict[str, type[SmsapiError]] = {
    error.code: error for error in (RejectedByProvider, ProviderAccount, RecipientOptedOut)
}


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


@dataclass(frozen=True, slots=True)
class _Asked:
    """What of a request goes into its answer."""

    preference: Preference
    request_id: str


def accept(
    world: Deps, caller: Caller, order: Order, *, claim: Claim | None, preference: Preference, request_id: str
) -> Taken | Replayed | Declined:
    """Store the message, durably, or say why not.

    With ``preference.wait_seconds`` the message is under the lease of this request, epoch 1, and the caller of this
    function has to deliver it; without, a dispatcher will.

    Raises:
        InvalidInput: the number is not one, or ``send_at`` is not in the future that may be planned.
        IdempotencyKeyReused, IdempotencyInProgress: as :func:`smsapi.web.idempotency.begin` says.
        QueueFull: so much waits that the message would for too long; nothing was taken.

    """
    asked = _Asked(preference, request_id)
    try:
        decided = plan(order, caller.client, world.settings, world.prices, now=world.clock.now())
    except InvalidInput as refused:
        if claim is None or not _is_known(world, claim):
            raise
        # It is a repetition: what was planned for a time has that time behind it by now, and its answer stands.
        return _decline(world, render(refused, request_id), claim, asked)
    # What is scheduled has nobody to wait for.
    held = preference.wait_seconds is not None and order.send_at is None
    if decided.refusals:
        return _decline(world, render(decided.refusals[0], request_id), claim, asked)
    message = _message(world, caller, order, decided, held=held)
    # What is for later is not in anybody's way now.
    if order.send_at is None and is_full(world, message.lane) and not _is_known(world, claim):
        raise QueueFull("Too much waits to be sent; try again later.", retry_after_seconds=_RETRY_FULL_SECONDS)
    given = None if held else answer_for(message, preference, request_id)
    entry = None if claim is None else _entry(world, claim, message, preference, given)
    world.checkpoint("accept.before")
    found = _store(world, message, claim, entry, request_id)
    world.checkpoint("accept.committed")
    if isinstance(found, Declined):
        return found
    if isinstance(found, Answer):
        return Replayed(found)
    if isinstance(found, Abandoned) and claim is not None:
        return _answer_late(world, found, claim, asked)
    world.metrics.count_message(message.status, test=message.test)
    return Taken(message, held=held)


def is_full(world: Deps, lane: int) -> bool:
    """Say whether a further message of this lane would wait behind too many, or behind one that waits too long."""
    load = None if lane in _NEVER_FULL else world.pressure.load(lane)
    if load is None:
        return False
    deepest, oldest = world.settings.queue_max_depth, world.settings.queue_max_age_seconds
    age = (world.clock.now() - load.oldest_due_at).total_seconds()
    return 0 < deepest <= load.waiting or 0 < oldest <= age


def _is_known(world: Deps, claim: Claim | None) -> bool:
    """Say whether the request is a repetition, which gets its answer however full the queue is."""
    if claim is None:
        return False
    with world.database.read() as connection:
        return is_claimed(connection, claim)


def _entry(world: Deps, claim: Claim, message: Message, preference: Preference, given: Answer | None) -> dict[str, Any]:
    return entry_of(
        claim,
        now=world.clock.now(),
        lock_seconds=(preference.wait_seconds or 0) + _GRACE_SECONDS,
        ttl_seconds=world.settings.idempotency_ttl_seconds,
        subject_id=message.id,
        given=given,
    )


def _store(
    world: Deps, message: Message, claim: Claim | None, entry: dict[str, Any] | None, request_id: str
) -> Answer | Abandoned | Declined | Literal["fresh"]:
    if world.database.is_postgresql:
        with world.database.statement() as connection:
            if store_in_one_statement(connection, message, entry):
                return "fresh"
    with world.database.transaction() as connection:
        refusal = refusal_of_message(connection, message)
        declined = None if refusal is None else render(refusal, request_id)
        if claim is not None and entry is not None:
            # What is refused has its answer at once, and no message to which that would belong.
            kept = entry if declined is None else {**entry, "subject_id": None, **answer_columns(declined)}
            found = begin(connection, world.database, claim, kept, now=world.clock.now())
            if found != "fresh":
                return found
            world.checkpoint("accept.keyed")
        if declined is not None:
            return Declined(declined)
        add_message(connection, message)
        add_event(connection, message, f"message.{message.status}", message.created_at, {})
    return "fresh"


def _decline(world: Deps, declined: Answer, claim: Claim | None, asked: _Asked) -> Replayed | Declined:
    if claim is None:
        return Declined(declined)
    now, ttl = world.clock.now(), world.settings.idempotency_ttl_seconds
    entry = entry_of(claim, now=now, lock_seconds=_GRACE_SECONDS, ttl_seconds=ttl, given=declined)
    with world.database.transaction() as connection:
        found = begin(connection, world.database, claim, entry, now=now)
    if isinstance(found, Abandoned):
        return _answer_late(world, found, claim, asked)
    return Declined(declined) if found == "fresh" else Replayed(found)


def _answer_late(world: Deps, found: Abandoned, claim: Claim, asked: _Asked) -> Replayed:
    """Answer for the first request, which died before it could: what it would say is what its message is."""
    with world.database.transaction() as connection:
        made = get_message(connection, found.subject_id, client_id=claim.client_id)
        late = answer_for(made, asked.preference, asked.request_id)
        kept = finish(connection, claim, late)
    world.checkpoint("late.committed")
    return Replayed(kept)


def answer_for(message: Message, preference: Preference, request_id: str) -> Answer:
    """Return the answer that a send gets for how its message stands: 201, 202, or the refusal by Plivo.

    A message whose call to Plivo is still out is shown as ``queued``, as is every one that goes on without its caller.
    """
    shown = show_id("msg", message.id)
    refusal = _REFUSALS.get(message.error_code or "")
    if refusal is not None and message.status == "failed":
        return render(refusal(message.error_message or "Plivo refused the message."), request_id, message_id=shown)
    headers = {"Location": f"/v1/messages/{shown}"}
    if preference.applied is not None:
        headers["Preference-Applied"] = preference.applied
    settled = message.sent_at is not None
    shown_as = replace(message, status=QUEUED) if message.status == SENDING else message
    return answer(present_message(shown_as), 201 if settled else 202, headers)


def _message(world: Deps, caller: Caller, order: Order, decided: Plan, *, held: bool) -> Message:
    now = world.clock.now()
    # To the millisecond, as it is shown: what is filtered by a shown time is then exact.
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    lease = timedelta(seconds=world.settings.lease_seconds)
    begins = order.send_at or now
    return Message(
        **planned_columns(order, decided),
        id=new_id(),
        client_id=caller.client.id,
        key_id=caller.key.id,
        test=not caller.key.live,
        status=QUEUED if order.send_at is None else SCHEDULED,
        lane=lane_of(order.category, test=not caller.key.live),
        price_estimated=True,
        provider_name=None,
        provider_uuid=None,
        provider_error_code=None,
        error_code=None,
        error_message=None,
        bounds=None if order.send_at is None else bounds_of(order),
        attempts=0,
        epoch=1 if held else 0,
        due_at=now + lease if held else begins,
        expires_at=None if order.expires_in is None else begins + timedelta(seconds=order.expires_in),
        created_at=now,
        updated_at=now,
        send_at=order.send_at,
        sent_at=None,
        delivered_at=None,
    )

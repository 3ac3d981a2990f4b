"""The whole of a send: take the message, deliver it while the caller waits, and answer with what came of it."""

import contextvars
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import timedelta
from typing import Any

from smsapi.auth.models import Caller
from smsapi.deps import Deps
from smsapi.errors import Refused, Unavailable
from smsapi.log import get_logger
from smsapi.messages.models import Message
from smsapi.messages.present import MICROS, show_micros
from smsapi.messages.store import get_message, let_go
from smsapi.optouts.ledger import refusal_of
from smsapi.send.accept import Declined, Replayed, accept, answer_for
from smsapi.send.deliver import deliver
from smsapi.send.order import Order
from smsapi.send.plan import plan
from smsapi.sms.encoding import non_gsm_characters
from smsapi.web.answers import Answer
from smsapi.web.idempotency import Claim, finish
from smsapi.web.prefer import Preference
from smsapi.web.problems import PROBLEMS

log = get_logger()


def send_message(
    world: Deps, caller: Caller, order: Order, *, claim: Claim | None, preference: Preference, request_id: str
) -> tuple[Answer, bool]:
    """Take an order and see it through as far as the caller waits; return the answer, and whether it is a replay.

    Raises:
        InvalidInput, IdempotencyKeyReused, IdempotencyInProgress: as :func:`smsapi.send.accept.accept` says.
        StoreUnavailable: the store does not answer; nothing was taken, or whether it was is not known.

    """
    waits = preference.wait_seconds is not None and world.waiting.acquire(blocking=False)
    if preference.wait_seconds is not None and not waits:
        # All that may wait do so already. One more would leave no thread for those who do not wait: the answer is
        # 202 now, as it would be after the wait with a Plivo that is so slow.
        preference = Preference(None, None)
    try:
        return _send(world, caller, order, claim=claim, preference=preference, request_id=request_id)
    finally:
        if waits:
            world.waiting.release()


def _send(
    world: Deps, caller: Caller, order: Order, *, claim: Claim | None, preference: Preference, request_id: str
) -> tuple[Answer, bool]:
    taken = accept(world, caller, order, claim=claim, preference=preference, request_id=request_id)
    if isinstance(taken, Replayed | Declined):
        return taken.answer, isinstance(taken, Replayed)
    if not taken.held:
        world.bell.ring()
        return answer_for(taken.message, preference, request_id), False
    message = _deliver_while_waiting(world, taken.message, float(preference.wait_seconds or 0))
    given = answer_for(message, preference, request_id)
    if claim is not None:
        world.checkpoint("answer.before")
        # A repetition may have been quicker, and told the key how the message stood then: all are told the same.
        given = _keep_answer(world, claim, given)
        world.checkpoint("answer.kept")
    return given, False


def _deliver_while_waiting(world: Deps, message: Message, wait_seconds: float) -> Message:
    """Return how the message stands when it is settled, or when the caller's patience ends; it goes on in any case."""
    until = world.clock.now() + timedelta(seconds=wait_seconds)
    context = contextvars.copy_context()
    running = world.executor.submit(context.run, lambda: deliver(world, message.id, message.epoch, wait_until=until))
    try:
        return running.result(timeout=wait_seconds)
    except (FutureTimeoutError, CancelledError):
        if running.cancel():
            # It had not begun, and should not stand in line here while a dispatcher has time.
            return _hand_over(world, message)
        return _reread(world, message)
    except Unavailable:
        # The message is stored, so it is taken; its lease ends, and a dispatcher goes on from what was written.
        log.warning("delivery_interrupted")
        return message


def _hand_over(world: Deps, message: Message) -> Message:
    try:
        with world.database.transaction() as connection:
            let_go(connection, world.clock.now(), message)
    except Unavailable:
        return message  # the lease ends in any case
    world.bell.ring()
    return message


def _reread(world: Deps, message: Message) -> Message:
    try:
        with world.database.read() as connection:
            return get_message(connection, message.id)
    except Unavailable:
        return message


def _keep_answer(world: Deps, claim: Claim, given: Answer) -> Answer:
    """Keep the answer for the key, or find the one that is kept already; return what all are told."""
    try:
        with world.database.transaction() as connection:
            return finish(connection, claim, given)
    except Unavailable:
        # A twin will find the key abandoned and make the answer from the message.
        log.warning("answer_not_kept")
        return given


def preview(world: Deps, caller: Caller, order: Order) -> dict[str, Any]:
    """Return what would become of the order; nothing is sent or stored. Raises InvalidInput as a send does."""
    decided = plan(order, caller.client, world.settings, world.prices, now=world.clock.now())
    price, sender = decided.price, None if decided.sender is None else decided.sender.value
    refusals = (*decided.refusals, *_refuse_opted_out(world, caller, order.to, sender))
    return {
        "would_send": not refusals,
        "refusals": [
            {"code": refusal.code, "title": PROBLEMS[refusal.code].title, "detail": refusal.detail}
            for refusal in refusals
        ],
        "encoding": decided.measured.encoding,
        "segments": decided.measured.segments,
        "characters": decided.measured.characters,
        "non_gsm_characters": non_gsm_characters(decided.text),
        "text": decided.text,
        "price": (
            None
            if price is None
            else {"amount": show_micros(int(price.amount * MICROS)), "currency": price.currency, "estimated": True}
        ),
        "country": decided.number.country,
        "from": sender,
    }


def _refuse_opted_out(world: Deps, caller: Caller, number: str, sender: str | None) -> list[Refused]:
    with world.database.read() as connection:
        test = not caller.key.live
        found = refusal_of(connection, number=number, client_id=caller.client.id, sender=sender, test=test)
    return [] if found is None else [found]

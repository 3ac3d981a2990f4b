"""Delivery reports, stored and then applied: forward only, however late, repeated or out of order they come.

Storing waits for nobody: not for whoever holds the message's row, and not for the message's own commit. What cannot be
applied at once is applied by a dispatcher (:func:`apply_waiting`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, update

from smsapi.clock import Clock
from smsapi.deps import Deps
from smsapi.errors import Unavailable
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import Message, messages
from smsapi.messages.statuses import DELIVERED, EXPIRED, FAILED, FINAL, SENDING, SENT, UNDELIVERED, advance
from smsapi.messages.store import add_event, lock_message
from smsapi.optouts.ledger import opt_out_by_provider
from smsapi.receipts import store
from smsapi.receipts.chunks import Learnt, find_recipient, note_uuid
from smsapi.receipts.facts import Receipt, Standing, read_receipt, settle

__all__ = [
    "Applied",
    "Receipt",
    "apply_receipt",
    "apply_waiting",
    "read_receipt",
    "take_joined_receipt",
    "take_receipt",
]

log = get_logger()

# Whoever holds a message's row does so for milliseconds; a few more tries spare most receipts the dispatcher's turn.
_TRIES: Final = 5
_BETWEEN_TRIES_SECONDS: Final = 0.02
# A report of a message that has not appeared by then is of none of ours.
_DROPPED_AFTER: Final = timedelta(days=1)
_SOONEST: Final = timedelta(seconds=1)
_LATEST: Final = timedelta(minutes=10)
_AT_ONCE: Final = 100
# Of one transaction, which holds their messages.
_TOGETHER: Final = 25
# The recipient told this sender STOP (plivo-facts 2.7).
_OPTED_OUT_CODE: Final = "200"

# The chore that looks knows the setting, and looks again where it is not yet time.
_LOOK_AFTER_SECONDS: Final = 3600.0
_REPORTED: Final[Mapping[str, Any]] = MappingProxyType({"source": "receipt"})

_REASONS = {
    UNDELIVERED: "The carrier did not deliver the message.",
    FAILED: "Plivo could not send the message.",
    EXPIRED: "The message expired in Plivo's queue.",
}


@dataclass(frozen=True, slots=True)
class Applied:
    """What a report did, and how the message stands after it, where it was looked at.

    ``applied`` moved the message; ``repeated`` told nothing new of its status; ``contradicts`` told of another end than
    the one that stands; ``waits`` is stored and not yet applied; ``parked`` is of a message that has not appeared;
    ``mismatched`` bears Plivo's id of another message; ``unknown_message`` and ``not_understood`` were not stored.
    """

    result: str
    status: str | None = None
    message: Message | None = None


def take_joined_receipt(world: Deps, chunk_id: UUID, receipt: Receipt, *, to: str) -> tuple[UUID | None, Applied]:
    """Do as :func:`take_receipt` with a report on the URL of a call that many messages shared; return whose it is.

    ``to`` is the number that it names. Of whom nobody can tell is ``unknown_message``.

    Raises:
        StoreUnavailable: as there.

    """
    with world.database.read() as connection:
        found = find_recipient(connection, chunk_id, to=to, uuid=receipt.provider_uuid)
    if found is None:
        return None, Applied("unknown_message")
    learnt = None if receipt.provider_uuid is None else Learnt(chunk_id, receipt.provider_uuid)
    return found, take_receipt(world, found, receipt, learnt=learnt)


def take_receipt(world: Deps, message_id: UUID, receipt: Receipt, *, learnt: Learnt | None = None) -> Applied:
    """Store what Plivo reports, and apply it where nobody holds the message; never waits for whoever does.

    ``learnt`` is what the report told of the call that it is about, where others shared that.

    Raises:
        StoreUnavailable: it is not stored; Plivo reports again where we do not answer 200.

    """
    if not world.applying.acquire(blocking=False):
        return _keep_only(world, message_id, receipt)
    try:
        return _keep_and_apply(world, message_id, receipt, learnt)
    finally:
        world.applying.release()


def _keep_only(world: Deps, message_id: UUID, receipt: Receipt) -> Applied:
    """Store it and leave it to a dispatcher, in as much time as it takes whatever the load."""
    with world.database.statement() as connection:
        is_new = store.keep(connection, message_id, receipt, world.clock.now(), source="receipt")
    if is_new:
        world.reports.ring()
    return Applied("waits" if is_new else "repeated")


def _keep_and_apply(world: Deps, message_id: UUID, receipt: Receipt, learnt: Learnt | None) -> Applied:
    with world.database.transaction() as connection:
        if not store.keep(connection, message_id, receipt, world.clock.now(), source="receipt"):
            return Applied("repeated")
        applied = _apply_if_free(world, connection, message_id, learnt)
    for _ in range(_TRIES):
        if applied.result != "waits":
            break
        world.clock.sleep(_BETWEEN_TRIES_SECONDS)
        with world.database.transaction() as connection:
            applied = _apply_if_free(world, connection, message_id, learnt)
    return applied


def apply_receipt(
    connection: Connection,
    clock: Clock,
    message_id: UUID,
    receipt: Receipt,
    *,
    evidence: Mapping[str, Any] = _REPORTED,
    look_after_seconds: float = _LOOK_AFTER_SECONDS,
) -> Applied:
    """Store what was learnt of the message and move it forward by all that is known, in the caller's transaction.

    Waits for whoever holds the message. The event holds the evidence. What is sent by this is looked at again, for want
    of a further report, after so many seconds (0: never).
    """
    message = lock_message(connection, message_id)
    if message is None:
        return Applied("unknown_message")
    store.keep(connection, message_id, receipt, clock.now(), source=str(evidence.get("source", "receipt")))
    return _apply(connection, clock, message, evidence, look_after_seconds)


def apply_waiting(world: Deps, stopping: Callable[[], bool]) -> int:
    """Apply the receipts that wait and are due to be looked at; return how many messages were looked at.

    One whose message is held by somebody, or has not appeared, is looked at again later; after a day it is dropped.
    """
    looked_at = 0
    while not stopping():
        now = world.clock.now()
        with world.database.read() as connection:
            due = store.due_messages(connection, now, _AT_ONCE)
        for place in range(0, len(due), _TOGETHER):
            _look_again_at(world, due[place : place + _TOGETHER], now)
        looked_at += len(due)
        # Not where they are few: of a hundred receipts many may be of one message.
        if not due:
            break
    return looked_at


def _look_again_at(world: Deps, message_ids: Sequence[UUID], now: datetime) -> None:
    """Apply what waits for these messages, in one transaction: to commit takes longer than all else of it."""
    done: list[tuple[UUID, Applied]] = []
    try:
        with world.database.transaction() as connection:
            for message_id in message_ids:
                applied = _look_again(world, connection, message_id, now)
                if applied is not None:
                    done.append((message_id, applied))
    except Unavailable:
        raise
    except Exception:  # one that cannot be applied must not keep the others waiting
        if len(message_ids) > 1:
            for message_id in message_ids:
                _look_again_at(world, [message_id], now)
            return
        log.exception("receipt_failed", message_id=show_id("msg", message_ids[0]))
        with world.database.transaction() as connection:
            store.postpone(connection, message_ids[0], now + _LATEST)
    for message_id, applied in done:
        note(world, show_id("msg", message_id), applied)


def _look_again(world: Deps, connection: Connection, message_id: UUID, now: datetime) -> Applied | None:
    since = store.oldest_waiting(connection, message_id)
    if since is None:
        return None
    applied = _apply_if_free(world, connection, message_id)
    if applied.result == "parked" and now - since >= _DROPPED_AFTER:
        store.drop_waiting(connection, message_id)
        return Applied("unknown_message")
    if applied.result in {"parked", "waits"}:
        store.postpone(connection, message_id, now + min(max(now - since, _SOONEST), _LATEST))
    return applied


def note(world: Deps, shown_id: str | None, applied: Applied, **said: Any) -> None:
    """Count and log what a report did."""
    message = applied.message
    world.metrics.count_receipt(applied.result)
    if message is not None and applied.status is not None and applied.result == "applied":
        world.metrics.count_message(applied.status, test=message.test)
    client = None if message is None else show_id("cli", message.client_id)
    write = log.warning if applied.result in {"mismatched", "contradicts"} else log.info
    write("receipt", client_id=client, message_id=shown_id, result=applied.result, **said)


def _apply_if_free(world: Deps, connection: Connection, message_id: UUID, learnt: Learnt | None = None) -> Applied:
    message = store.lock_if_free(connection, message_id)
    if message is None:
        return Applied("waits" if store.is_known(connection, message_id) else "parked")
    if learnt is not None and not store.is_of_another(connection, message, learnt.uuid):
        note_uuid(connection, message_id, learnt)
    return _apply(connection, world.clock, message, _REPORTED, world.settings.receipt_after_seconds)


def _apply(
    connection: Connection, clock: Clock, message: Message, evidence: Mapping[str, Any], look_after_seconds: float
) -> Applied:
    """Move a locked message forward by all that Plivo said of it, and note that its receipts were applied."""
    now = clock.now()
    kept = store.read_kept(connection, message.id)
    strange = {each.id for each in kept if each.is_new and _is_strange(connection, message, each.receipt)}
    store.mark(connection, list(strange), store.MISMATCHED, now)
    new = [each.id for each in kept if each.is_new and each.id not in strange]
    heard = [each.receipt for each in kept if each.id not in strange]
    texts = store.texts_of(connection, message, [receipt.provider_uuid for receipt in heard])
    standing = settle(heard, texts=texts)
    if standing is None or (strange and not new):
        return Applied("mismatched" if strange else "repeated", message.status, message)
    if _is_too_early(message, standing):
        return Applied("waits", message.status, message)
    store.mark(connection, new, store.APPLIED, now)
    stops = any(each.is_new and each.receipt.error_code == _OPTED_OUT_CODE for each in kept if each.id not in strange)
    # Of an erased message nobody knows who it was.
    if stops and message.to_number:
        opt_out_by_provider(connection, clock, message)
    status = advance(message.status, standing.status)
    changes = _settled_price(message, standing) | _named(message, standing)
    if status != message.status:
        changes |= _moved(message, status, standing.decisive, now)
        changes |= _next_look(message, status, now, look_after_seconds)
    if changes:
        connection.execute(update(messages).where(messages.c.id == message.id).values(updated_at=now, **changes))
    if status == message.status:
        contradicts = new and standing.status in FINAL and standing.status != status
        return Applied("contradicts" if contradicts else "repeated", status, message)
    add_event(connection, message, f"message.{status}", now, _evidence(status, standing.decisive, evidence))
    return Applied("applied", status, message)


def _is_strange(connection: Connection, message: Message, receipt: Receipt) -> bool:
    return store.is_of_another(connection, message, receipt.provider_uuid)


def _is_too_early(message: Message, standing: Standing) -> bool:
    """Say whether an attempt is under way that may end better than the one that this is about."""
    return message.status == SENDING and message.attempts > 1 and standing.status in FINAL - {DELIVERED}


def _moved(message: Message, status: str, receipt: Receipt, now: datetime) -> dict[str, Any]:
    reason = _REASONS.get(status)
    failed = status in {FAILED, EXPIRED}
    return {
        "status": status,
        # It may come before our own note of who took the message, or in its place.
        "provider_name": message.provider_name or ("test" if message.test else "plivo"),
        "provider_uuid": message.provider_uuid or receipt.provider_uuid,
        "provider_error_code": receipt.error_code,
        "error_code": None if reason is None else status,
        "error_message": reason,
        "sent_at": message.sent_at or (None if failed else now),
        "delivered_at": now if status == DELIVERED else None,
    }


def _next_look(message: Message, status: str, now: datetime, after_seconds: float) -> dict[str, Any]:
    if message.test:
        return {}  # its further reports are still to be played
    # Of what is sent somebody asks, should no further report come.
    is_asked_for = status == SENT and after_seconds > 0
    return {"due_at": now + timedelta(seconds=after_seconds) if is_asked_for else None}


def _settled_price(message: Message, standing: Standing) -> dict[str, Any]:
    """Return what the reports settle of the estimate: segments and price as Plivo counts them."""
    changes: dict[str, Any] = {}
    if standing.units and standing.units != message.segments:
        changes["segments"] = standing.units
    amount = standing.amount_micros
    if amount is not None and (message.price_estimated or message.price_micros != amount):
        currency = message.price_currency or "USD"  # Plivo bills in US dollars
        changes |= {"price_micros": amount, "price_currency": currency, "price_estimated": False}
    return changes


def _named(message: Message, standing: Standing) -> dict[str, Any]:
    """Return Plivo's id, which of a message that shared its call with others the first receipt tells."""
    uuid = standing.decisive.provider_uuid
    return {} if message.provider_uuid is not None or uuid is None else {"provider_uuid": uuid}


def _evidence(status: str, receipt: Receipt, evidence: Mapping[str, Any]) -> dict[str, Any]:
    data = dict(evidence)
    if receipt.provider_uuid is not None:
        data["message_uuid"] = receipt.provider_uuid
    if status in _REASONS:
        data["error"] = {"code": status, "message": _REASONS[status], "provider_code": receipt.error_code}
    return data

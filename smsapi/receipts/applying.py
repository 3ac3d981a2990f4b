"""What delivery reports make of messages: forward only, however late, repeated or out of order they come.

Many messages take as few statements as one, but for what is seldom: a text of which there may be two, an opt-out.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, update

from smsapi.clock import Clock
from smsapi.messages.models import Message, messages
from smsapi.messages.statuses import DELIVERED, EXPIRED, FAILED, FINAL, SENDING, SENT, advance
from smsapi.messages.store import add_events
from smsapi.optouts.ledger import opt_out_by_provider
from smsapi.receipts import store
from smsapi.receipts.chunks import note_uuids
from smsapi.receipts.facts import Receipt, Standing, settle
from smsapi.receipts.reasons import OPTED_OUT_CODE, reason_for

REPORTED: Final[Mapping[str, Any]] = MappingProxyType({"source": "receipt"})

_CHANGE = update(messages).where(messages.c.id == bindparam("of_message"))


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


@dataclass(frozen=True, slots=True)
class _Occasion:
    now: datetime
    evidence: Mapping[str, Any]
    look_after_seconds: float


@dataclass(frozen=True, slots=True)
class _Step:
    """What is to be done with one message and its new receipts."""

    message: Message
    applied: Applied
    used: Sequence[store.Kept] = ()
    opts_out: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] | None = None


def apply_kept(
    connection: Connection,
    clock: Clock,
    held: Sequence[Message],
    kept: Mapping[UUID, Sequence[store.Kept]],
    *,
    evidence: Mapping[str, Any] = REPORTED,
    look_after_seconds: float,
) -> Mapping[UUID, Applied]:
    """Move these messages, held by the caller, forward by all that Plivo said of them, and note that it was applied.

    The events hold the evidence. What is sent by this is looked at again, for want of a further report, after so many
    seconds (0: never).
    """
    now = clock.now()
    occasion = _Occasion(now, evidence, look_after_seconds)
    strange = _strange(connection, held, kept)
    heard = {message.id: [each for each in kept[message.id] if each.id not in strange] for message in held}
    # Before they are weighed: where there may be two texts of a message, it tells of which one a receipt is.
    note_uuids(connection, [each for found in heard.values() for each in found if each.is_new])
    steps = []
    for message in held:
        mine = heard[message.id]
        mismatched = len(mine) < len(kept[message.id])
        standing = _weigh(connection, message, mine)
        if standing is None or (mismatched and not any(each.is_new for each in mine)):
            applied = Applied("mismatched" if mismatched else "repeated", message.status, message)
            steps.append(_Step(message, applied))
        else:
            steps.append(_plan(message, mine, standing, occasion))
    store.mark(connection, list(strange), store.MISMATCHED, now)
    store.mark(connection, [each.id for step in steps for each in step.used], store.APPLIED, now)
    opt_out_by_provider(connection, clock, [step.message for step in steps if step.opts_out])
    _change(connection, steps, now)
    moved = [(step.message, f"message.{step.applied.status}", step.told) for step in steps if step.told is not None]
    add_events(connection, moved, now)
    return {step.message.id: step.applied for step in steps}


def _strange(
    connection: Connection, held: Sequence[Message], kept: Mapping[UUID, Sequence[store.Kept]]
) -> AbstractSet[UUID]:
    """Return which of the new receipts bear Plivo's id of another message, known before or among these."""
    new = [(message, each, each.receipt.provider_uuid) for message in held for each in kept[message.id] if each.is_new]
    of_others = store.borne_by_others(connection, [(message, uuid) for message, _, uuid in new])
    first: dict[str, UUID] = {}
    return {
        each.id
        for message, each, uuid in new
        if uuid is not None and ((message.id, uuid) in of_others or first.setdefault(uuid, message.id) != message.id)
    }


def _weigh(connection: Connection, message: Message, heard: Sequence[store.Kept]) -> Standing | None:
    texts = store.texts_of(connection, message, [each.receipt.provider_uuid for each in heard])
    return settle([each.receipt for each in heard], texts=texts)


def _plan(message: Message, heard: Sequence[store.Kept], standing: Standing, occasion: _Occasion) -> _Step:
    if _is_too_early(message, standing):
        return _Step(message, Applied("waits", message.status, message))
    new = [each for each in heard if each.is_new]
    status = advance(message.status, standing.status)
    changes = _settled_price(message, standing) | _named(message, standing)
    told = None
    if status != message.status:
        changes |= _moved(message, status, standing.decisive, occasion.now)
        changes |= _next_look(message, status, occasion)
        told = _evidence(status, standing.decisive, occasion.evidence)
        result = "applied"
    else:
        result = "contradicts" if new and standing.status in FINAL and standing.status != status else "repeated"
    # Of an erased message nobody knows who it was.
    opts_out = bool(message.to_number) and any(each.receipt.error_code == OPTED_OUT_CODE for each in new)
    return _Step(message, Applied(result, status, message), new, opts_out, changes, told)


def _change(connection: Connection, steps: Iterable[_Step], now: datetime) -> None:
    """Write what changes, in one statement for all messages of which the same columns change."""
    changed = sorted((step for step in steps if step.changes), key=_columns)
    for _, alike in groupby(changed, key=_columns):
        rows = [{"of_message": step.message.id, "updated_at": now, **step.changes} for step in alike]
        connection.execute(_CHANGE, rows)


def _columns(step: _Step) -> list[str]:
    return sorted(step.changes)


def _is_too_early(message: Message, standing: Standing) -> bool:
    """Say whether an attempt is under way that may end better than the one that this is about."""
    return message.status == SENDING and message.attempts > 1 and standing.status in FINAL - {DELIVERED}


def _moved(message: Message, status: str, receipt: Receipt, now: datetime) -> dict[str, Any]:
    error = reason_for(status, receipt.error_code) or {"code": None, "message": None}
    failed = status in {FAILED, EXPIRED}
    return {
        "status": status,
        # It may come before our own note of who took the message, or in its place.
        "provider_name": message.provider_name or ("test" if message.test else "plivo"),
        "provider_uuid": message.provider_uuid or receipt.provider_uuid,
        "provider_error_code": receipt.error_code,
        "error_code": error["code"],
        "error_message": error["message"],
        "sent_at": message.sent_at or (None if failed else now),
        "delivered_at": now if status == DELIVERED else None,
    }


def _next_look(message: Message, status: str, occasion: _Occasion) -> dict[str, Any]:
    if message.test:
        return {}  # its further reports are still to be played
    # Of what is sent somebody asks, should no further report come.
    after = occasion.look_after_seconds
    return {"due_at": occasion.now + timedelta(seconds=after) if status == SENT and after > 0 else None}


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
    error = reason_for(status, receipt.error_code)
    if error is not None:
        data["error"] = {**error, "provider_code": receipt.error_code}
    return data

"""A batch as callers see it."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from smsapi.batches.models import QUEUED as BATCH_QUEUED
from smsapi.batches.models import SCHEDULED as BATCH_SCHEDULED
from smsapi.batches.models import SENDING, Batch
from smsapi.clock import rfc3339
from smsapi.ids import show_id
from smsapi.messages.present import show_micros
from smsapi.messages.statuses import DELIVERED, QUEUED, SCHEDULED, SENT, UNDELIVERED, UNKNOWN
from smsapi.messages.statuses import SENDING as IN_A_CALL
from smsapi.messages.waiting import GRACE, WORKER, gate_of

# Of what is not over yet: it will leave, or its fate will be found out.
OPEN: Final = (SCHEDULED, QUEUED, IN_A_CALL, UNKNOWN)
# Plivo has it, or may have it. What failed, expired or was canceled never left.
HAS_LEFT: Final = (UNKNOWN, SENT, DELIVERED, UNDELIVERED)
# A rate of less time would be that of one call.
_SHORTEST: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Standstill:
    """What may keep batches from being sent: the keys of the gates that are closed, and whether anybody sends."""

    stops: AbstractSet[str] = frozenset()
    is_anybody_sending: bool = True


_NOTHING_IS_KNOWN: Final = Standstill()


def count_over(batch: Batch, counts: Mapping[str, int]) -> int:
    """Return how many accepted rows of the batch wait no more, and are not in doubt: they left, or never will."""
    return batch.accepted - sum(counts[status] for status in OPEN)


def rate_of(batch: Batch, counts: Mapping[str, int], now: datetime) -> float | None:
    """Return how many rows a second were over of late, or None where nobody can tell: not sending, or just begun."""
    if batch.status != SENDING or batch.mark_at is None or now - batch.mark_at < _SHORTEST:
        return None
    return max(0, count_over(batch, counts) - batch.mark_left) / (now - batch.mark_at).total_seconds()


def present_batch(
    batch: Batch, counts: Mapping[str, int], *, now: datetime, standstill: Standstill = _NOTHING_IS_KNOWN
) -> dict[str, Any]:
    """Return the batch resource of the contract.

    ``counts`` as :func:`smsapi.batches.store.counts_of` gives them. ``standstill`` is what may
    keep its messages from being sent; by default that is not known.
    """
    rate, gate = rate_of(batch, counts, now), None if batch.test else gate_of(batch.lane, standstill.stops)
    return {
        "id": show_id("bat", batch.id),
        "client_id": show_id("cli", batch.client_id),
        "status": batch.status,
        "from": batch.sender,
        "text": batch.template,
        "category": batch.category,
        "metadata": batch.metadata,
        "send_at": _moment(batch.send_at),
        "total": batch.total,
        "accepted": batch.accepted,
        "rejected": batch.rejected,
        "duplicates": batch.duplicates,
        "counts": dict(counts),
        "segments": batch.segments,
        "price": _price(batch),
        "all_or_nothing": batch.all_or_nothing,
        "dry_run": batch.dry_run,
        "test": batch.test,
        "waiting_for": _waiting_for(
            batch, counts, gate, due_for=_due_for(batch, now), is_left=not (rate or standstill.is_anybody_sending)
        ),
        "rate_per_second": None if rate is None else round(rate, 2),
        "expected_end_at": None if gate is not None else _moment(_expected_end(batch, counts, now, rate)),
        "created_at": rfc3339(batch.created_at),
        "accepted_at": _moment(batch.accepted_at),
        "started_at": _moment(batch.started_at),
        "finished_at": _moment(batch.finished_at),
        "canceled_at": _moment(batch.canceled_at),
    }


def present_end(batch: Batch, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what the event ``batch.finished`` says: how the batch ended, and how its rows stand."""
    return {
        "id": show_id("bat", batch.id),
        "status": batch.status,
        "total": batch.total,
        "accepted": batch.accepted,
        "rejected": batch.rejected,
        "duplicates": batch.duplicates,
        "counts": dict(counts),
    }


def _waiting_for(
    batch: Batch, counts: Mapping[str, int], gate: str | None, *, due_for: timedelta, is_left: bool
) -> str | None:
    is_open = batch.status in {BATCH_SCHEDULED, BATCH_QUEUED, SENDING} and (counts[QUEUED] or counts[SCHEDULED])
    if not is_open or due_for < timedelta(0):
        return None
    return gate or (WORKER if is_left and due_for > GRACE else None)


def _due_for(batch: Batch, now: datetime) -> timedelta:
    due_at = batch.send_at or batch.accepted_at or now
    return now - due_at


def _expected_end(batch: Batch, counts: Mapping[str, int], now: datetime, rate: float | None) -> datetime | None:
    if not rate:
        return None
    seconds = (batch.accepted - count_over(batch, counts)) / rate
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _price(batch: Batch) -> dict[str, Any] | None:
    if batch.price_micros is None:
        return None
    return {"amount": show_micros(batch.price_micros), "currency": batch.price_currency, "estimated": True}


def _moment(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)

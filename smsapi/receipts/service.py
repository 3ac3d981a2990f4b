"""Delivery reports, stored and then applied.

Storing waits for nobody: not for whoever holds the message's row, and not for the message's own commit. What cannot be
applied at once is applied by a dispatcher (:func:`apply_waiting`).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from smsapi.clock import Clock
from smsapi.db import Database, try_lock
from smsapi.deps import Deps
from smsapi.errors import Unavailable
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import Message
from smsapi.messages.store import lock_message
from smsapi.receipts import store
from smsapi.receipts.applying import REPORTED, Applied, apply_kept
from smsapi.receipts.chunks import find_recipient
from smsapi.receipts.facts import Receipt
from smsapi.receipts.store import Heard, Kept
from smsapi.send.settle import seconds_to_receipt

log = get_logger()

# Whoever holds a message's row does so for milliseconds; a few more tries spare most receipts the dispatcher's turn.
_TRIES: Final = 5
_BETWEEN_TRIES_SECONDS: Final = 0.02
# A report of a message that has not appeared by then is of none of ours.
_DROPPED_AFTER: Final = timedelta(days=1)
_SOONEST: Final = timedelta(seconds=1)
_LATEST: Final = timedelta(minutes=10)
# One process at a time. Any fixed number, as long as nobody else locks it in this database.
APPLIES: Final = 8_731_402_218
# What Plivo said and nothing was made of: a person should know.
_FOR_A_PERSON: Final = frozenset({"mismatched", "contradicts", "not_understood", "unknown_message"})
# Of one transaction, which holds their messages.
_TOGETHER: Final = 100


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
    return found, take_receipt(world, Heard(found, receipt, chunk_id))


def store_reports(database: Database, clock: Clock, heard: Sequence[Heard]) -> Sequence[bool]:
    """Store what Plivo reports of these messages; return of each whether it is new.

    Raises:
        StoreUnavailable: none is stored, or it is not known.

    """
    with database.statement() as connection:
        return store.keep(connection, heard, clock.now(), source="receipt")


def take_receipt(world: Deps, heard: Heard) -> Applied:
    """Store what Plivo reports, and apply it where it comes alone and nobody holds the message; never waits for others.

    Those that come at the same time are stored together, and left to a dispatcher, which applies them together: so it
    takes no longer than it must, whatever the load.

    Raises:
        StoreUnavailable: it is not stored; Plivo reports again where we do not answer 200.

    """
    with world.reporting.enter() as many_come:
        # In a transaction of its own: it is not lost where applying it fails.
        if not world.reports_in.ask(heard):
            return Applied("repeated")
        applied = Applied("waits") if many_come else _apply_now(world, heard.message_id)
    if applied.result == "waits":
        world.reports.ring()
    return applied


def _apply_now(world: Deps, message_id: UUID) -> Applied:
    for left in range(_TRIES, -1, -1):
        with world.database.transaction() as connection:
            applied = _apply_if_free(world, connection, message_id)
        if applied.result != "waits" or not left:
            break
        world.clock.sleep(_BETWEEN_TRIES_SECONDS)
    return applied


def _apply_if_free(world: Deps, connection: Connection, message_id: UUID) -> Applied:
    held = store.lock_free_ones(connection, [message_id])
    if not held:
        return Applied("waits" if store.known_ones(connection, [message_id]) else "parked")
    return _apply_to(world, connection, held)[message_id]


def apply_receipt(
    world: Deps,
    connection: Connection,
    message_id: UUID,
    receipt: Receipt,
    *,
    evidence: Mapping[str, Any] = REPORTED,
) -> Applied:
    """Store what was learnt of the message and move it forward by all that is known, in the caller's transaction.

    Waits for whoever holds the message. The event holds the evidence.
    """
    message = lock_message(connection, message_id)
    if message is None:
        return Applied("unknown_message")
    store.keep(connection, [Heard(message_id, receipt)], world.clock.now(), source=str(evidence["source"]))
    return _apply_to(world, connection, [message], evidence=evidence)[message_id]


def _apply_to(
    world: Deps,
    connection: Connection,
    held: Sequence[Message],
    kept: Mapping[UUID, Sequence[Kept]] | None = None,
    *,
    evidence: Mapping[str, Any] = REPORTED,
) -> Mapping[UUID, Applied]:
    if kept is None:
        kept = store.read_kept(connection, [message.id for message in held])
    after = seconds_to_receipt(world.settings)
    return apply_kept(connection, world.clock, held, kept, evidence=evidence, look_after_seconds=after)


def apply_waiting(world: Deps, stopping: Callable[[], bool]) -> int | None:
    """Apply the receipts that wait and are due to be looked at; return how many messages were looked at.

    None where another process is at it: two would find the same ones, and wait for each other.
    One whose message is held by somebody, or has not appeared, is looked at again later; after a day it is dropped.
    """
    looked_at = 0
    while not stopping():
        now = world.clock.now()
        with world.database.read() as connection:
            due = store.due_messages(connection, now, _TOGETHER)
        if due and not _look_again_at(world, due, now):
            return None
        looked_at += len(due)
        # Not where they are few: of a hundred receipts many may be of one message.
        if not due:
            break
    return looked_at


def _look_again_at(world: Deps, message_ids: Sequence[UUID], now: datetime) -> bool:
    """Apply what waits for these messages, in one transaction: to commit takes longer than all else of it.

    Return False where another process is applying.
    """
    done: Mapping[UUID, Applied] = {}
    try:
        with world.database.transaction() as connection:
            if not try_lock(connection, APPLIES):
                return False
            done = _look_again(world, connection, message_ids, now)
    except Unavailable:
        raise
    except Exception:  # one that cannot be applied must not keep the others waiting
        if len(message_ids) > 1:
            alone = [_look_again_at(world, [message_id], now) for message_id in message_ids]
            return all(alone)
        with world.database.transaction() as connection:
            store.postpone(connection, message_ids[0], now + _LATEST)
        log.exception("receipt_failed", message_id=show_id("msg", message_ids[0]))
    for message_id, applied in done.items():
        note(world, show_id("msg", message_id), applied)
    return True


def _look_again(
    world: Deps, connection: Connection, message_ids: Sequence[UUID], now: datetime
) -> Mapping[UUID, Applied]:
    free = store.lock_free_ones(connection, message_ids)
    kept = store.read_kept(connection, message_ids)
    since = {
        message_id: min(each.received_at for each in found if each.is_new)
        for message_id, found in kept.items()
        if any(each.is_new for each in found)
    }
    # Those of which nothing waits any more, others have applied in between.
    held = [message for message in free if message.id in since]
    done = dict(_apply_to(world, connection, held, kept))
    elsewhere = since.keys() - done.keys()
    known = store.known_ones(connection, elsewhere)
    for message_id in elsewhere:
        done[message_id] = Applied("waits" if message_id in known else "parked")
    for message_id, applied in list(done.items()):
        if applied.result == "parked" and now - since[message_id] >= _DROPPED_AFTER:
            store.drop_waiting(connection, message_id)
            done[message_id] = Applied("unknown_message")
        elif applied.result in {"parked", "waits"}:
            later = min(max(now - since[message_id], _SOONEST), _LATEST)
            store.postpone(connection, message_id, now + later)
    return done


def note(world: Deps, shown_id: str | None, applied: Applied, **said: Any) -> None:
    """Count and log what a report did."""
    message = applied.message
    world.metrics.count_receipt(applied.result)
    if message is not None and applied.status is not None and applied.result == "applied":
        world.metrics.count_message(applied.status, test=message.test)
    client = None if message is None else show_id("cli", message.client_id)
    write = log.warning if applied.result in _FOR_A_PERSON else log.debug
    write("receipt", client_id=client, message_id=shown_id, result=applied.result, **said)

"""Settling messages whose outcome is unknown: by Plivo's list, text-free and conservatively.

Each is concluded `sent` (its record was found), sent again (it is shown not to have been taken), or left for a person
(the list does not decide). A receipt that comes meanwhile has the first word: what it settled is no longer unknown.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from smsapi.clock import rfc3339
from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import Message
from smsapi.messages.statuses import UNKNOWN
from smsapi.messages.store import add_event, lock_message
from smsapi.pacing.health import note_list_trouble, note_list_use
from smsapi.plivo.lookup import Record
from smsapi.plivo.magic import behaviour_of
from smsapi.receipts.list_reader import STOPS, Hold, Later, TooMany, read_list
from smsapi.receipts.listed import receipt_of
from smsapi.receipts.service import apply_receipt
from smsapi.receipts.simulated import play_receipts
from smsapi.receipts.store import owners_of
from smsapi.reconcile.doubts import Case, read_cases, read_others
from smsapi.reconcile.look import Batch, batches
from smsapi.reconcile.matching import NotTaken, Taken, Undecided, Verdict, conclude
from smsapi.send.change import change, requeue, rule_out

log = get_logger()

_SOURCE: Final = "plivo_list"


def reconcile(world: Deps, held: Mapping[UUID, int], stopping: Callable[[], bool]) -> None:
    """Settle these unknown messages, each held under its epoch for a fresh lease, or say when to look again.

    One that could not be settled for as long as the setting allows, whatever kept the list from being used, is held for
    a person, and an event says why. No further question is asked once ``stopping`` says so.
    """
    hold = Hold(world, held, stopping, status=UNKNOWN)
    with world.database.read() as connection:
        cases, strange = read_cases(world, connection, held)
    for message in strange:
        _leave_to_a_person(world, message, "no attempt of the message is in doubt")
    for case in (case for case in cases if case.message.test):
        _settle_test(world, case.message)
    waiting = list(batches([case for case in cases if not case.message.test]))
    while waiting:
        batch = waiting.pop(0)
        found = read_list(world, batch.query(), hold, questions=len(batch.numbers))
        if isinstance(found, TooMany):
            waiting = [*batch.by_number(), *waiting]
        elif isinstance(found, Later):
            # The others would be told the same.
            _postpone(world, [case for each in (batch, *waiting) for case in each.cases], found)
            return
        else:
            _settle(world, batch, found)
            note_list_use(world.database)


def _settle(world: Deps, batch: Batch, records: Sequence[Record]) -> None:
    with world.database.read() as connection:
        masked = any("*" in record.to for record in records)
        others = read_others(world, connection, batch.cases, masked=masked)
        known = _known(connection, [record.message_uuid for record in records], batch)
    doubts = [doubt for case in batch.cases for doubt in case.doubts]
    verdicts = conclude([*doubts, *others], records, known_uuids=known)
    query = batch.query()
    looked = {"source": _SOURCE, "from": rfc3339(query.since), "until": rfc3339(query.until), "records": len(records)}
    for case in batch.cases:
        with world.database.transaction() as connection:
            message = lock_message(connection, case.message.id)
            if message is None or message.status != UNKNOWN or message.epoch != case.message.epoch:
                continue
            _apply(world, connection, message, verdicts[message.id], looked)
        world.checkpoint("reconcile.committed")
    world.bell.ring()


def _known(connection: Connection, uuids: Collection[str], batch: Batch) -> set[str]:
    """Return those of Plivo's ids that belong to messages of ours, other than those that are asked for."""
    asked = {case.message.id for case in batch.cases}
    return {uuid for uuid, owners in owners_of(connection, uuids).items() if owners - asked}


def _apply(world: Deps, connection: Connection, message: Message, verdict: Verdict, looked: Mapping[str, Any]) -> None:
    said = {"message_id": show_id("msg", message.id), "verdict": type(verdict).__name__.lower()}
    after_commit(connection, partial(log.info, "reconciled", **said))
    match verdict:
        case Taken(record):
            _adopt(world, connection, message, record, looked)
        case NotTaken():
            _send_again(world, connection, message, {"decision": "resend", **looked})
        case Undecided(candidates):
            evidence = {"decision": "hold", "candidates": list(candidates), **looked}
            change(world, connection, message, due_at=None)
            add_event(connection, message, "message.unknown", world.clock.now(), evidence)


def _send_again(world: Deps, connection: Connection, message: Message, evidence: Mapping[str, Any]) -> None:
    """Put a message back in its lane of which it is shown that no attempt so far was taken."""
    now = world.clock.now()
    rule_out(connection, message, now)
    requeue(world, connection, message, now, evidence=evidence)


def _adopt(world: Deps, connection: Connection, message: Message, record: Record, looked: Mapping[str, Any]) -> None:
    """Let the message be what Plivo's record of it says, as a delivery report would."""
    # A state that is none of those we know tells all the same that Plivo has the message.
    receipt = receipt_of(record) or receipt_of(record, state="sent")
    if receipt is not None:
        evidence = {"decision": "sent", "taken_at": rfc3339(record.taken_at), **looked}
        applied = apply_receipt(world, connection, message.id, receipt, evidence=evidence)
        if applied.result == "applied" and applied.status is not None:
            after_commit(connection, partial(world.metrics.count_message, applied.status, test=message.test))


def _settle_test(world: Deps, message: Message) -> None:
    """Settle a test key's message as its magic number says, since no list has it."""
    with world.database.transaction() as connection:
        current = lock_message(connection, message.id)
        if current is None or current.status != UNKNOWN or current.epoch != message.epoch:
            return
        if behaviour_of(current.to_number).answer(current.attempts).is_taken:
            play_receipts(world, connection, current)
        else:
            _send_again(world, connection, current, {"decision": "resend", "source": "test"})


def _postpone(world: Deps, cases: Sequence[Case], later: Later) -> None:
    """Look again when that makes sense; hold for a person what has been looked for long enough."""
    now = world.clock.now()
    patience = timedelta(seconds=world.settings.reconcile_give_up_seconds)
    over = [] if later.reason == STOPS else [case for case in cases if case.until + patience <= now]
    rest = [case for case in cases if case not in over]
    with world.database.transaction() as connection:
        # In the order of their ids, as all do that hold several.
        for case in sorted(rest, key=lambda case: case.message.id):
            message = lock_message(connection, case.message.id)
            if message is not None and message.status == UNKNOWN and message.epoch == case.message.epoch:
                due = min(now + timedelta(seconds=later.seconds), max(now, case.until + patience))
                change(world, connection, message, due_at=due)
        if later.reason != STOPS:
            note_list_trouble(world.database, connection, later.reason, now)
    for case in over:
        _leave_to_a_person(world, case.message, later.reason)
    log.warning("reconcile_waits", reason=later.reason, messages=len(rest), held=len(over))


def _leave_to_a_person(world: Deps, held: Message, reason: str) -> None:
    """Look for this unknown message no longer: a receipt, or a person, says what became of it."""
    with world.database.transaction() as connection:
        message = lock_message(connection, held.id)
        if message is None or message.status != UNKNOWN or message.epoch != held.epoch:
            return
        change(world, connection, message, due_at=None)
        evidence = {"decision": "hold", "source": _SOURCE, "reason": reason}
        add_event(connection, message, "message.unknown", world.clock.now(), evidence)

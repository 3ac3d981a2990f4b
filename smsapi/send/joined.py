"""One call to Plivo that many messages of a batch share, and what came of it, written down for all of them at once.

Plivo says of how many it took the text, and not under which id it has which (plivo-facts 2.2): they are `sent` without
its id until a report on the URL of the call names number and id together. A refusal or an outcome that is not known is
that of all; so that one bad number does not hold up the good ones for ever, they then go in smaller company.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, select, update

from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import Message, message_attempts, messages, to_message
from smsapi.messages.statuses import FAILED, SENDING, SENT, UNKNOWN
from smsapi.pacing.health import account_trouble, note_outcome
from smsapi.plivo.outcomes import (
    Accepted,
    AcceptedTogether,
    JoinedOutcome,
    Outcome,
    Rejected,
    Unavailable,
    Unknown,
)
from smsapi.send.begin import Begun
from smsapi.send.call import call_joined
from smsapi.send.change import ACCOUNT_REFUSED, NO_ANSWER, REJECTED, insist
from smsapi.send.settle import in_charge, next_look, take
from smsapi.send.stops import CanceledAmong, no_batch
from smsapi.send.together import change_all, conclude_all, count_all, requeue_all, tell_all

log = get_logger()

# After a call that was refused, or whose outcome is not known, so many times fewer share the next.
_APART: Final = 10
_INVALID: Final = (REJECTED, "Plivo does not take the number as a valid one.")


def run_joined(world: Deps, begun: Begun, chunk_id: UUID, *, canceled_among: CanceledAmong = no_batch) -> Message:
    """Make the one call that was begun for several messages, and write down what came of it for each.

    Returns the first of them, as it was begun. Nothing is tried again here: what was not sent goes back to its lane.
    """
    called = call_joined(world, begun.messages, chunk_id, canceled_among=canceled_among)
    world.checkpoint("joined.returned")
    try:
        # Without it all that is left of the call is that its outcome is unknown. Writing it twice changes nothing.
        insist(world, lambda: settle_joined(world, begun, chunk_id, called.outcome))
    finally:
        called.tell()
    return begun.message


@dataclass(frozen=True, slots=True)
class _Part:
    """One message of the call: as it was when the attempt began, and as it stands, held by this transaction."""

    attempted: Message
    message: Message

    @property
    def is_as_begun(self) -> bool:
        """Say whether nothing has happened to it since."""
        now, then = self.message, self.attempted
        untouched = now.provider_uuid is None and now.sent_at is None
        return untouched and (now.status, now.epoch, now.attempts) == (SENDING, then.epoch, then.attempts)

    @property
    def is_in_charge(self) -> bool:
        """Say whether it is this attempt's to say what becomes of it."""
        return in_charge(self.message, self.attempted)


def settle_joined(world: Deps, begun: Begun, chunk_id: UUID, outcome: JoinedOutcome) -> None:
    """Write down what came of the call, for all messages in one transaction; writing it twice changes nothing."""
    world.checkpoint("joined.settling")
    now = world.clock.now()
    with world.database.transaction() as connection:
        parts = _open_parts(connection, begun, chunk_id)
        if parts:
            if isinstance(outcome, AcceptedTogether):
                _take_all(world, connection, chunk_id, parts, outcome)
            else:
                name, status, reason = type(outcome).__name__.lower(), outcome.status, outcome.reason
                _note_attempts(connection, chunk_id, parts, now, outcome=name, status=status, reason=reason)
                _go_on(world, connection, [part.message for part in parts if part.is_in_charge], outcome)
            told = _as_one(outcome)
            note_outcome(world.database, connection, told, begun.admitted, now=now, settings=world.settings)
    world.checkpoint("joined.settled")


def _open_parts(connection: Connection, begun: Begun, chunk_id: UUID) -> Sequence[_Part]:
    """Hold all messages of the call, and return those whose attempt was not completed before."""
    attempted = {message.id: message for message in begun.messages}
    # In the order of their ids, so that no two can wait for each other.
    held = select(messages).where(messages.c.id.in_(list(attempted))).order_by(messages.c.id).with_for_update()
    found = [to_message(row) for row in connection.execute(held)]
    rows = message_attempts.c
    query = select(rows.message_id).where(rows.chunk_id == chunk_id, rows.finished_at.is_(None))
    open_ones = set(connection.execute(query).scalars())
    return [_Part(attempted[message.id], message) for message in found if message.id in open_ones]


def _note_attempts(
    connection: Connection,
    chunk_id: UUID,
    parts: Sequence[_Part],
    now: datetime,
    *,
    outcome: str,
    status: int | None = None,
    reason: str | None = None,
) -> None:
    """Complete the attempts' rows."""
    rows = message_attempts.c
    own = (rows.chunk_id == chunk_id, rows.message_id.in_([part.message.id for part in parts]))
    values = {"finished_at": now, "outcome": outcome, "provider_status": status, "reason": reason}
    connection.execute(update(message_attempts).where(*own).values(**values))


def _take_all(
    world: Deps, connection: Connection, chunk_id: UUID, parts: Sequence[_Part], outcome: AcceptedTogether
) -> None:
    now, invalid = world.clock.now(), set(outcome.invalid)
    taken = [part for part in parts if part.attempted.to_number not in invalid]
    refused = [part for part in parts if part.attempted.to_number in invalid]
    evidence = {"chunk_id": show_id("chk", chunk_id)}
    _note_attempts(connection, chunk_id, taken, now, outcome="accepted")
    _take_as_begun(world, connection, [part.message for part in taken if part.is_as_begun], evidence)
    for part in taken:
        if not part.is_as_begun:
            # A fact, whoever holds the message by now: Plivo has it. A receipt may even have come before.
            take(world, connection, part.message, None, evidence)
    if refused:
        _note_attempts(connection, chunk_id, refused, now, outcome="rejected", reason=_INVALID[1])
        mine = [part.message for part in refused if part.is_in_charge]
        name = world.provider.name
        conclude_all(world, connection, mine, FAILED, _INVALID, evidence=evidence, provider_name=name)


def _take_as_begun(
    world: Deps, connection: Connection, several: Sequence[Message], evidence: Mapping[str, Any]
) -> None:
    if not several:
        return
    now = world.clock.now()
    values: dict[str, Any] = {
        "status": SENT,
        "provider_name": world.provider.name,
        "sent_at": now,
        "due_at": next_look(world, several[0], now),
        "error_code": None,
        "error_message": None,
    }
    change_all(world, connection, several, **values)
    tell_all(connection, several, "message.sent", now, evidence)
    count_all(world, connection, several, SENT)


def _go_on(
    world: Deps, connection: Connection, several: Sequence[Message], outcome: Rejected | Unavailable | Unknown
) -> None:
    """Say how those go on that the outcome has to say of, none of whom was taken as far as is known."""
    if not several:
        return
    match outcome:
        case Rejected():
            _send_apart(world, connection, several, outcome)
        case Unavailable():
            _try_later(world, connection, several, outcome)
        case Unknown():
            # Of those whose lease was lost nothing more is known now.
            _doubt_all(world, connection, [each for each in several if each.status == SENDING], outcome)


def _send_apart(world: Deps, connection: Connection, several: Sequence[Message], outcome: Rejected) -> None:
    """Put them back, to go in smaller company: of whom the refusal is, shows only in the end.

    Where it is the account's they wait for that, as a single message does.
    """
    now, trouble, fewer = world.clock.now(), account_trouble(outcome), _fewer(several)
    evidence: dict[str, Any] = {"reason": "refused_together", "recipients": len(several)}
    if trouble is None:
        # The refusal is not one of the message, so it counts for nothing: it goes again at once.
        requeue_all(world, connection, several, now, joined=fewer, evidence=evidence, in_the_end=None)
        return
    after_commit(connection, partial(log.warning, "account_refused", reason=trouble, recipients=len(several)))
    due = now + timedelta(seconds=world.settings.account_probe_seconds)
    evidence = {"reason": "account_paused", "trouble": trouble}
    requeue_all(world, connection, several, due, joined=fewer, evidence=evidence, in_the_end=ACCOUNT_REFUSED)


def _try_later(world: Deps, connection: Connection, several: Sequence[Message], outcome: Unavailable) -> None:
    wait = world.retry_policy.delay(several[0].attempts, outcome.retry_after_seconds, world.random)
    due = world.clock.now() + timedelta(seconds=wait)
    requeue_all(world, connection, several, due, joined=several[0].joined)


def _doubt_all(world: Deps, connection: Connection, several: Sequence[Message], outcome: Unknown) -> None:
    for on_unknown in sorted({message.on_unknown for message in several}):
        alike = [message for message in several if message.on_unknown == on_unknown]
        if on_unknown == "resend":
            _send_again(world, connection, alike, outcome)
        else:
            _call_unknown(world, connection, alike, outcome, on_unknown)


def _send_again(world: Deps, connection: Connection, several: Sequence[Message], outcome: Unknown) -> None:
    wait = world.retry_policy.delay(several[0].attempts, None, world.random)
    due = world.clock.now() + timedelta(seconds=wait)
    evidence = {"decision": "resend", "reason": outcome.reason, "attempt": several[0].attempts}
    requeue_all(world, connection, several, due, joined=_fewer(several), evidence=evidence)


def _call_unknown(
    world: Deps, connection: Connection, several: Sequence[Message], outcome: Unknown, on_unknown: str
) -> None:
    due = world.clock.now() + timedelta(seconds=world.settings.reconcile_after_seconds)
    conclude_all(
        world,
        connection,
        several,
        UNKNOWN,
        NO_ANSWER,
        evidence={"reason": outcome.reason, "on_unknown": on_unknown},
        provider_name=world.provider.name,
        due_at=None if on_unknown == "hold" else due,
        joined=_fewer(several),
    )


def _fewer(several: Sequence[Message]) -> int:
    # As many as they were, where more might have been.
    return max(1, min(several[0].joined or 1, len(several)) // _APART)


def _as_one(outcome: JoinedOutcome) -> Outcome:
    """Return the outcome as that of one message, for the gates: what it says of the far side is the same."""
    if not isinstance(outcome, AcceptedTogether):
        return outcome
    if outcome.message_uuids:
        return Accepted(outcome.message_uuids[0])
    return Rejected("message", _INVALID[1], HTTPStatus.ACCEPTED)

"""What is done with a message that needs a look and is not to be sent, by how it stands."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, update

from smsapi.deps import Deps
from smsapi.dispatch.claims import Chore, Claim, claim_chores
from smsapi.messages.models import Message, messages
from smsapi.messages.statuses import SENDING, SENT, UNKNOWN, WAITING
from smsapi.messages.store import lock_message
from smsapi.receipts.overdue import ask_for_overdue
from smsapi.receipts.simulated import play_receipts
from smsapi.reconcile.service import reconcile
from smsapi.send.settle import lose_lease

_AT_ONCE = 20
# One question to the far side's list may settle many: all that shared one call.
_ASKED_AT_ONCE = 1000


def run_chore(world: Deps, claim: Claim) -> None:
    """Say of what was being sent by somebody who died that its outcome is unknown; play a test key's receipts."""
    with world.database.transaction() as connection:
        message = lock_message(connection, claim.message_id)
        if message is None or message.epoch != claim.epoch:
            return
        if message.status == UNKNOWN or (message.status == SENT and not message.test):
            # What its sender learnt after all came between the claim and here, and says when it is looked into.
            return
        if message.status == SENDING:
            lose_lease(world, connection, message)
        elif message.test and message.status not in WAITING:
            play_receipts(world, connection, message)
        else:
            _let_be(connection, message)


def _let_be(connection: Connection, message: Message) -> None:
    # Whatever brought it here: without a due time what waits would never be sent.
    settled = (messages.c.id == message.id, messages.c.status.not_in(WAITING))
    connection.execute(update(messages).where(*settled).values(due_at=None))


def run_chores(world: Deps, stopping: Callable[[], bool]) -> None:
    """Do all that is due and neither unknown nor unreported."""
    while not stopping():
        claims = _claim(world, Chore.OTHER, _AT_ONCE)
        for claim in claims:
            world.checkpoint("chore.claimed")
            run_chore(world, claim)
            world.checkpoint("chore.committed")
        if len(claims) < _AT_ONCE:
            break


def reconcile_due(world: Deps, stopping: Callable[[], bool]) -> int:
    """Settle the unknown ones that are due, as far as the list may be asked; return how many were looked at."""
    looked_at = 0
    while not stopping():
        claims = _claim(world, Chore.DOUBT, _ASKED_AT_ONCE)
        if not claims:
            break
        reconcile(world, {claim.message_id: claim.epoch for claim in claims}, stopping)
        looked_at += len(claims)
    return looked_at


def ask_for_reports(world: Deps, stopping: Callable[[], bool]) -> int:
    """Ask the list for what was sent and never reported, as far as it may be asked; return how many were looked at.

    What is more than a few questions' worth waits for the next time: the unknown ones have the list's questions first.
    """
    claims = _claim(world, Chore.NO_REPORT, _ASKED_AT_ONCE)
    if claims:
        ask_for_overdue(world, {claim.message_id: claim.epoch for claim in claims}, stopping)
    return len(claims)


def _claim(world: Deps, chore: Chore, limit: int) -> Sequence[Claim]:
    lease = world.settings.lease_seconds
    with world.database.transaction() as connection:
        return claim_chores(connection, world.clock.now(), chore, lease_seconds=lease, limit=limit)

"""What is done with a message that needs a look and is not to be sent, by how it stands."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Connection, update

from smsapi.deps import Deps
from smsapi.dispatch.claims import Claim, claim_chores
from smsapi.messages.models import Message, messages
from smsapi.messages.statuses import SENDING, SENT, UNKNOWN, WAITING
from smsapi.messages.store import lock_message
from smsapi.receipts.simulated import play_receipts
from smsapi.reconcile.service import reconcile
from smsapi.send.settle import lose_lease

_AT_ONCE = 20
# One question to the far side's list may settle many: all that shared one call.
_UNKNOWN_AT_ONCE = 1000


def run_chore(world: Deps, claim: Claim) -> None:
    """Say of what was being sent by somebody who died that its outcome is unknown; play a test key's receipts.

    A live message that was sent stays as it is, for :func:`smsapi.receipts.overdue.ask_for_overdue`.
    """
    with world.database.transaction() as connection:
        message = lock_message(connection, claim.message_id)
        if message is None or message.epoch != claim.epoch:
            return
        if message.status == UNKNOWN:
            # What its sender learnt after all came between the claim and here, and says when it is looked into.
            return
        if message.status == SENDING:
            lose_lease(world, connection, message)
        elif message.test and message.status not in WAITING:
            play_receipts(world, connection, message)
        elif message.status == SENT:
            return  # its report is overdue: several are asked for together
        else:
            _let_be(connection, message)


def _let_be(connection: Connection, message: Message) -> None:
    # Whatever brought it here: without a due time what waits would never be sent.
    settled = (messages.c.id == message.id, messages.c.status.not_in(WAITING))
    connection.execute(update(messages).where(*settled).values(due_at=None))


def run_chores(world: Deps, stopping: Callable[[], bool]) -> dict[UUID, int]:
    """Do all that is due but the unknown ones; return what may wait for a report in vain, by the epochs of its hold."""
    sent: dict[UUID, int] = {}
    while not stopping():
        with world.database.transaction() as connection:
            claims = claim_chores(
                connection, world.clock.now(), lease_seconds=world.settings.lease_seconds, limit=_AT_ONCE
            )
        for claim in claims:
            world.checkpoint("chore.claimed")
            run_chore(world, claim)
            world.checkpoint("chore.committed")
        sent |= {claim.message_id: claim.epoch for claim in claims if claim.status == SENT}
        if len(claims) < _AT_ONCE:
            break
    return sent


def reconcile_due(world: Deps, stopping: Callable[[], bool]) -> int:
    """Settle the unknown ones that are due, as far as the list may be asked; return how many were looked at."""
    looked_at, lease = 0, world.settings.lease_seconds
    while not stopping():
        with world.database.transaction() as connection:
            claims = claim_chores(
                connection, world.clock.now(), lease_seconds=lease, limit=_UNKNOWN_AT_ONCE, unknown=True
            )
        if not claims:
            break
        reconcile(world, {claim.message_id: claim.epoch for claim in claims}, stopping)
        looked_at += len(claims)
    return looked_at

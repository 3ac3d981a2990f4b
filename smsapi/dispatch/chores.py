"""What is done with a message that needs a look and is not to be sent, by how it stands."""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection, update

from smsapi.deps import Deps
from smsapi.dispatch.aside import set_aside
from smsapi.dispatch.claims import Chore, Claim, claim_chores
from smsapi.errors import Unavailable
from smsapi.messages.models import CHORE, Message, messages
from smsapi.messages.statuses import SENDING, SENT, STATUSES, UNKNOWN, WAITING
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
        if message.status not in STATUSES:
            raise ValueError("the status is one of a newer release")
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
    """Do all that is due and neither unknown nor unreported; what cannot be handled is set aside."""
    while not stopping():
        claims = _claim(world, Chore.OTHER, _AT_ONCE)
        for claim in claims:
            world.checkpoint("chore.claimed")
            _try(world, [claim], lambda claims: run_chore(world, claims[0]), Chore.OTHER)
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
        _try(world, claims, lambda some: reconcile(world, _held(some), stopping), Chore.DOUBT)
        looked_at += len(claims)
    return looked_at


def ask_for_reports(world: Deps, stopping: Callable[[], bool]) -> int:
    """Ask the list for what was sent and never reported, as far as it may be asked; return how many were looked at.

    What is more than a few questions' worth waits for the next time: the unknown ones have the list's questions first.
    """
    claims = _claim(world, Chore.NO_REPORT, _ASKED_AT_ONCE)
    if claims:
        _try(world, claims, lambda some: ask_for_overdue(world, _held(some), stopping), Chore.NO_REPORT)
    return len(claims)


def _held(claims: Sequence[Claim]) -> Mapping[UUID, int]:
    return {claim.message_id: claim.epoch for claim in claims}


def _try(world: Deps, claims: Sequence[Claim], act: Callable[[Sequence[Claim]], object], chore: Chore) -> None:
    """Do it for all at once; where that fails, for each half of them, until the one that fails is alone and set aside.

    What was done before it failed is not done again: that moved the epoch, or the status.
    """
    try:
        act(claims)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
        if len(claims) == 1:
            (claim,) = claims
            still = (messages.c.epoch == claim.epoch, CHORE)
            set_aside(world, claim.message_id, error, what=chore.value, still=still)
            return
    else:
        return
    half = len(claims) // 2
    for some in (claims[:half], claims[half:]):
        _try(world, some, act, chore)


def _claim(world: Deps, chore: Chore, limit: int) -> Sequence[Claim]:
    lease = world.settings.lease_seconds
    with world.database.transaction() as connection:
        return claim_chores(connection, world.clock.now(), chore, lease_seconds=lease, limit=limit)

"""What is done with a claimed message, by how it stands."""

from sqlalchemy import update

from smsapi.deps import Deps
from smsapi.dispatch.claims import Claim
from smsapi.messages.models import messages
from smsapi.messages.statuses import QUEUED, SENDING
from smsapi.messages.store import lock_message
from smsapi.receipts.simulated import play_receipts
from smsapi.send.deliver import deliver, lose_lease


def run_claim(world: Deps, claim: Claim) -> None:
    """Send what is queued; say of what was being sent by somebody who died that its outcome is unknown."""
    if claim.status == QUEUED:
        deliver(world, claim.message_id, claim.epoch, wait_until=world.clock.now(), attempts=claim.attempts)
        return
    with world.database.transaction() as connection:
        message = lock_message(connection, claim.message_id)
        if message is None or message.epoch != claim.epoch:
            return
        if message.status == SENDING:
            lose_lease(world, connection, message)
        elif message.test:
            play_receipts(world, connection, message)
        else:
            # Whatever brought it here: without a due time what is queued would never be sent.
            settled = (messages.c.id == message.id, messages.c.status != QUEUED)
            connection.execute(update(messages).where(*settled).values(due_at=None))

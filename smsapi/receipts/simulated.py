"""The delivery reports of test keys' messages, which no Plivo will ever send."""

from functools import partial

from sqlalchemy import Connection, update

from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.messages.models import Message, messages
from smsapi.plivo.magic import behaviour_of
from smsapi.receipts.facts import read_receipt
from smsapi.receipts.service import apply_receipt
from smsapi.send.settle import next_simulated_receipt, taken_at


def play_receipts(world: Deps, connection: Connection, message: Message) -> None:
    """Apply every report of a test message that is due by now, as if Plivo had sent it, and note the next one."""
    now = world.clock.now()
    taken = taken_at(message, now)
    upcoming = next_simulated_receipt(message, now)
    for planned in behaviour_of(message.to_number).receipts:
        if planned.delay_seconds <= (now - taken).total_seconds():
            receipt = read_receipt({"Status": planned.status, "ErrorCode": planned.error_code or ""})
            if receipt is None:
                continue
            applied = apply_receipt(world, connection, message.id, receipt)
            if applied.result == "applied" and applied.status is not None:
                after_commit(connection, partial(world.metrics.count_message, applied.status, test=True))
    connection.execute(update(messages).where(messages.c.id == message.id).values(due_at=upcoming))

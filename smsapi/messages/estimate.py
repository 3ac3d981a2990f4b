"""When a message that waits will probably be sent: what of its own flow is ahead of it, at its share of each pace."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select, tuple_

from smsapi.messages.flows import Flow, find_work
from smsapi.messages.lanes import TEST, name_of
from smsapi.messages.models import WAITS, Message, messages
from smsapi.messages.statuses import WAITING
from smsapi.pacing.gates import PAUSE, Gate
from smsapi.pacing.tolls import REQUESTS, SENDER_PREFIX, Toll, tolls_of
from smsapi.settings import Settings
from smsapi.sms.sender import InvalidSender

# Further ahead is not counted, and the estimate is too early then.
_COUNTED: Final = 10_000


def estimate_send_at(
    settings: Settings, connection: Connection, message: Message, now: datetime, closed: Sequence[Gate]
) -> datetime | None:
    """Return when the message is expected to go to Plivo, or None where it does not wait, or waits for a person.

    ``closed`` are the gates that stop anything. It counts what is ahead of it from the same client and sender in the
    same lane, and takes the other clients of the lane to get their shares. A lane that goes before it is not foreseen.
    """
    if message.status not in WAITING or message.due_at is None:
        return None
    begins = max(now, message.due_at)
    if message.lane == TEST:
        return begins
    for stop in closed:
        if stop.key in {PAUSE, f"{PAUSE}:{name_of(message.lane)}"}:
            return None
        if stop.opens_at is not None and not stop.key.startswith(PAUSE):
            begins = max(begins, stop.opens_at)
    flows = [flow for flow in find_work(connection, now).flows if flow.lane == message.lane]
    ahead, segments = _ahead(connection, message)
    try:
        tolls = tolls_of(settings, message.sender, message.segments)
    except InvalidSender:
        return None  # of what this release cannot send, it cannot say when another will
    waits = [(ahead if toll.key == REQUESTS else segments) / _share(toll, flows, message) for toll in tolls]
    return begins + timedelta(seconds=max(waits, default=0.0))


def _ahead(connection: Connection, message: Message) -> tuple[int, int]:
    """Return how many messages of its flow go before it, and their segments."""
    columns = messages.c
    before = (
        select(columns.segments)
        .where(
            WAITS,
            columns.lane == message.lane,
            columns.client_id == message.client_id,
            columns.sender == message.sender,
            tuple_(columns.due_at, columns.id) < tuple_(message.due_at, message.id),
        )
        .order_by(columns.due_at, columns.id)
        .limit(_COUNTED)
        .subquery()
    )
    row = connection.execute(select(func.count(), func.coalesce(func.sum(before.c.segments), 0))).one()
    return int(row[0]), int(row[1])


def _share(toll: Toll, flows: Sequence[Flow], message: Message) -> float:
    """Return the units a second of a pace that fall to the message's client, of those who wait for the same."""
    rivals = [flow for flow in flows if not toll.key.startswith(SENDER_PREFIX) or flow.sender == message.sender]
    weights = {flow.client_id: flow.weight for flow in rivals}
    return toll.per_second * weights.get(message.client_id, 1) / max(1, sum(weights.values()))

"""Delivering one message: the same few steps whether its caller waits or a worker took it.

Each attempt is written down before the call, and no transaction is open while Plivo is asked, so that whatever dies
in between leaves a row that says how far it came.
"""

from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import update

from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.flows import find_work
from smsapi.messages.lanes import TEST
from smsapi.messages.models import Message, messages
from smsapi.messages.statuses import QUEUED, SENDING, WAITING
from smsapi.messages.store import get_message
from smsapi.pacing.gates import Closed
from smsapi.pacing.tolls import PACE_PREFIX, SENDER_PREFIX
from smsapi.send.begin import Begun, Gone, begin_held
from smsapi.send.call import call
from smsapi.send.change import insist
from smsapi.send.joined import run_joined
from smsapi.send.settle import settle
from smsapi.send.stops import CanceledAmong, no_batch

log = get_logger()

# A gate may be opened before its time, and a pace's next slot be somebody else's: ask again this often.
_LONGEST_WAIT_AT_A_GATE_SECONDS = 0.5
_SHORTEST_WAIT_AT_A_GATE_SECONDS = 0.005
_LOOK_AGAIN_SECONDS = 0.1


def deliver(world: Deps, message_id: UUID, epoch: int, *, wait_until: datetime) -> Message:
    """Send a message that is held under ``epoch``, for a caller who waits; return how it then stands.

    It waits at a closed gate, and tries again where nothing was sent, until ``wait_until``; then the message goes back
    to its lane and a dispatcher goes on. Where another took the message over, nothing is sent.

    Raises:
        StoreUnavailable: the store does not answer; what is written by then says how far it came.

    """
    begun = _begin_when_open(world, message_id, epoch, 1, wait_until)
    return begun if isinstance(begun, Message) else run(world, begun, wait_until=wait_until)


def run(world: Deps, begun: Begun, *, wait_until: datetime, canceled_among: CanceledAmong = no_batch) -> Message:
    """Make the attempt that was begun, and further ones until ``wait_until`` where nothing was sent.

    One that several messages share is made once, for all of them; the first is returned. ``canceled_among`` says which
    batches were called off, where the attempt waited for so long that it has to ask.
    """
    if begun.chunk_id is not None:
        return run_joined(world, begun, begun.chunk_id, canceled_among=canceled_among)
    while True:
        called = call(world, begun.message, canceled_among=canceled_among)
        world.checkpoint("call.returned")
        try:
            # Without it all that is left of the call is that its outcome is unknown. Writing it twice changes nothing.
            write = partial(settle, world, begun, called.outcome, wait_until=wait_until)
            settled = insist(world, write)
        finally:
            called.tell()
        if settled.retry_in_seconds is None:
            return settled.message
        world.clock.sleep(settled.retry_in_seconds)
        message = begun.message
        again = _begin_when_open(world, message.id, message.epoch, message.attempts + 1, wait_until)
        if isinstance(again, Message):
            return again
        begun = again


def _begin_when_open(world: Deps, message_id: UUID, epoch: int, number: int, wait_until: datetime) -> Begun | Message:
    while True:
        begun = insist(world, lambda: begin_held(world, message_id, epoch, number))
        if isinstance(begun, Gone):
            return begun.message
        if isinstance(begun, Begun):
            return begun
        now = world.clock.now()
        if begun.opens_at is None or begun.opens_at > wait_until:
            return _hand_over(world, message_id, epoch, begun)
        if _others_wait_at(world, begun):
            # Whoever waits right at the gate is always the first through it: what is queued would stand still.
            return _follow(world, _hand_over(world, message_id, epoch, begun), wait_until)
        wait = min((begun.opens_at - now).total_seconds(), _LONGEST_WAIT_AT_A_GATE_SECONDS)
        world.clock.sleep(max(wait, _SHORTEST_WAIT_AT_A_GATE_SECONDS))


def _hand_over(world: Deps, message_id: UUID, epoch: int, closed: Closed) -> Message:
    """Let a dispatcher send what may not be sent before its caller's patience ends."""
    columns = messages.c
    held = (columns.id == message_id, columns.epoch == epoch, columns.status.in_(WAITING))
    said = {"message_id": show_id("msg", message_id), "gate": closed.key}
    with world.database.transaction() as connection:
        after_commit(connection, partial(log.debug, "waits_at_a_gate", **said))
        connection.execute(update(messages).where(*held).values(due_at=world.clock.now(), epoch=columns.epoch + 1))
        return get_message(connection, message_id)


def _others_wait_at(world: Deps, closed: Closed) -> bool:
    """Say whether anything that is queued needs this pace too, so that the lanes' turns have to decide."""
    if not closed.key.startswith(PACE_PREFIX):
        return False
    with world.database.read() as connection:
        flows = find_work(connection, world.clock.now()).flows
    sender = closed.key.removeprefix(SENDER_PREFIX)
    of_one = closed.key.startswith(SENDER_PREFIX)
    return any(flow.lane != TEST and (not of_one or flow.sender == sender) for flow in flows)


def _follow(world: Deps, message: Message, wait_until: datetime) -> Message:
    """Return how a message stands that a dispatcher sends, when it is settled or its caller's patience ends."""
    world.bell.ring()
    while message.status in {QUEUED, SENDING} and world.clock.now() < wait_until:
        world.clock.sleep(_LOOK_AGAIN_SECONDS)
        with world.database.read() as connection:
            message = get_message(connection, message.id)
    return message

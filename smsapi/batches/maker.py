"""What keeps batches going, on a thread of its own: rows made into messages, counts added up, ends noticed."""

import math
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import select, update

from smsapi.batches.models import DUE, Batch, batches
from smsapi.batches.progress import advance
from smsapi.batches.store import lock_batch
from smsapi.deps import Deps
from smsapi.errors import Unavailable
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.lookout import SWEEPS_MISSED, Lookout

log = get_logger()

_AT_ONCE: Final = 100
_AFTER_A_FAILURE: Final = timedelta(minutes=1)
_NEXT: Final = select(batches.c.id, batches.c.due_at).where(DUE).order_by(batches.c.due_at).limit(_AT_ONCE)
# When the next of all has to be tended.
NEXT_BATCH: Final = select(batches.c.due_at).where(DUE).order_by(batches.c.due_at).limit(1)


def lookout_for_batches(world: Deps) -> Lookout:
    """Return what tends all batches that are due; one for each process that sends.

    Several share the work: what one has locked, the others pass over.
    """
    longest = world.settings.dispatch_sweep_seconds * SWEEPS_MISSED
    return Lookout("batches", partial(tend_due, world), longest_seconds=longest)


def tend_due(world: Deps, stopping: Callable[[], bool]) -> float:
    """Do the next step of every batch that is due; return for how many seconds there is then nothing to do.

    A batch that fails keeps none of the others from going on; it is tried again a minute later.

    Raises:
        StoreUnavailable: the store does not answer; what was not committed will be done again.

    """
    now = world.clock.now()
    with world.database.read() as connection:
        found = connection.execute(_NEXT).all()
    looks = [row.due_at for row in found if row.due_at > now]
    for row in found:
        if row.due_at <= now and not stopping():
            tended = _tend_or_postpone(world, row.id)
            if tended is not None and tended.due_at is not None:
                looks.append(tended.due_at)
    now = world.clock.now()
    return max(0.0, min(((look - now).total_seconds() for look in looks), default=math.inf))


def tend(world: Deps, batch_id: UUID) -> Batch | None:
    """Do the next step of a batch; return it as it then stands, or None where it is not due, or in other hands."""
    with world.database.transaction() as connection:
        batch = lock_batch(connection, batch_id, if_free=True)
        if batch is None or batch.due_at is None or batch.due_at > world.clock.now():
            return None
        tended = advance(world, connection, batch)
        world.checkpoint("batch.tended")
    world.checkpoint("batch.committed")
    if tended.made > batch.made:
        world.bell.ring()
    return tended


def _tend_or_postpone(world: Deps, batch_id: UUID) -> Batch | None:
    try:
        return tend(world, batch_id)
    except Unavailable:
        raise
    except Exception:  # the others go on all the same
        log.exception("batch_failed", batch_id=show_id("bat", batch_id))
    with world.database.transaction() as connection:
        later = world.clock.now() + _AFTER_A_FAILURE
        connection.execute(update(batches).where(batches.c.id == batch_id, DUE).values(due_at=later))
    return None

"""What is forgotten and erased when its time is over, on a thread of its own: no message waits for it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from smsapi.batches.intake import forget_abandoned
from smsapi.deps import Deps
from smsapi.errors import Unavailable
from smsapi.log import get_logger
from smsapi.lookout import Lookout
from smsapi.monitoring.workers import forget_stale
from smsapi.privacy.service import erase_old
from smsapi.web.idempotency import FORGET_BATCH, forget_expired
from smsapi.webhooks.housekeeping import forget_old_events

log = get_logger()

_EVERY: Final = timedelta(minutes=10)
_AFTER_A_FAILURE: Final = timedelta(minutes=1)
# Any fixed number, as long as nobody else locks it in this database.
LOCK: Final = 8_731_402_219


class _Housekeeper:
    def __init__(self, world: Deps) -> None:
        self._world = world
        self._next: datetime | None = None

    def look(self, stopping: Callable[[], bool]) -> float:
        """Do all of it where it is time to; return how long it is until then."""
        now = self._world.clock.now()
        if self._next is None or now >= self._next:
            self._next = now + _AFTER_A_FAILURE
            with self._world.database.exclusive(LOCK) as is_ours:
                # One that fails keeps no other from being done.
                done = [is_ours and self._do(act, stopping) for act in _ACTS]
            if all(done):
                self._next = now + _EVERY
        return (self._next - now).total_seconds()

    def _do(self, act: Callable[[Deps, Callable[[], bool]], object], stopping: Callable[[], bool]) -> bool:
        """Return False where it failed, and keeps nothing else from being done."""
        try:
            act(self._world, stopping)
        except Unavailable:
            raise
        except Exception:
            log.exception("housekeeping_failed", what=act.__name__)
            return False
        return True


def lookout_for_housekeeping(world: Deps) -> Lookout:
    """Return what does the housekeeping: at once, every ten minutes, and a minute after it failed.

    One process at a time: where another is at it, it is asked again a minute later.
    """
    return Lookout("housekeeping", _Housekeeper(world).look, longest_seconds=world.settings.dispatch_sweep_seconds)


def _forget_keys(world: Deps, stopping: Callable[[], bool]) -> None:
    forgotten = FORGET_BATCH
    while forgotten == FORGET_BATCH and not stopping():
        with world.database.transaction() as connection:
            forgotten = forget_expired(connection, world.clock.now())


def _forget_workers(world: Deps, _stopping: Callable[[], bool]) -> None:
    with world.database.statement() as connection:
        forget_stale(connection, world.clock.now())


_ACTS: Final = (_forget_keys, _forget_workers, erase_old, forget_old_events, forget_abandoned)

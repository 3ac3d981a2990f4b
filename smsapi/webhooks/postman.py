"""Webhook worker: tells the endpoints on threads of its own, so that nobody waits for a webhook or another endpoint."""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from smsapi.deps import Deps
from smsapi.errors import Unavailable
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.lookout import SWEEPS_MISSED, Lookout
from smsapi.webhooks.deliver import deliver
from smsapi.webhooks.deliveries import Claimed, claim, find_due, look
from smsapi.webhooks.models import Endpoint
from smsapi.webhooks.relay import relay

log = get_logger()

# Longer than any attempt may take, its name's resolution included.
LEASE_SECONDS: Final = 60.0
# Between two numberings of events, however fast they come: where an endpoint waits for them, and where none does, and
# only whoever asks for events sees the numbers.
_TELLING_EVERY_SECONDS: Final = 0.05
_NUMBERING_EVERY_SECONDS: Final = 0.25


class Postman:
    """Numbers events and delivers webhooks from ``start`` to ``stop``; one for each process that sends."""

    def __init__(self, world: Deps) -> None:
        self._world = world
        self._threads = world.settings.webhook_threads
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="smsapi-webhook")
        self._lock = threading.Lock()
        self._out = 0
        self._troubled = 0
        sweep = world.settings.dispatch_sweep_seconds
        self._seldom = min(_NUMBERING_EVERY_SECONDS, sweep)
        # Rung by every transaction that writes an event.
        self.lookout = Lookout("webhooks", self._look, longest_seconds=sweep * SWEEPS_MISSED)

    def start(self) -> None:
        """Start to look for events and for what is due."""
        self.lookout.start()

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Begin nothing new; what is out may end, or comes back when its lease ends."""
        self.lookout.stop(timeout_seconds)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def ring(self) -> None:
        """Say that something new may be there to be told."""
        self.lookout.ring()

    def _look(self, stopping: Callable[[], bool]) -> float:
        """Do what is to be done, and return how long to rest then: until the next try."""
        with self._world.database.read() as connection:
            found = look(connection)
        self.lookout.shortest_seconds = _TELLING_EVERY_SECONDS if found.anybody else self._seldom
        now = self._world.clock.now()
        elsewhere = found.news and relay(self._world) is None
        if found.news or (found.due_at is not None and found.due_at <= now):
            self._begin_due(stopping)
            return self.lookout.shortest_seconds if elsewhere else math.inf
        return math.inf if found.due_at is None else (found.due_at - now).total_seconds()

    def _begin_due(self, stopping: Callable[[], bool]) -> None:
        now = self._world.clock.now()
        with self._world.database.read() as connection:
            due = find_due(connection, now)
        for endpoint in due:
            if stopping():
                return
            room = self._room(endpoint)
            if room > 0:
                self._begin_for(endpoint, room)

    def _begin_for(self, endpoint: Endpoint, room: int) -> None:
        try:
            for each in claim_for(self._world, endpoint, limit=room):
                self._send(each, troubled=is_troubled(endpoint))
        except Unavailable:
            raise
        except Exception:  # the other endpoints are told all the same
            log.exception("webhook_failed", endpoint_id=show_id("whe", endpoint.id))

    def _room(self, endpoint: Endpoint) -> int:
        """Return how many threads are free for it; the troubled ones never have more than half of all."""
        with self._lock:
            free = self._threads - self._out
            if not is_troubled(endpoint):
                return free
            return min(1, free, max(1, self._threads // 2) - self._troubled)

    def _send(self, claimed: Claimed, *, troubled: bool) -> None:
        with self._lock:
            self._out += 1
            self._troubled += troubled
        self._pool.submit(self._deliver, claimed, troubled=troubled)

    def _deliver(self, claimed: Claimed, *, troubled: bool) -> None:
        try:
            deliver(self._world, claimed)
        except Unavailable:
            log.warning("webhooks_wait", reason="the database does not answer")
        except Exception:  # the others are told all the same; this one comes back when its lease ends
            log.exception("webhook_failed", endpoint_id=show_id("whe", claimed.endpoint.id))
        finally:
            with self._lock:
                self._out -= 1
                self._troubled -= troubled
            # A thread is free, and of the same message more may be told: that waits for nothing.
            self.lookout.ring(at_once=True)


def is_troubled(endpoint: Endpoint) -> bool:
    """Say whether it failed or took long at its last attempt: it may hold only few threads, and one at a time."""
    return endpoint.slow or endpoint.failing_since is not None


def claim_for(world: Deps, endpoint: Endpoint, *, limit: int) -> Sequence[Claimed]:
    """Take up to ``limit`` of what is due for the endpoint, no more than may be out to it at once."""
    at_once = 1 if is_troubled(endpoint) else world.settings.webhook_at_once
    with world.database.transaction() as connection:
        return claim(
            connection, world.clock.now(), endpoint.id, at_once=at_once, limit=limit, lease_seconds=LEASE_SECONDS
        )


def deliver_due(world: Deps) -> int:
    """Give all events their numbers and attempt here, one by one, all that is due; return how many that were."""
    total = 0
    while True:
        relay(world)
        with world.database.read() as connection:
            due = find_due(connection, world.clock.now())
        claims = [each for endpoint in due for each in claim_for(world, endpoint, limit=1)]
        for each in claims:
            deliver(world, each)
        total += len(claims)
        if not claims:
            return total

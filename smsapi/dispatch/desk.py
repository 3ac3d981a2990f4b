"""The desk of one process, at which its threads ask for the next message to send: who is idle, whose turn it is.

It remembers what a look found for a moment, so that the store is not asked for the flows at each message, and which
gates were closed, so that nobody queues up at them.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from smsapi.deps import Deps
from smsapi.dispatch.claims import Taken, claim_one_by_one, claim_to_send
from smsapi.dispatch.turns import Turns
from smsapi.errors import Unavailable
from smsapi.log import get_logger
from smsapi.lookout import SWEEPS_MISSED
from smsapi.messages.flows import Flow, Work, find_work
from smsapi.messages.lanes import OTP, TEST, name_of
from smsapi.pacing.gates import PAUSE, Closed
from smsapi.pacing.tolls import CATCH_UP_SECONDS, SENDER_PREFIX
from smsapi.send.begin import Begun

log = get_logger()

# While there is work: new flows that nobody rang for are found this soon.
_LOOK_AGAIN_SECONDS: Final = 0.25
# What becomes due from moment to moment is found together.
_SHORTEST_REST_SECONDS: Final = 0.05
# A closed gate may be opened before its time, by a probe or an operator.
_LONGEST_AT_A_GATE: Final = timedelta(seconds=1)
# At a pace of many a second all processes would otherwise be awake at each slot; what is missed is made up for.
_SHORTEST_AT_A_GATE: Final = timedelta(seconds=CATCH_UP_SECONDS / 2)


class Desk:
    """Thread-safe. ``threads`` counts all that ask here, one of them kept for codes."""

    def __init__(self, world: Deps, threads: int) -> None:
        # A sweep takes note of what it found. Where none comes, the desk looks for itself.
        self.longest_seconds = world.settings.dispatch_sweep_seconds * SWEEPS_MISSED
        self._world = world
        self._threads = threads
        self._lock = threading.Lock()
        self._open = True
        self._turns = Turns()
        self._flows: list[Flow] = []
        self._next_at: datetime | None = None
        self._looked_at = float("-inf")
        self._news = True
        self._chores = False
        self._closed: dict[str, datetime] = {}
        # Begun and not yet given out: their threads are on the way.
        self._ready: deque[Begun] = deque()
        self._busy = 0
        # Of those that are busy or on their way, how many have no code.
        self._others = 0

    def close(self) -> None:
        """Begin nothing new; what has begun is still given out."""
        self._open = False

    def expect_news(self) -> None:
        """Look at the store at the next question, whatever is remembered."""
        self._news = True

    def look(self) -> bool:
        """Look at the store where it is time to; return whether anything is to be done now."""
        with self._lock:
            if self._seconds_to_look() <= 0:
                self._look()
            return self._has_work()

    def take_note(self, work: Work, asked_at: float) -> bool:
        """Do as after a look of its own; return whether anything is to be done now.

        ``asked_at`` is when, by ``time.monotonic``, the store was asked, ahead for as long as this desk may then rest.
        """
        with self._lock:
            # A younger look may have found what this one could not see.
            if asked_at > self._looked_at:
                self._looked_at = asked_at
                self._remember_work(work)
            return self._has_work()

    def _has_work(self) -> bool:
        return self._chores or bool(self._passable())

    def is_empty(self) -> bool:
        """Say whether every attempt that was begun has been given out."""
        with self._lock:
            return not self._ready

    def take_chores(self) -> bool:
        """Say, to one that asks, that there are chores."""
        with self._lock:
            found, self._chores = self._chores, False
            return found

    def seconds_to_rest(self) -> float:
        """Return how long the sweep may rest: until its next look, or until a gate opens before that."""
        with self._lock:
            rest = self._seconds_to_look()
            if self._flows and self._closed and not self._passable():
                opens = min(self._closed.values(), default=None)
                if opens is not None:
                    rest = min(rest, (opens - self._world.clock.now()).total_seconds())
            return rest

    def _seconds_to_look(self) -> float:
        rested = time.monotonic() - self._looked_at
        rest = self.longest_seconds - rested
        if self._next_at is None:
            return rest
        until_due = (self._next_at - self._world.clock.now()).total_seconds()
        return min(rest, max(until_due, _SHORTEST_REST_SECONDS - rested))

    def next(self) -> Begun | None:
        """Return an attempt that was begun for the asking thread, which makes it at once and says ``done``."""
        with self._lock:
            if not self._ready and self._open:
                self._fill()
            if not self._ready:
                return None
            self._busy += 1
            return self._ready.popleft()

    def done(self, begun: Begun) -> None:
        """Say that the attempt was made."""
        with self._lock:
            self._busy -= 1
            self._others -= begun.message.lane != OTP

    def _fill(self) -> None:
        """Begin as many attempts as threads are idle, of the flows whose turn it is."""
        if self._news or time.monotonic() - self._looked_at > _LOOK_AGAIN_SECONDS or self._seconds_to_look() <= 0:
            self._look()
        while flows := self._passable():
            flow = self._turns.choose(flows)
            if flow is None:
                return
            limit = self._room(flow.lane)
            try:
                taken = self._claim(flow, limit)
            except Unavailable:
                raise
            except Exception:  # the others go on; it comes back with the next look
                log.exception("flow_failed", lane=flow.lane)
                self._flows.remove(flow)
                continue
            self._ready.extend(taken.begun)
            self._others += sum(begun.message.lane != OTP for begun in taken.begun)
            if taken.closed is not None:
                self._remember(taken.closed)
            elif taken.looked_at < limit:
                self._flows.remove(flow)
            if taken.begun:
                self._turns.count(flow, sum(begun.segments for begun in taken.begun))
                return

    def _claim(self, flow: Flow, limit: int) -> Taken:
        world = self._world
        world.checkpoint("claim.before")
        try:
            with world.database.transaction() as connection:
                taken = claim_to_send(world, connection, flow, world.clock.now(), limit=limit)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - one of them cannot be handled, and says why when it comes alone
            taken = claim_one_by_one(world, flow, world.clock.now(), limit=limit)
        world.checkpoint("claim.committed")
        return taken

    def _room(self, lane: int) -> int:
        """Return how many threads are free for this lane; all others together never have the last one."""
        free = self._threads - self._busy - len(self._ready)
        return free if lane == OTP else min(free, self._threads - 1 - self._others)

    def _look(self) -> None:
        world = self._world
        # Before the question: a store that does not answer is not asked again at once.
        self._looked_at, self._news = time.monotonic(), False
        with world.database.read() as connection:
            work = find_work(connection, world.clock.now(), ahead_seconds=self.longest_seconds)
        self._remember_work(work)

    def _remember_work(self, work: Work) -> None:
        self._flows, self._chores, self._next_at = list(work.flows), self._chores or work.chores, work.next_at

    def _passable(self) -> Sequence[Flow]:
        now = self._world.clock.now()
        self._closed = {key: until for key, until in self._closed.items() if until > now}
        return [flow for flow in self._flows if self._room(flow.lane) > 0 and not self._is_closed(flow)]

    def _is_closed(self, flow: Flow) -> bool:
        if flow.lane == TEST or not self._closed:
            return False
        own = {f"{SENDER_PREFIX}{flow.sender}", f"{PAUSE}:{name_of(flow.lane)}"}
        return any(key in own or not key.startswith((SENDER_PREFIX, f"{PAUSE}:")) for key in self._closed)

    def _remember(self, closed: Closed) -> None:
        now = self._world.clock.now()
        latest = now + _LONGEST_AT_A_GATE
        opens_at = latest if closed.opens_at is None else min(closed.opens_at, latest)
        self._closed[closed.key] = max(opens_at, now + _SHORTEST_AT_A_GATE)

"""Whose turn it is: lanes by their share, and clients within a lane by theirs; pure, in memory, of one process.

Stride scheduling (Waldspurger and Weihl, 1995): each has a pass that grows by what it was given divided by its share,
and the lowest pass is next. Who comes back after being idle begins no earlier than at the pass of the present, so that
nobody saves up turns; and what it was given ahead still counts, since it may only have stood at a closed gate. A code
that comes alone owes nothing and is next. Several processes each take turns by themselves, which keeps the shares as
well.
"""

from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

from smsapi.messages.flows import Flow
from smsapi.messages.lanes import MARKETING, OTP, TEST, TRANSACTIONAL

_Taker = TypeVar("_Taker", bound=Hashable)

# While all lanes wait, of 111 segments 100 are codes and one is bulk; none stands still.
LANE_SHARES: Final = {OTP: 100, TRANSACTIONAL: 10, MARKETING: 1, TEST: 1}


# Of a lane that a newer release fills and this one does not know.
_OTHER_SHARE: Final = 1


class Turns:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._lanes = _Strides()
        self._clients: dict[int, _Strides] = {}

    def choose(self, flows: Sequence[Flow]) -> Flow | None:
        """Return the flow whose turn it is, or None where there is none."""
        if not flows:
            return None
        # The lower lane first where they are level.
        lanes = sorted({flow.lane for flow in flows})
        if OTP not in lanes:
            self._lanes.forgive(OTP)
        lane = self._lanes.choose(lanes)
        here = [flow for flow in flows if flow.lane == lane]
        clients = self._clients.setdefault(lane, _Strides())
        client = clients.choose(list(dict.fromkeys(flow.client_id for flow in here)))
        return min((flow for flow in here if flow.client_id == client), key=lambda flow: flow.due_at)

    def count(self, flow: Flow, segments: int) -> None:
        """Count what the flow was given."""
        self._lanes.count(flow.lane, segments, LANE_SHARES.get(flow.lane, _OTHER_SHARE))
        self._clients.setdefault(flow.lane, _Strides()).count(flow.client_id, segments, flow.weight)


class _Strides:
    """The passes of those that take turns with each other."""

    def __init__(self) -> None:
        self._passes: dict[Hashable, float] = {}
        self._present = 0.0

    def choose(self, waiting: Sequence[_Taker]) -> _Taker:
        """Return who is next of those that wait, the first of them where several are level."""
        for taker in waiting:
            self._passes[taker] = max(self._passes.get(taker, self._present), self._present)
        chosen = min(waiting, key=lambda taker: self._passes[taker])
        self._present = self._passes[chosen]
        # Those that the present has caught up with would come back as if they were new.
        self._passes = {taker: ahead for taker, ahead in self._passes.items() if ahead > self._present}
        return chosen

    def forgive(self, taker: Hashable) -> None:
        """Forget what the taker was given ahead of the others."""
        self._passes.pop(taker, None)

    def count(self, taker: Hashable, given: float, share: int) -> None:
        """Move the taker on by what it was given."""
        self._passes[taker] = self._passes.get(taker, self._present) + given / share

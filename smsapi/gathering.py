"""Doing together what several threads ask for at the same time: to commit takes longer than all else of it."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from smsapi.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Asked(Generic[Item, Result]):
    item: Item
    results: Sequence[Result] = ()
    error: Exception | None = None
    is_done: bool = False


class Slots:
    """So many places ``in_all``, of which each holder has no more than ``of_each``. Thread-safe."""

    def __init__(self, *, in_all: int, of_each: int) -> None:
        self._in_all = in_all
        self._of_each = of_each
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, holder: str) -> bool:
        """Give the holder a place, which it has to leave; return False where there is none for it."""
        with self._lock:
            if self._held[holder] >= self._of_each or self._held.total() >= self._in_all:
                return False
            self._held[holder] += 1
            return True

    def leave(self, holder: str) -> None:
        """Take a place of the holder's back."""
        with self._lock:
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]


class Crowd:
    """Thread-safe. Tells whoever comes in whether more than ``at_most`` are within."""

    def __init__(self, *, at_most: int) -> None:
        self._at_most = at_most
        self._within = 0
        self._lock = threading.Lock()

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """Be within for as long as the block lasts; give True where that makes too many."""
        with self._lock:
            self._within += 1
            too_many = self._within > self._at_most
        try:
            yield too_many
        finally:
            with self._lock:
                self._within -= 1


class Gatherer(Generic[Item, Result]):
    """Thread-safe. ``act`` is given up to ``at_most`` items, and returns for each of them its result, in their order.

    It is called in the thread of one who asks, for all who came while it was last at work; one alone waits for nobody.
    """

    def __init__(self, act: Callable[[Sequence[Item]], Sequence[Result]], *, at_most: int) -> None:
        self._act = act
        self._at_most = at_most
        self._turn = threading.Lock()
        self._asked: deque[_Asked[Item, Result]] = deque()

    def ask(self, item: Item) -> Result:
        """Return the item's result.

        Raises whatever ``act`` raised for it. Where it failed for several, but not because the store does not answer,
        it is called for each alone, so that none fails for another's sake.
        """
        asked: _Asked[Item, Result] = _Asked(item)
        self._asked.append(asked)
        with self._turn:
            while not asked.is_done:
                group = [self._asked.popleft() for _ in range(min(len(self._asked), self._at_most))]
                self._do(group)
        if asked.error is not None:
            raise asked.error
        (result,) = asked.results
        return result

    def _do(self, group: Sequence[_Asked[Item, Result]]) -> None:
        try:
            results = self._act([asked.item for asked in group])
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs
            if len(group) > 1 and not isinstance(error, Unavailable):
                for asked in group:
                    self._do([asked])
                return
            for asked in group:
                asked.error = error
        else:
            for asked, result in zip(group, results, strict=True):
                asked.results = (result,)
        for asked in group:
            asked.is_done = True

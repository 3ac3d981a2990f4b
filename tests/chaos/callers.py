"""Callers who do as they are told: a key for each message, and the same request again until it is acknowledged."""

import heapq
import http.client
import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 4.0
_IDLE_SECONDS = 0.02
_AGAIN_SECONDS = (0.05, 0.3)
_LONGEST_WAIT_SECONDS = 1.0
_ACKNOWLEDGED = frozenset({201, 202})
_AGAIN = frozenset({409, 429, 500, 502, 503, 504})
# Of those who were told yes, so many have not heard it and ask again.
_DEAF = 0.1


@dataclass(frozen=True, slots=True)
class Order:
    """One text to a number of its own. ``once``: without a key, and never repeated whatever becomes of the request."""

    number: str
    category: str
    prefer: str
    once: bool = False


def orders(*, first: int = 0, once: float = 0.0) -> Iterator[Order]:
    """Yield orders for ever, from that number on: each category, waiting and not; a share ``once`` of them is."""
    chance = Random(first)
    for place in _places(first):
        # Each caller's four digits are above those by which the simulator chooses to misbehave.
        number = f"+1415{555 + place // 9000}{1000 + place % 9000}"
        category = ("transactional", "otp", "marketing")[place % 3]
        prefer = "wait=1" if chance.random() < 0.5 else "respond-async"
        yield Order(number, category, prefer, chance.random() < once)


def _places(first: int) -> Iterator[int]:
    while True:
        yield first
        first += 1


@dataclass(slots=True)
class Ledger:
    """What callers were told, by number; moments are those of ``time.monotonic``."""

    asked: dict[str, Order] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    # Told yes twice with the same key, of two messages.
    contradicted: dict[str, tuple[str, str]] = field(default_factory=dict)
    last_acknowledged_at: float = 0.0


@dataclass(order=True, slots=True)
class _Try:
    due: float
    place: int
    order: Order = field(compare=False)
    tries: int = field(compare=False, default=0)


class Callers:
    """Threads that see these orders through, at all URLs in turn. ``per_second`` bounds how many new ones are begun."""

    def __init__(
        self, urls: Sequence[str], key: str, wanted: Iterable[Order], *, threads: int = 8, per_second: float = 1e9
    ) -> None:
        self.ledger = Ledger()
        self._urls = [urlsplit(url).netloc for url in urls]
        self._key = key
        self._wanted = iter(wanted)
        self._pause = 1 / per_second
        self._next_at = 0.0
        self._lock = threading.Lock()
        self._again: list[_Try] = []
        self._open = 0
        self._asking = True
        self._stopped = False
        self._chance = Random()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join(2 * _TIMEOUT_SECONDS)

    def ask_no_more(self) -> None:
        """Begin no further order; what was begun is seen through."""
        self._asking = False

    def are_done(self) -> bool:
        """Say whether every order was begun and answered."""
        with self._lock:
            return not self._asking and not self._open

    def _work(self) -> None:
        connections: dict[str, http.client.HTTPConnection] = {}
        while not self._stopped and not self.are_done():
            attempt = self._next()
            if attempt is None:
                time.sleep(_IDLE_SECONDS)
                continue
            try:
                self._conclude(attempt, self._send(connections, attempt))
            finally:
                with self._lock:
                    self._open -= 1
        for connection in connections.values():
            connection.close()

    def _next(self) -> _Try | None:
        now = time.monotonic()
        with self._lock:
            if self._again and self._again[0].due <= now:
                return heapq.heappop(self._again)
            if not self._asking or now < self._next_at:
                return None
            order = next(self._wanted, None)
            if order is None:
                self._asking = False
                return None
            # Time in which nothing could be begun is not made up for.
            self._next_at = max(self._next_at, now - self._pause) + self._pause
            self._open += 1
            self.ledger.asked[order.number] = order
            return _Try(now, len(self.ledger.asked), order)

    def _send(
        self, connections: dict[str, http.client.HTTPConnection], attempt: _Try
    ) -> tuple[int, dict[str, Any], float] | None:
        """Return status, body and Retry-After of the answer, or None where none came."""
        order = attempt.order
        at = self._urls[(attempt.place + attempt.tries) % len(self._urls)]
        connection = connections.setdefault(at, http.client.HTTPConnection(at, timeout=_TIMEOUT_SECONDS))
        headers = {"X-API-Key": self._key, "Content-Type": "application/json", "Prefer": order.prefer}
        if not order.once:
            headers["Idempotency-Key"] = f"order-{order.number}"
        body = json.dumps({"to": order.number, "text": "Chaos", "category": order.category})
        try:
            connection.request("POST", "/v1/messages", body, headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
            return answer.status, content, float(answer.headers.get("Retry-After", 0))
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            return None

    def _conclude(self, attempt: _Try, answer: tuple[int, dict[str, Any], float] | None) -> None:
        order, (status, content, wait) = attempt.order, answer or (503, {}, 0.0)
        if status in _ACKNOWLEDGED:
            self._acknowledge(order, content["id"])
            if not order.once and self._chance.random() < _DEAF:
                self._repeat(attempt, 0.0)
        elif order.once:
            return
        elif status in _AGAIN:
            self._repeat(attempt, wait)
        else:
            self.ledger.refused[order.number] = f"{status} {content.get('code')}"

    def _acknowledge(self, order: Order, message_id: str) -> None:
        known = self.ledger.acknowledged.setdefault(order.number, message_id)
        if known != message_id:
            self.ledger.contradicted[order.number] = (known, message_id)
        self.ledger.last_acknowledged_at = time.monotonic()

    def _repeat(self, attempt: _Try, wait: float) -> None:
        with self._lock:
            jitter = self._chance.uniform(*_AGAIN_SECONDS)
            due = time.monotonic() + min(wait, _LONGEST_WAIT_SECONDS) + jitter
            heapq.heappush(self._again, _Try(due, attempt.place, attempt.order, attempt.tries + 1))
            self._open += 1

"""Standing of a batch, out of the service's answer, and its meaning to a script."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

EXIT_INPUT: Final = 2
EXIT_PARTLY: Final = 5

_ENDED: Final = frozenset({"finished", "rejected", "checked"})
_OPEN: Final = ("scheduled", "queued", "sending", "unknown")
_NOT_SENT: Final = ("failed", "undelivered", "expired", "canceled")
_STANDSTILLS: Final = {
    "pause": "paused by an operator",
    "account": "Plivo refuses the account",
    "circuit": "Plivo does not answer, or fails",
    "worker": "no process that sends is alive",
}
_NUMBERS: Final = ("total", "accepted", "rejected", "duplicates", "segments")


@dataclass(frozen=True, slots=True)
class Standing:
    """A batch at one moment; ``resource`` is all that the service said of it.

    ``rate`` is in messages a second, and ``ends_at`` when it will be over at that rate; None: nobody knows.
    """

    id: str
    status: str
    total: int
    accepted: int
    rejected: int
    duplicates: int
    segments: int
    counts: dict[str, int]
    rate: float | None
    ends_at: datetime | None
    resource: dict[str, Any]

    @classmethod
    def read(cls, resource: dict[str, Any]) -> Self | None:
        """Return the batch of an answer, or None where it is no batch."""
        counts, rate = resource.get("counts"), resource.get("rate_per_second")
        texts = [resource.get(name) for name in ("id", "status")]
        numbers = {name: resource.get(name) for name in _NUMBERS}
        if not isinstance(counts, dict) or not all(isinstance(each, str) for each in texts):
            return None
        if not all(isinstance(each, int) for each in (*numbers.values(), *counts.values())):
            return None
        return cls(
            id=str(texts[0]),
            status=str(texts[1]),
            **{name: int(number or 0) for name, number in numbers.items()},
            counts=counts,
            rate=float(rate) if isinstance(rate, int | float) else None,
            ends_at=_moment(resource.get("expected_end_at")),
            resource=resource,
        )

    @property
    def standstill(self) -> str | None:
        """Return in words what keeps it from being sent, or None where nothing does but its turn."""
        reason = self.resource.get("waiting_for")
        return _STANDSTILLS.get(reason, f"waits for {reason}") if isinstance(reason, str) else None

    @property
    def waiting(self) -> int:
        """Return how many of the accepted rows are not through: they wait, or nobody knows yet whether they left."""
        return sum(self.counts.get(status, 0) for status in _OPEN)

    @property
    def done(self) -> int:
        """Return how many of the accepted rows are through, one way or the other."""
        return max(0, self.accepted - self.waiting)

    @property
    def not_sent(self) -> int:
        """Return how many of the accepted rows did not reach, and will not."""
        return sum(self.counts.get(status, 0) for status in _NOT_SENT)

    @property
    def seconds_left(self) -> float | None:
        """Return how much longer it will take at the present rate, or None: that is not known."""
        # Not from ``ends_at``: this machine's clock is not the service's.
        if self.ends_at is None or not self.rate:
            return None
        return self.waiting / self.rate

    @property
    def seconds_taken(self) -> float | None:
        """Return how long it took, from its acceptance to its end, or None where it has not come to that."""
        began, ended = (_moment(self.resource.get(name)) for name in ("accepted_at", "finished_at"))
        return None if began is None or ended is None else max(0.0, (ended - began).total_seconds())

    @property
    def is_over(self) -> bool:
        """Say whether nothing of it waits any more."""
        return self.status in _ENDED or (self.status == "canceled" and not self.waiting)

    @property
    def exit_code(self) -> int:
        """Return 0, or 2 for a batch that was refused as a whole, or 5 where some rows were not taken or not sent."""
        if self.status == "rejected":
            return EXIT_INPUT
        return EXIT_PARTLY if self.rejected or self.not_sent or self.status == "canceled" else 0

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what a person wants to know of it, as names and values."""
        yield "batch", self.id
        yield "status", self.status
        yield "rows", f"{self.total:,}"
        yield "accepted", f"{self.accepted:,}"
        yield "rejected", f"{self.rejected:,}"
        yield "duplicates", f"{self.duplicates:,}"
        yield from ((f"  {status}", f"{count:,}") for status, count in self.counts.items() if count)
        if self.standstill is not None:
            yield "waiting", self.standstill
        yield "segments", f"{self.segments:,}"
        price = self.resource.get("price")
        if isinstance(price, dict):
            said = "estimated" if price.get("estimated") else "as reported"
            yield "price", f"{price.get('amount')} {price.get('currency')} ({said})"


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None

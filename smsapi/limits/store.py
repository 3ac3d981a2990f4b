"""The port to wherever the tallies are kept."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Protocol

from smsapi.clock import Clock
from smsapi.limits.gcra import Charge, Verdict

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class LimitStoreDown(Exception):
    """The store cannot be asked, so nothing is known about any limit; whether this refuses is the caller's choice.

    The charge may or may not have been spent: an answer that came too late was still carried out.
    """


class LimitStore(Protocol):
    """What remembers how much of each limit is spent. Safe to share between threads."""

    def spend(self, charges: Sequence[Charge], *, once: str | None = None) -> Verdict:
        """Decide all charges in one atomic step and spend them, all or nothing.

        ``once`` is the request's token for charges with ``once_seconds``: such a charge is passed over where the token
        was already charged for the same key within that time. A refused request leaves no token behind. No charges:
        allowed. Raises ``LimitStoreDown``.
        """
        ...

    def decide_each(
        self, groups: Sequence[Sequence[Charge]], *, spend: bool, once: str | None = None
    ) -> Sequence[Verdict]:
        """Decide each group of charges as ``spend`` decides one, or ``peek``, in their order; return their verdicts.

        Many of them cost few round trips. Others may spend between two groups, never within one. Raises
        ``LimitStoreDown``; some groups may have been spent then.
        """
        ...

    def give_back(self, charges: Sequence[Charge], *, once: str | None = None, seconds_ago: float = 0.0) -> None:
        """Undo what was spent by these charges so many seconds ago, and forget the token with it.

        What has drained since is not given back again. With ``once``, a charge whose token is not remembered for its
        key was not spent, or was given back, and is passed over. Raises ``LimitStoreDown``.
        """
        ...

    def peek(self, charges: Sequence[Charge]) -> Verdict:
        """Return the verdict that ``spend`` would give, with the standings as they are now; spends nothing.

        Raises ``LimitStoreDown``.
        """
        ...


def now_us(clock: Clock) -> int:
    """Return the clock's moment as whole microseconds since 1970, without a detour through floating point."""
    return (clock.now() - _EPOCH) // _MICROSECOND


def fingerprint(*parts: str) -> str:
    """Return 32 hex digits that stand for these strings, in this order.

    Keys and tokens hold addresses, phone numbers and what callers made up: as fingerprints they are short, and cannot
    be read off a dump of the store.
    """
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return blake2b(b"".join([b"%d:%b" % (len(part), part) for part in encoded]), digest_size=16).hexdigest()

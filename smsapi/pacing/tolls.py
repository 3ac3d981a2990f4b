"""What a message costs of each pace that it passes, and when the next may pass: pure arithmetic.

A pace spaces out: whoever passes at a rate of ``per_second`` with a message of ``cost`` units closes the gate for
``cost / per_second`` seconds. Time that nobody used is made up for no longer than ``CATCH_UP_SECONDS`` (else the few
milliseconds that a worker needs to wake up would be lost each time), so that within any window of W seconds no more
than ``per_second * (W + CATCH_UP_SECONDS)`` units and one message pass.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from smsapi.settings import Settings
from smsapi.sms.sender import SenderKind, classify_sender

CATCH_UP_SECONDS: Final = 0.1

PACE_PREFIX: Final = "pace:"
REQUESTS: Final = "pace:requests"
ACCOUNT_SEGMENTS: Final = "pace:account"
LIST: Final = "pace:list"
# Until when the list is kept for unknown messages, and why it could not be used: no stops, so named as paces are.
LIST_RESERVED: Final = "pace:list:unknown"
LIST_TROUBLE: Final = "pace:list:trouble"
SENDER_PREFIX: Final = "pace:from:"

# Plivo's published figures, in segments a second (plivo-facts 2.4). Where its pages differ, the cautious one that is
# still of use: a long code's pages say 1 and 0.25, a toll-free number's 3, 25 and 40.
_PLIVO_ACCOUNT: Final = 5.0
_PLIVO: Final[dict[SenderKind, float]] = {
    "long_code": 1.0,
    "toll_free": 25.0,
    "short_code": 100.0,
    "alphanumeric": 0.0,
}
# More than any text has segments.
_MOST_UNITS: Final = 100
# So much is waited for; clocks that differ between hosts, or are corrected a little, change no pace.
_SET_BACK_LITTLE: Final = timedelta(seconds=60)
_REQUESTS_WINDOW_SECONDS: Final = 5.0
_MINUTE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Toll:
    """A pace by its key, and what one message costs of it, in units at so many units a second."""

    key: str
    cost: float
    per_second: float

    def opening(self, opens_at: datetime, now: datetime) -> datetime:
        """Return from when on this one may pass a gate that says ``opens_at``.

        One that says to be closed for longer than any message closes it was passed under a clock that has been set back
        since; it would keep everybody waiting for as much as that was.
        """
        longest = timedelta(seconds=_MOST_UNITS / self.per_second) + _SET_BACK_LITTLE
        return now if opens_at - now > longest else opens_at

    def next_opening(self, opens_at: datetime, now: datetime) -> datetime:
        """Return from when on the next may pass, after this one passed at ``now`` a gate that was open by then."""
        begun = max(self.opening(opens_at, now), now - timedelta(seconds=CATCH_UP_SECONDS))
        # Rounded up: a moment is kept to the microsecond, and too early by a part of one is too often.
        return begun + timedelta(microseconds=math.ceil(self.cost / self.per_second * 1_000_000))


def tolls_of(settings: Settings, sender: str, segments: int) -> tuple[Toll, ...]:
    """Return the tolls of one message, in the order of their keys; none for a pace that is not set."""
    kind = _kind(sender)
    found = (
        Toll(ACCOUNT_SEGMENTS, segments, _rate(settings.pace_account, _PLIVO_ACCOUNT, settings)),
        Toll(f"{SENDER_PREFIX}{sender}", segments, _rate(_set_for(settings, kind), _PLIVO[kind], settings)),
        Toll(REQUESTS, 1, settings.plivo_requests_per_5s / _REQUESTS_WINDOW_SECONDS),
    )
    return tuple(sorted((toll for toll in found if toll.per_second > 0), key=lambda toll: toll.key))


def toll_of_list(settings: Settings) -> Toll:
    """Return the toll of one look at Plivo's list of messages: within any minute no more than may be asked."""
    # So that what is made up for after an idle time fits in as well.
    per_second = settings.plivo_list_per_minute / (_MINUTE_SECONDS + CATCH_UP_SECONDS)
    return Toll(LIST, 1, per_second)


@lru_cache(maxsize=4096)
def _kind(sender: str) -> SenderKind:
    return classify_sender(sender).kind


def _set_for(settings: Settings, kind: SenderKind) -> float | None:
    by_kind: dict[SenderKind, float | None] = {
        "long_code": settings.pace_long_code,
        "toll_free": settings.pace_toll_free,
        "short_code": settings.pace_short_code,
        "alphanumeric": settings.pace_alphanumeric,
    }
    return by_kind[kind]


def _rate(given: float | None, plivo: float, settings: Settings) -> float:
    if given is not None:
        return given
    # Plivo's figures are those of Plivo itself; a simulator, or whatever stands elsewhere, is as fast as it is.
    return plivo if settings.plivo_url is None else 0.0

"""The one-way lattice of a message's status, as one pure function.

``scheduled → queued → sending → sent → delivered | undelivered``; ``failed`` never left; ``unknown`` may or may not
have been taken; ``expired`` waited too long; ``canceled`` was called off before it left. A later fact never takes a
message out of a final status, and ``unknown`` is not final.
"""

from typing import Final

SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
SENDING: Final = "sending"
UNKNOWN: Final = "unknown"
SENT: Final = "sent"
DELIVERED: Final = "delivered"
UNDELIVERED: Final = "undelivered"
FAILED: Final = "failed"
EXPIRED: Final = "expired"
CANCELED: Final = "canceled"

STATUSES = (SCHEDULED, QUEUED, SENDING, UNKNOWN, SENT, DELIVERED, UNDELIVERED, FAILED, EXPIRED, CANCELED)
FINAL = frozenset({DELIVERED, UNDELIVERED, FAILED, EXPIRED, CANCELED})
# Not yet under way: it may still be changed, called off, or sent by whoever claims it.
WAITING = frozenset({SCHEDULED, QUEUED})

_RANK = {SCHEDULED: 0, QUEUED: 1, SENDING: 2, UNKNOWN: 3, SENT: 4, **dict.fromkeys(FINAL, 5)}


def advance(current: str, fact: str) -> str:
    """Return the status after a fact about the message came in: forward, or where it was.

    Going back to ``queued`` is not a fact but a decision (nothing was sent, try again), and not made here.
    """
    return fact if _RANK[fact] > _RANK[current] else current

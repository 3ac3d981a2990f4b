"""The one-way lattice of a message's status, as one pure function.

``queued → sending → sent → delivered | undelivered``; ``failed`` never left; ``unknown`` may or may not have been
taken; ``expired`` waited too long. A later fact never takes a message out of a final status, and ``unknown`` is not
final.
"""

from typing import Final

QUEUED: Final = "queued"
SENDING: Final = "sending"
UNKNOWN: Final = "unknown"
SENT: Final = "sent"
DELIVERED: Final = "delivered"
UNDELIVERED: Final = "undelivered"
FAILED: Final = "failed"
EXPIRED: Final = "expired"

STATUSES = (QUEUED, SENDING, UNKNOWN, SENT, DELIVERED, UNDELIVERED, FAILED, EXPIRED)
FINAL = frozenset({DELIVERED, UNDELIVERED, FAILED, EXPIRED})

_RANK = {QUEUED: 0, SENDING: 1, UNKNOWN: 2, SENT: 3, **dict.fromkeys(FINAL, 4)}


def advance(current: str, fact: str) -> str:
    """Return the status after a fact about the message came in: forward, or where it was.

    Going back to ``queued`` is not a fact but a decision (nothing was sent, try again), and not made here.
    """
    return fact if _RANK[fact] > _RANK[current] else current

"""Rate limits as they are written, such as ``600 per minute; 10000 per day``: the notation of flask-limiter.

The library's own reader tries one pattern on the whole list, and backtracks for minutes where it does not match. Here
the length comes first, then the list is split, and each part has a pattern that never goes back.
"""

import re
from typing import Final

from limits import RateLimitItem, parse

MAX_LENGTH: Final = 255
# Beyond these a moment in microseconds would no longer be exact in Redis.
_MAX_QUOTA: Final = 1_000_000_000
_MAX_WINDOW_SECONDS: Final = 366 * 86400
_PART: Final = re.compile(r"([0-9]{1,10}+)\s*+(?:/|per)\s*+([0-9]{0,10}+)\s*+([a-z]{1,16}+)", re.IGNORECASE | re.ASCII)
_SEPARATOR: Final = re.compile(r"[,;|]")

RULE: Final = (
    "must be limits such as 600 per minute; 10000 per day, "
    f"each of at most {_MAX_QUOTA} in a second to a year, in {MAX_LENGTH} characters"
)


def read_windows(text: str) -> tuple[RateLimitItem, ...]:
    """Return the limits that the text names, in its order; in time that grows with its length and no faster.

    Raises:
        ValueError: with the rule, where it is no list of limits, or one that the limiter could not count.

    """
    if len(text) > MAX_LENGTH:
        raise ValueError(RULE)
    return tuple(_read(part.strip()) for part in _SEPARATOR.split(text))


def _read(part: str) -> RateLimitItem:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(RULE)
    amount, multiples, unit = int(match[1]), int(match[2] or 1), match[3]
    try:
        found = parse(f"{amount} per {multiples} {unit}")
    except ValueError:
        raise ValueError(RULE) from None
    # The library reads a window of 0 minutes as one of a minute.
    if multiples == 0 or amount > _MAX_QUOTA or not 1 <= found.get_expiry() <= _MAX_WINDOW_SECONDS:
        raise ValueError(RULE)
    return found

"""Which numbers a batch has had: exact, at less than 21 bytes a number, however many there are."""

import secrets
from array import array
from typing import Final

_SMALLEST: Final = 1 << 10
# Nobody outside can choose numbers that all want the same few places, which would take hours to put away.
_SECRET: Final = secrets.randbits(62)


class Seen:
    """A set of phone numbers that can only grow: open addressing in one array of 64-bit numbers, 0 for a free place."""

    def __init__(self) -> None:
        self._places = array("Q", [0]) * _SMALLEST
        self._count = 0

    def __contains__(self, number: str) -> bool:
        """Say whether the number (E.164) was added."""
        digits = int(number[1:])
        return self._places[self._place_of(digits)] == digits

    def add(self, number: str) -> None:
        """Add a number (E.164)."""
        # Full to four fifths it is made twice as large, so that it is never emptier than to two fifths.
        if 5 * self._count >= 4 * len(self._places):
            self._grow()
        digits = int(number[1:])
        place = self._place_of(digits)
        if not self._places[place]:
            self._places[place] = digits
            self._count += 1

    def __len__(self) -> int:
        """Return how many numbers there are."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """Return how much memory the numbers take."""
        return len(self._places) * self._places.itemsize

    def _place_of(self, digits: int) -> int:
        places, last = self._places, len(self._places) - 1
        # A pair, because the hash of an integer alone is that integer.
        place = hash((_SECRET, digits)) & last
        while places[place] and places[place] != digits:
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        before = self._places
        self._places = array("Q", [0]) * (2 * len(before))
        for digits in before:
            if digits:
                self._places[self._place_of(digits)] = digits

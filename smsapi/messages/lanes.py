"""The lanes that messages wait in: codes before texts that somebody expects, and those before bulk."""

from typing import Final

OTP: Final = 0
TRANSACTIONAL: Final = 1
MARKETING: Final = 2
# Of test keys: nobody is texted, so nothing of what paces or stops the others holds for them.
TEST: Final = 3

NAMES: Final = {OTP: "otp", TRANSACTIONAL: "transactional", MARKETING: "marketing", TEST: "test"}

_OF_CATEGORY = {"otp": OTP, "transactional": TRANSACTIONAL, "marketing": MARKETING}


def name_of(lane: int) -> str:
    """Return the lane's name; one that a newer release put a message in, and this one does not know, has its number."""
    return NAMES.get(lane, f"lane {lane}")


def lane_of(category: str, *, test: bool) -> int:
    """Return the lane of a message of this category."""
    return TEST if test else _OF_CATEGORY[category]

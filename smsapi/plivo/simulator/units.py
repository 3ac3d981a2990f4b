"""How long a text is, counted apart from the service under test, as the far side does."""

import math
from dataclasses import dataclass

# GSM 03.38: the default alphabet without ESC, and the extension table, whose characters take two septets each.
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")

_GSM_MAXIMUM, _GSM_SINGLE, _GSM_PART = 1600, 160, 153
_UCS2_MAXIMUM, _UCS2_SINGLE, _UCS2_PART = 737, 70, 67


@dataclass(frozen=True, slots=True)
class Length:
    """A text's length: septets of GSM-7 or code units of UCS-2, the most that Plivo takes, and billed units."""

    is_gsm7: bool
    size: int
    maximum: int
    units: int

    @property
    def is_too_long(self) -> bool:
        """Say whether Plivo refuses it."""
        return self.size > self.maximum


def measure(text: str) -> Length:
    """Return the text's length as Plivo bills it: one character outside GSM-7 turns the whole text to UCS-2."""
    if all(character in _BASIC or character in _EXTENSION for character in text):
        size = sum(2 if character in _EXTENSION else 1 for character in text)
        return Length(is_gsm7=True, size=size, maximum=_GSM_MAXIMUM, units=_units(size, _GSM_SINGLE, _GSM_PART))
    size = len(text.encode("utf-16-le")) // 2
    return Length(is_gsm7=False, size=size, maximum=_UCS2_MAXIMUM, units=_units(size, _UCS2_SINGLE, _UCS2_PART))


def _units(size: int, single: int, part: int) -> int:
    return 1 if size <= single else math.ceil(size / part)

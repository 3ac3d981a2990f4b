"""How a text leaves: its alphabet, its length in the network's units, and the parts it is cut into.

Two alphabets (3GPP TS 23.038): the GSM 7-bit default alphabet with its extension table, where an extension character
is an escape and a second septet; and UCS-2 (in practice UTF-16), for the whole text as soon as one character is
outside the first. One part holds 160 septets or 70 code units; a text of several parts loses six octets of each to the
header that joins them (TS 23.040, 9.2.3.24.1), which leaves 153 and 67. National shift tables are not used: Plivo's
documents do not mention them.

How long a text may be is not decided here: that is the caller's setting.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Encoding = Literal["gsm7", "ucs2"]

# TS 23.038, 6.2.1, in the order of the table; the escape itself (0x1B) is no character of a text.
GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# TS 23.038, 6.2.1.1: two septets each.
GSM_EXTENSION = "\f^{}\\[~]|€"

_ESCAPE = "\x1b"
_GSM_ONE, _GSM_MANY = 160, 153
_UCS2_ONE, _UCS2_MANY = 70, 67
_HIGH_SURROGATES = range(0xD8, 0xDC)  # the first octet of the first half of a pair, big-endian

_NOT_GSM = re.compile(f"[^{re.escape(GSM_BASIC + GSM_EXTENSION)}]")
_EXTENSION = re.compile(f"[{re.escape(GSM_EXTENSION)}]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a text comes to on the network.

    ``characters`` counts Unicode code points, ``units`` septets (``gsm7``) or UTF-16 code units (``ucs2``), and
    ``segments`` the parts that are sent and billed. An empty text is one empty segment.
    """

    encoding: Encoding
    characters: int
    units: int
    segments: int


def measure(text: str) -> Measured:
    """Return the alphabet, the length and the number of segments of a text.

    ``segments`` always equals ``len(split(text))``: a part that would end in half a pair is closed one unit early, so
    a division rounded up would sometimes say one too few.

    Raises ValueError when the text holds half of a surrogate pair, which no encoding can carry.
    """
    if _NOT_GSM.search(text) is None:
        escapes = len(_EXTENSION.findall(text))
        units = len(text) + escapes
        if units <= _GSM_ONE:
            segments = 1
        elif not escapes:
            segments = -(-units // _GSM_MANY)
        else:
            segments = sum(1 for _ in _septet_cuts(_septets(text)))
        return Measured("gsm7", len(text), units, segments)
    octets = _utf16(text)
    units = len(octets) // 2
    if units <= _UCS2_ONE:
        segments = 1
    elif units == len(text):
        segments = -(-units // _UCS2_MANY)
    else:
        segments = sum(1 for _ in _utf16_cuts(octets))
    return Measured("ucs2", len(text), units, segments)


def split(text: str) -> list[str]:
    """Return the parts of a text as they would leave, each as full as it can be; joined they are the text again.

    Neither an escape and its septet nor a surrogate pair is ever parted, so a part may hold one unit less than it
    could. What several code points draw together (a base and its combining marks, an emoji joined of several) may be
    parted: phones put a text together before they show it.

    Raises ValueError when the text holds half of a surrogate pair.
    """
    if _NOT_GSM.search(text) is None:
        septets = _septets(text)
        if len(septets) <= _GSM_ONE:
            return [text]
        return [septets[start:end].replace(_ESCAPE, "") for start, end in _septet_cuts(septets)]
    octets = _utf16(text)
    if len(octets) <= 2 * _UCS2_ONE:
        return [text]
    return [octets[start:end].decode("utf-16-be") for start, end in _utf16_cuts(octets)]


def non_gsm_characters(text: str) -> list[str]:
    """Return the characters that make a text UCS-2, each once, in the order of their first appearance.

    Raises ValueError when the text holds half of a surrogate pair.
    """
    found = list(dict.fromkeys(_NOT_GSM.findall(text)))
    _refuse_lone_surrogates("".join(found))
    return found


def smart_encode(text: str) -> str:
    """Return the text with typographic characters replaced by their GSM likeness, where that makes it GSM-7 whole.

    Replaced are quotation marks, primes, guillemets and apostrophes (``'`` and ``"``), dashes (``-``), the ellipsis
    (``...``), spaces of every width, bullets (``*``), typographic ligatures, full-width ASCII and three signs that
    Unicode itself holds equal to a letter (ohm, kelvin, angstrom). Soft hyphens, zero-width spaces and joiners and
    direction marks are dropped. A letter and a combining accent become the one GSM letter that they are equivalent to.
    Nothing that carries meaning is touched: no accent is stripped, no letter, symbol or emoji replaced.

    The text comes back as it was when that would not be enough (an emoji stays, and so do its joiners, and the quotes
    beside it: nothing would be saved) or when it would take more segments than before (a row of ellipses).

    Raises ValueError when the text holds half of a surrogate pair.
    """
    if _NOT_GSM.search(text) is None:
        return text
    before = measure(text)
    likeness = _COMBINED.sub(_composed, text.translate(_LIKENESS))
    if _NOT_GSM.search(likeness) is not None or measure(likeness).segments > before.segments:
        return text
    return likeness


def _septets(text: str) -> str:
    """Return a GSM text with the escape written before each extension character: one character, one septet."""
    for character in GSM_EXTENSION:
        if character in text:
            text = text.replace(character, _ESCAPE + character)
    return text


def _septet_cuts(septets: str) -> Iterator[tuple[int, int]]:
    """Yield where each part of a text of several parts begins and ends."""
    start, total = 0, len(septets)
    while start < total:
        end = start + _GSM_MANY
        if end < total and septets[end - 1] == _ESCAPE:
            end -= 1
        yield start, end
        start = end


def _utf16(text: str) -> bytes:
    try:
        return text.encode("utf-16-be")
    except UnicodeEncodeError as error:
        raise ValueError("The text holds half of a surrogate pair, which cannot be sent.") from error


def _utf16_cuts(octets: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each part of a text of several parts begins and ends, in octets: two for a code unit."""
    start, total = 0, len(octets)
    while start < total:
        end = start + 2 * _UCS2_MANY
        if end < total and octets[end - 2] in _HIGH_SURROGATES:
            end -= 2
        yield start, end
        start = end


def _refuse_lone_surrogates(text: str) -> None:
    if _LONE_SURROGATE.search(text):
        raise ValueError("The text holds half of a surrogate pair, which cannot be sent.")


# The apostrophe-like letters of Hawaiian and Arabic transcription (U+02BB, U+02BF) are letters and stay; so do the
# symbols whose likeness would read as something else: TM, (c), x, 1/2 after a digit. The right-to-left override
# (U+202E) stays as well: dropping it would turn round what is read. (RUF001: likenesses are what this table is about.)
_REPLACEMENTS: dict[str, str] = {
    "'": "‘’‚‛′‵‹›`´ʼ❛❜",  # noqa: RUF001
    '"': "“”„‟″‶«»❝❞〝〞〟",
    "-": "‐‑‒–—―⁃−﹘﹣",  # noqa: RUF001
    " ": "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
    "\n": "\u2028\u2029",
    "*": "•‣◦",
    "/": "\u2044\u2215",
    "": "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u2060\u2066\u2067\u2068\u2069\ufeff",
    ".": "․",  # noqa: RUF001
    "..": "‥",
    "...": "…",
    "ff": "ﬀ",
    "fi": "ﬁ",
    "fl": "ﬂ",
    "ffi": "ﬃ",
    "ffl": "ﬄ",
    "st": "ﬅﬆ",
    "Ω": "\u2126",
    "K": "\u212a",
    "Å": "\u212b",
}
_LIKENESS: dict[int, str] = {
    **{ord(character): likeness for likeness, characters in _REPLACEMENTS.items() for character in characters},
    # Full-width forms are ASCII moved by a constant (U+FF01 for "!"). Its back-tick is a quote like any other.
    **{code + 0xFEE0: chr(code) for code in range(0x21, 0x7F)},
    0xFF40: "'",
}

# grave, acute, tilde, diaeresis, ring, cedilla: the marks of the accented GSM letters
_COMBINED = re.compile("[A-Za-z][\u0300\u0301\u0303\u0308\u030a\u0327]")


def _composed(match: re.Match[str]) -> str:
    letter = unicodedata.normalize("NFC", match[0])
    return letter if letter in GSM_BASIC else match[0]

"""The characters of a text: which may not be in it, and which nobody sees."""

import codecs
import re
import unicodedata
from typing import Final

# Every control character (C0, DEL, C1) but the two of line ends.
NOT_IN_TEXT: Final = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")

# As what stands in the brackets of a regular expression. White space: the property White_Space of Unicode 16.0
# (PropList.txt, 2024-08). Invisible: Default_Ignorable_Code_Point of the same edition (DerivedCoreProperties.txt),
# and what is drawn as nothing all the same: an empty braille pattern, marks of annotations, a notehead that is none,
# a filler, and what joins hieroglyphs.
WHITE_SPACE: Final = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
INVISIBLE: Final = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
_INVISIBLE_BEYOND: Final = (
    "\U00013430-\U0001343f\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSEEN: Final = re.compile(f"[{WHITE_SPACE}{INVISIBLE}{_INVISIBLE_BEYOND}]*")
_VISIBLE_ASCII: Final = range(0x21, 0x7F)
# No name of 64 letters has more when it is decomposed. Composing takes quadratic time: hours for a megabyte of marks.
_LONGEST_COMPOSED: Final = 256


def is_blank(text: str) -> bool:
    """Return whether a text has nothing that can be seen: it is empty, or white space and invisible characters."""
    return _UNSEEN.fullmatch(text) is not None


def trim(text: str) -> str:
    """Return a text without the white space and the invisible characters around it; what is within it stays."""
    if text and ord(text[0]) in _VISIBLE_ASCII and ord(text[-1]) in _VISIBLE_ASCII:
        return text
    start, after = _unseen(text), _unseen(text[::-1])
    return text[start : len(text) - after] if start < len(text) else ""


def plain_name(written: str) -> str:
    """Return a name as it is compared: composed (NFC), without white space and invisible characters around it.

    One of more than 256 characters, which is no name of anything, is not composed.
    """
    name = trim(written)
    return name if name.isascii() or len(name) > _LONGEST_COMPOSED else unicodedata.normalize("NFC", name)


def without_mark(text: bytes) -> bytes:
    """Return a text in UTF-8 without the byte order mark that some programs write before it."""
    return text.removeprefix(codecs.BOM_UTF8)


def _unseen(text: str) -> int:
    found = _UNSEEN.match(text)
    return 0 if found is None else found.end()

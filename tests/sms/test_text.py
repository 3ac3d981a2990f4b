"""Characters that nobody sees, held against the Unicode that Python knows."""

import sys
import unicodedata

from smsapi.sms.text import is_blank, plain_name, trim

# Signs that span the numbers behind them: format characters that are drawn.
DRAWN = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}


def test_what_unicode_calls_a_space_or_a_format_character_is_not_seen():
    for number in range(sys.maxunicode + 1):
        if unicodedata.category(chr(number)) in {"Zs", "Zl", "Zp", "Cf"}:
            assert is_blank(chr(number)) == (number not in DRAWN), hex(number)


def test_what_is_written_is_seen():
    for number in range(sys.maxunicode + 1):
        kind = unicodedata.category(chr(number))
        if kind[0] in "LNPS" and number not in {0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800, 0x1D159}:
            assert not is_blank(chr(number)), hex(number)


def test_only_what_is_around_is_trimmed():
    for text in ("", " ", "\u200b", "\u202a\u00a0\u202c"):
        assert trim(text) == ""
    for around in ("", "\u202a", "\r\n", "\ufeff", "\U000e0020"):
        assert trim(f"{around}a\u200b b{around}") == "a\u200b b"
    assert plain_name(" pre\u0301nom\u200b") == "pr\u00e9nom"
    # What no name can be stays as it is: to compose this would take minutes.
    marks = "a" + "\u0301\u0316" * 200_000
    assert plain_name(f" {marks} ") == marks
    assert len(trim(" " * 1_000_000 + "x" + " " * 1_000_000)) == 1

# ruff: noqa: RUF001  the characters that look like others are the subject here

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smsapi.sms.encoding import (
    GSM_BASIC,
    GSM_EXTENSION,
    measure,
    non_gsm_characters,
    smart_encode,
    split,
)
from tests.support.examples import many

EMOJI = "\U0001f600"
GSM = GSM_BASIC + GSM_EXTENSION
REFUSED = "half of a surrogate pair"


def runs(alphabet):
    """Texts long enough for several parts, in which pairs meet the ends of parts in every way."""
    run = st.builds(lambda character, times: character * times, st.sampled_from(alphabet), st.integers(1, 160))
    return st.lists(run, max_size=9).map("".join)


texts = st.one_of(
    st.text(alphabet=GSM, max_size=600),
    runs("a€{"),
    st.text(max_size=300),
    runs(["a", "€", "я", EMOJI]),
)
exhaustively = settings(max_examples=many(60))


def septets(text: str) -> int:
    return sum(2 if character in GSM_EXTENSION else 1 for character in text)


def code_units(text: str) -> int:
    return sum(2 if ord(character) > 0xFFFF else 1 for character in text)


def fewest_parts(sizes: list[int], one: int, many: int) -> int:
    """Count the parts by the slowest honest way: the best of all ways to cut, character by character."""
    if sum(sizes) <= one:
        return 1
    best = [0] + [len(sizes)] * len(sizes)
    for end in range(1, len(sizes) + 1):
        held = 0
        for start in range(end - 1, -1, -1):
            held += sizes[start]
            if held > many:
                break
            best[end] = min(best[end], best[start] + 1)
    return best[-1]


def test_the_tables_are_those_of_the_standard():
    # 128 codes, of which one is the escape; ten extension characters; nothing in both.
    assert len(GSM_BASIC) == len(set(GSM_BASIC)) == 127
    assert len(GSM_EXTENSION) == len(set(GSM_EXTENSION)) == 10
    assert not set(GSM_BASIC) & set(GSM_EXTENSION)
    # Where the table and ASCII agree the code is the character's own, but for the escape's place before Æ.
    with_escape = GSM_BASIC[:27] + "\x1b" + GSM_BASIC[27:]
    for code in [*range(0x25, 0x40), *range(0x41, 0x5B), *range(0x61, 0x7B), 0x0A, 0x0D, 0x20, 0x21, 0x22, 0x23]:
        assert with_escape[code] == chr(code)
    assert [with_escape.index(character) for character in "@Δ_Æß¤¡Ä§¿äà"] == [
        0x00, 0x10, 0x11, 0x1C, 0x1E, 0x24, 0x40, 0x5B, 0x5F, 0x60, 0x7B, 0x7F,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "encoding", "characters", "units", "segments"),
    [
        ("", "gsm7", 0, 0, 1),
        ("a", "gsm7", 1, 1, 1),
        ("a" * 160, "gsm7", 160, 160, 1),
        ("a" * 161, "gsm7", 161, 161, 2),
        ("a" * 306, "gsm7", 306, 306, 2),
        ("a" * 307, "gsm7", 307, 307, 3),
        ("a" * 1530, "gsm7", 1530, 1530, 10),
        ("a" * 1531, "gsm7", 1531, 1531, 11),
        ("a" * 1600, "gsm7", 1600, 1600, 11),
        ("€" * 80, "gsm7", 80, 160, 1),
        ("€" * 80 + "a", "gsm7", 81, 161, 2),
        ("a" * 159 + "€", "gsm7", 160, 161, 2),
        # 76 pairs fill 152 of 153 septets: a text of pairs alone loses one septet in each part.
        ("€" * 152, "gsm7", 152, 304, 2),
        ("€" * 153, "gsm7", 153, 306, 3),
        # The escape would be the 153rd septet: the pair moves on, and 306 septets need a third part.
        ("a" * 152 + "€" + "a" * 152, "gsm7", 305, 306, 3),
        ("a" * 151 + "€" + "a" * 153, "gsm7", 305, 306, 2),
        ("a" * 152 + "€" + "a" * 151, "gsm7", 304, 305, 2),
        ("line\r\nline", "gsm7", 10, 10, 1),
        ("page\fpage", "gsm7", 9, 10, 1),
        ("\x1b", "ucs2", 1, 1, 1),
        ("ç", "ucs2", 1, 1, 1),
        ("Ç", "gsm7", 1, 1, 1),
        ("`", "ucs2", 1, 1, 1),
        ("\t", "ucs2", 1, 1, 1),
        ("я" * 70, "ucs2", 70, 70, 1),
        ("я" * 71, "ucs2", 71, 71, 2),
        ("я" * 134, "ucs2", 134, 134, 2),
        ("я" * 135, "ucs2", 135, 135, 3),
        ("я" * 737, "ucs2", 737, 737, 11),
        ("я" * 738, "ucs2", 738, 738, 12),
        ("я" + "€" * 69, "ucs2", 70, 70, 1),
        (EMOJI * 35, "ucs2", 35, 70, 1),
        (EMOJI * 36, "ucs2", 36, 72, 2),
        # 33 pairs fill 66 of 67 units.
        (EMOJI * 66, "ucs2", 66, 132, 2),
        (EMOJI * 67, "ucs2", 67, 134, 3),
        # The first half would be the 67th unit.
        ("я" * 66 + EMOJI + "я" * 66, "ucs2", 133, 134, 3),
        ("я" * 65 + EMOJI + "я" * 67, "ucs2", 133, 134, 2),
        # A family of four: four emoji, three joiners.
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "ucs2", 7, 11, 1),
        ("e\u0301", "ucs2", 2, 2, 1),
    ],
)
def test_a_text_measures_what_the_network_counts(text, encoding, characters, units, segments):
    measured = measure(text)

    assert (measured.encoding, measured.characters, measured.units) == (encoding, characters, units)
    assert measured.segments == segments == len(split(text))


def test_an_escape_at_the_153rd_septet_moves_to_the_next_part():
    text = "a" * 152 + "€" + "b" * 20

    assert split(text) == ["a" * 152, "€" + "b" * 20]


def test_an_emoji_at_the_67th_unit_moves_to_the_next_part():
    text = "я" * 66 + EMOJI + "я" * 3

    assert split(text) == ["я" * 66, EMOJI + "я" * 3]


def test_an_extension_character_that_ends_exactly_at_the_limit_stays():
    assert split("a" * 151 + "€" + "b" * 20) == ["a" * 151 + "€", "b" * 20]


def test_a_text_of_one_part_is_not_touched():
    assert split("") == [""]
    assert split("€" * 80) == ["€" * 80]
    assert split(EMOJI * 35) == [EMOJI * 35]


@exhaustively
@given(texts)
def test_the_parts_joined_are_the_text(text):
    assert "".join(split(text)) == text


@exhaustively
@given(texts)
def test_as_many_parts_leave_as_were_measured(text):
    assert len(split(text)) == measure(text).segments


@exhaustively
@given(texts)
def test_every_part_fits_and_none_is_empty(text):
    gsm = set(text) <= set(GSM)
    size = septets if gsm else code_units
    parts = split(text)
    limit = (160 if gsm else 70) if len(parts) == 1 else (153 if gsm else 67)

    assert all(size(part) <= limit for part in parts)
    assert all(parts) or text == ""
    assert measure(text).units == size(text)


@exhaustively
@given(texts)
def test_no_part_ends_in_half_a_pair(text):
    for part in split(text):
        part.encode("utf-8")  # raises for half a pair
        assert "\x1b" not in part or "\x1b" in text


@exhaustively
@given(texts)
@example("a" * 152 + "€" + "a" * 152)
@example("€" * 153)
def test_no_other_way_to_cut_needs_fewer_parts(text):
    if set(text) <= set(GSM):
        fewest = fewest_parts([septets(character) for character in text], 160, 153)
    else:
        fewest = fewest_parts([code_units(character) for character in text], 70, 67)

    assert measure(text).segments == fewest


@pytest.mark.parametrize("half", ["\ud83d", "я\ude00", "text \ud83d text", "\ude00\ud83d", "я" * 100 + "\udfff"])
@pytest.mark.parametrize("function", [measure, split, non_gsm_characters, smart_encode])
def test_half_of_a_surrogate_pair_is_refused(function, half):
    with pytest.raises(ValueError, match=REFUSED):
        function(half)


def test_the_characters_to_blame_are_named_once_in_order():
    assert non_gsm_characters("“Grüße” – ça va? “ok” €") == ["“", "”", "–", "ç"]
    assert non_gsm_characters("all of it fits: {€}\f") == []


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("“Hello” ‘you’", "\"Hello\" 'you'"),
        ("„Hallo‟ ‚du‛", "\"Hallo\" 'du'"),
        ("«Bonjour» ‹toi›", "\"Bonjour\" 'toi'"),
        ("It’s 5′ 11″", "It's 5' 11\""),
        ("`code` and ´this´", "'code' and 'this'"),
        ("a‐b‑c‒d–e—f―g−h", "a-b-c-d-e-f-g-h"),
        ("wait… what", "wait... what"),
        ("a\u00a0b\u2009c\u202fd\u3000e", "a b c d e"),
        ("un\u00adbreak\u200bable\ufeff\u2060", "unbreakable"),
        ("\u202a+14155550100\u202c", "+14155550100"),
        ("a\u200db", "ab"),
        ("• one\n‣ two", "* one\n* two"),
        ("oﬃce ﬁle ﬂow ﬀ ﬄ ﬅ", "office file flow ff ffl st"),
        ("ＡＢＣ！ ｀ｘ｀", "ABC! 'x'"),
        ("1\u20442", "1/2"),
        ("\u2126 \u212a \u212b", "Ω K Å"),
        ("cafe\u0301 U\u0308ber C\u0327", "café Über Ç"),
        ("one\u2028two", "one\ntwo"),
        ("plain {€} text\r\n", "plain {€} text\r\n"),
    ],
)
def test_typographic_characters_become_their_likeness(typed, sent):
    assert smart_encode(typed) == sent
    assert measure(sent).encoding == "gsm7"


@pytest.mark.parametrize(
    "text",
    [
        "ça va – très bien",  # c with cedilla is a letter: no likeness
        "Škoda “Fabia”",
        "“Привет”",
        "“Hi” " + EMOJI,
        "ＡＢＣ 日本語",
        "\U0001f468\u200d\U0001f469 – ok",
        "می\u200cخواهم",
        "Acme™ © ½ × œuvre",
        "ʻokina",
        "e\u0323\u0301",
        "x\u0301",
        "\u202etxet",
    ],
)
def test_a_text_that_stays_unicode_is_left_as_written(text):
    assert smart_encode(text) == text


def test_a_row_of_ellipses_is_not_made_longer_than_it_was():
    row = "…" * 70

    assert measure(row).segments == 1
    assert smart_encode(row) == row
    assert smart_encode("…" * 50) == "..." * 50


@exhaustively
@given(texts | runs("“…ﬃ\u200ba€") | st.text(alphabet="“”’…–ﬃ\u00a0\u200bae\u0301€{x", max_size=400))
def test_smart_encoding_never_adds_a_segment_and_settles_at_once(text):
    encoded = smart_encode(text)

    assert measure(encoded).segments <= measure(text).segments
    assert smart_encode(encoded) == encoded
    assert encoded == text or measure(encoded).encoding == "gsm7"


@exhaustively
@given(st.text(alphabet=st.characters(categories=["L", "N", "So"], exclude_characters="ʼ"), max_size=20))
def test_no_letter_loses_its_accent_and_no_symbol_its_meaning(text):
    # What changes at all is what Unicode itself calls a compatibility or canonical form of the replacement.
    assert unicodedata.normalize("NFKC", smart_encode(text)) == unicodedata.normalize("NFKC", text)


def test_measuring_a_long_text_takes_no_time_that_grows_with_its_square():
    # A work bound, not a stopwatch: two million characters would take hours if each part copied the rest.
    text = "a€" * 1_000_000

    assert measure(text).segments == len(split(text))

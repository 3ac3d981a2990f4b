"""What a text is taken for: words that are the whole of it are obeyed, in seven languages, and nothing else is."""

from pathlib import Path

import pytest

from smsapi.optouts.words import HELP_WORDS, OPT_IN_WORDS, OPT_OUT_WORDS, read_text


def _all(words):
    return sorted({word for several in words.values() for word in several})


@pytest.mark.parametrize(("words", "wish"), [(OPT_OUT_WORDS, "optout"), (OPT_IN_WORDS, "optin"), (HELP_WORDS, "help")])
def test_each_word_is_obeyed_in_any_case_and_with_what_stands_around_it(words, wish):
    for word in _all(words):
        for text in (word, word.upper(), word.title(), f"  {word} ", f"{word}!!", f"“{word}.”\r\n", f"{word} 👍"):
            assert read_text(text).wish == wish, text


def test_the_three_kinds_of_words_have_none_in_common():
    assert not {*_all(OPT_OUT_WORDS)} & {*_all(OPT_IN_WORDS), *_all(HELP_WORDS)}
    assert not {*_all(OPT_IN_WORDS)} & {*_all(HELP_WORDS)}


@pytest.mark.parametrize(
    "text", ["Arrêt", "ARRE\u0302T", "\uff33\uff34\uff2f\uff30", "st\u00adop", "S\u200bTOP", "Stop-All", "désabonner"]
)
def test_spelling_does_not_hide_a_word(text):
    assert read_text(text).wish == "optout"


@pytest.mark.parametrize(
    "text",
    [
        "please stop texting me",
        "Stop it!",
        "I want to unsubscribe from this",
        "don\u2019t text me again",
        "Take me off your list",
        "wrong number",
        "Arrêtez de m'écrire",
        "no más mensajes",
        "Bitte keine SMS mehr",
        "não mande mais",
        "non scrivermi più",
        "geen berichten meer",
    ],
)
def test_a_phrase_that_may_mean_it_is_for_a_person_to_see_and_not_obeyed(text):
    read = read_text(text)
    assert (read.wish, read.review) == (None, True)


@pytest.mark.parametrize(
    "text", ["", " ", "👍", "See you at 5", "nonstop-less", "yes please", "go ahead", "the end is near"]
)
def test_other_texts_say_nothing_of_it(text):
    read = read_text(text)
    assert (read.wish, read.review) == (None, False)


def test_a_client_s_own_words_opt_out_of_that_client_and_change_no_other_word():
    read = read_text("Basta ya!", ["basta ya", "start"])
    assert (read.wish, read.is_of_client) == ("optout", True)
    assert read_text("START", ["start"]).wish == "optin"
    assert read_text("", [""]).wish is None


def test_every_word_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "opt-outs.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for kind, words in enumerate((OPT_OUT_WORDS, OPT_IN_WORDS, HELP_WORDS), start=2):
        shown = [cells[kind].strip() for row in rows if len(cells := row.split("|")) == 6]
        assert {", ".join(several) for several in words.values()} <= set(shown)

"""Keywords in what people text us: the words that are obeyed, and the phrases that a person should look at.

Only a text that is nothing but such a word is obeyed, in any case, with or without accents, and whatever spaces or
punctuation stand around it. The words are data (:mod:`smsapi.optouts.keywords`), and so is what nearly is one
(:mod:`smsapi.optouts.near_misses`). Plivo obeys its own by itself for numbers of the United States and Canada only.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from smsapi.optouts.keywords import HELP_WORDS, OPT_IN_WORDS, OPT_OUT_WORDS, WISHES, Wish
from smsapi.optouts.near_misses import has_stop_sign, may_ask_to_stop

__all__ = ["HELP_WORDS", "OPT_IN_WORDS", "OPT_OUT_WORDS", "Reading", "Wish", "plain_words", "read_text"]

_LONGEST_READ = 2_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says: a wish with the word that says it, or that a person should ``review`` it."""

    wish: Wish | None = None
    word: str | None = None
    review: bool = False
    # By a word that the client added, and so to that client alone.
    is_of_client: bool = False


def read_text(text: str, further_words: Sequence[str] = ()) -> Reading:
    """Return what the text says; ``further_words`` opt out too, of the client that added them."""
    plain = plain_words(text)
    # Ours first: nobody's further word can make START mean something else.
    wish = WISHES.get(plain)
    if wish is not None:
        return Reading(wish, plain)
    if plain and plain in {plain_words(word) for word in further_words}:
        return Reading("optout", plain, is_of_client=True)
    return Reading(review=has_stop_sign(text) or may_ask_to_stop(plain))


def plain_words(text: str) -> str:
    """Return the words of a text as they are compared: letters and digits only, lower case, without accents."""
    # NFKD writes full-width and styled letters plainly, and takes the accents off their letters.
    decomposed = unicodedata.normalize("NFKD", text[:_LONGEST_READ])
    # Invisible characters (soft hyphens, joiners) are no gap between letters; all else that is no letter is one.
    kept = (letter for letter in decomposed if unicodedata.category(letter) not in {"Mn", "Cf"})
    spaced = "".join(letter if letter.isalnum() else " " for letter in kept)
    return " ".join(spaced.casefold().split())

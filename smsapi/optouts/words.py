"""What a text says about being texted: the words that are obeyed, and the phrases that a person should look at.

Only a text that is nothing but such a word is obeyed, in any case, with or without accents, and whatever spaces or
punctuation stand around it. The English words are Plivo's own (plivo-facts 2.9); it obeys those by itself for numbers
of the United States and Canada only. The other languages' words are ours.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Wish = Literal["optout", "optin", "help"]

# By language, as they are compared: lower case, without accents, one space between words.
OPT_OUT_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("stop", "end", "quit", "cancel", "unsubscribe", "unsub", "stopall", "stop all", "optout", "opt out"),
    "fr": ("arret", "arreter", "stop sms", "desabonner", "desinscrire", "desinscription"),
    "es": ("alto", "parar", "baja", "detener", "cancelar"),
    "de": ("stopp", "abmelden", "abbestellen"),
    "pt": ("parar", "sair", "cancelar", "pare"),
    "it": ("ferma", "fermare", "annulla", "cancella", "disiscrivi"),
    "nl": ("stoppen", "afmelden", "uitschrijven"),
}
OPT_IN_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("start", "yes", "unstop", "resume", "go"),
    "fr": ("demarrer", "reprendre", "reabonner"),
    "es": ("iniciar", "empezar", "alta", "reanudar"),
    "de": ("starten", "anmelden", "fortsetzen"),
    "pt": ("iniciar", "comecar", "retomar"),
    "it": ("inizia", "riprendi", "attiva"),
    "nl": ("starten", "hervatten", "aanmelden"),
}
HELP_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("help", "info"),
    "fr": ("aide",),
    "es": ("ayuda",),
    "de": ("hilfe",),
    "pt": ("ajuda",),
    "it": ("aiuto",),
    "nl": ("hulp",),
}
_WISHES: Final[Mapping[str, Wish]] = {
    **{word: "help" for words in HELP_WORDS.values() for word in words},
    **{word: "optin" for words in OPT_IN_WORDS.values() for word in words},
    # Last, so that a word of two languages is the one that stops.
    **{word: "optout" for words in OPT_OUT_WORDS.values() for word in words},
}
# Within a sentence each of these may mean it, and none has to: "Can we stop by tomorrow?"
_SUSPECT = re.compile(
    r"\b(stop\w*|unsub\w*|opt(ed|ing)? ?out|leave me alone|remove me|take me off|wrong (number|person)"
    r"|(do not|don t|dont|never|no more) (text|message|contact|sms|call)\w*|no more (texts|messages)"
    r"|arret\w*|desabonn\w*|desinscri\w*|plus de (sms|messages?)|laissez moi"
    r"|dejen? de|no mas mensajes|darme de baja|borr(ar|en)me"
    r"|abmeld\w*|abbestell\w*|keine (sms|nachrichten)|nicht mehr"
    r"|pare de|nao (envie|mande)\w*|cancelar|sair da lista"
    r"|disiscriv\w*|smett\w*|non (scriv|mand|invia)\w*"
    r"|afmeld\w*|uitschrijv\w*|geen (sms|berichten))\b"
)
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
    wish = _WISHES.get(plain)
    if wish is not None:
        return Reading(wish, plain)
    if plain and plain in {plain_words(word) for word in further_words}:
        return Reading("optout", plain, is_of_client=True)
    return Reading(review=_SUSPECT.search(plain) is not None)


def plain_words(text: str) -> str:
    """Return the words of a text as they are compared: letters and digits only, lower case, without accents."""
    # NFKD writes full-width and styled letters plainly, and takes the accents off their letters.
    decomposed = unicodedata.normalize("NFKD", text[:_LONGEST_READ])
    # Invisible characters (soft hyphens, joiners) are no gap between letters; all else that is no letter is one.
    kept = (letter for letter in decomposed if unicodedata.category(letter) not in {"Mn", "Cf"})
    spaced = "".join(letter if letter.isalnum() else " " for letter in kept)
    return " ".join(spaced.casefold().split())

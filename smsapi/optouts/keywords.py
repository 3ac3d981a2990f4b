"""The words by which people opt out, opt in and ask for help, as data: by language, each list with its source and date.

A regulator's or carrier's list is added here, and nowhere else; :mod:`smsapi.optouts.words` obeys what is in it. Words
are written as they are compared: lower case, without accents, one space between words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

Wish = Literal["optout", "optin", "help"]


@dataclass(frozen=True, slots=True)
class WordList:
    """Words of one language that ask for one thing; who says so, and since when (or as of when it was read)."""

    wish: Wish
    language: str
    words: tuple[str, ...]
    source: str
    date: str


_PLIVO: Final = "Plivo's documentation, DND service"
_OURS: Final = "this service: what speakers of the language write"
# Lists without a date of their own, as they stood then.
_READ: Final = "2026-11-30"

WORD_LISTS: Final = (
    WordList(
        "optout",
        "en",
        ("stop", "end", "quit", "cancel", "unsubscribe", "unsub", "stopall", "stop all"),
        _PLIVO,
        _READ,
    ),
    WordList(
        "optout",
        "en",
        ("stop", "quit", "end", "revoke", "opt out", "cancel", "unsubscribe"),
        "United States, 47 CFR 64.1200(a)(10): any of these ends consent",
        "2025-04-11",
    ),
    WordList(
        "optout",
        "en",
        ("stop", "end", "cancel", "unsubscribe", "quit"),
        "CTIA, Short Code Monitoring Handbook 1.7, which the carriers of the United States audit by",
        "2017-03-27",
    ),
    WordList(
        "optout",
        "en",
        ("cancel", "end", "opt out", "optout", "quit", "remove", "stop", "unsubscribe"),
        "AWS End User Messaging, words that carriers of the United States and Canada require",
        _READ,
    ),
    WordList("optout", "en", ("unsubscribe me", "stop texting", "stop texting me", "stop sms"), _OURS, _READ),
    WordList("optout", "fr", ("arret",), "Canada, carriers' rules for short codes: STOP and ARRET", _READ),
    WordList(
        "optout",
        "fr",
        (
            *("arreter", "stop sms", "stop pub", "desabonner", "desabonnement", "desabonnez moi", "me desabonner"),
            *("se desabonner", "desinscrire", "desinscription", "me desinscrire", "revoquer"),
        ),
        _OURS,
        _READ,
    ),
    WordList(
        "optout",
        "es",
        ("baja",),
        "Spain, code of conduct for premium messages, BOE 180 of 2009 (BOE-A-2009-12439)",
        "2009-07-27",
    ),
    WordList(
        "optout",
        "es",
        (
            *("alto", "parar", "detener", "cancelar", "dar de baja", "darme de baja", "darse de baja", "desuscribir"),
            *("desuscribirme", "desuscribirse", "cancelar suscripcion", "revocar"),
        ),
        _OURS,
        _READ,
    ),
    WordList(
        "optout",
        "de",
        ("stop", "stopp", "stop all"),
        "Austria (SMS subscriptions, 2007) and Switzerland (carriers' code of conduct named by BAKOM): STOP, STOPP",
        "2007-01-01",
    ),
    WordList(
        "optout",
        "de",
        ("abmelden", "abbestellen", "abmeldung", "austragen", "widerruf", "widerrufen", "stop alle"),
        _OURS,
        _READ,
    ),
    WordList("optout", "pt", ("sair",), "Brazil, Anatel: SAIR ends advertising by SMS", "2012-07-20"),
    WordList(
        "optout",
        "pt",
        (
            *("parar", "cancelar", "pare", "descadastrar", "cancelar inscricao", "cancelar subscricao", "revogar"),
            *("anular subscricao", "remover"),
        ),
        _OURS,
        _READ,
    ),
    WordList("optout", "it", ("stop",), "Italy, carriers' code of conduct for premium messages", _READ),
    WordList(
        "optout",
        "it",
        (
            *("ferma", "fermare", "annulla", "cancella", "disiscrivi", "disiscrivimi", "cancellami", "cancellarmi"),
            *("revoca", "revocare", "annulla iscrizione"),
        ),
        _OURS,
        _READ,
    ),
    WordList("optout", "nl", ("stop",), "Belgium, carriers' code for premium messages: STOP, misspelled too", _READ),
    WordList(
        "optout",
        "nl",
        ("stoppen", "afmelden", "uitschrijven", "afmelding", "intrekken", "stop alles"),
        _OURS,
        _READ,
    ),
    WordList("optin", "en", ("start", "yes", "unstop", "resume", "go"), _PLIVO, _READ),
    WordList("optin", "fr", ("demarrer", "reprendre", "reabonner"), _OURS, _READ),
    WordList("optin", "es", ("iniciar", "empezar", "alta", "reanudar"), _OURS, _READ),
    WordList("optin", "de", ("starten", "anmelden", "fortsetzen"), _OURS, _READ),
    WordList("optin", "pt", ("iniciar", "comecar", "retomar"), _OURS, _READ),
    WordList("optin", "it", ("inizia", "riprendi", "attiva"), _OURS, _READ),
    WordList("optin", "nl", ("starten", "hervatten", "aanmelden"), _OURS, _READ),
    WordList("help", "en", ("help", "info"), _PLIVO, _READ),
    WordList("help", "fr", ("aide",), "Canada, carriers' rules for short codes: HELP and AIDE", _READ),
    WordList("help", "es", ("ayuda",), _OURS, _READ),
    WordList("help", "de", ("hilfe",), _OURS, _READ),
    WordList("help", "pt", ("ajuda",), _OURS, _READ),
    WordList("help", "it", ("aiuto",), _OURS, _READ),
    WordList("help", "nl", ("hulp",), _OURS, _READ),
)


def _by_language(wish: Wish) -> Mapping[str, tuple[str, ...]]:
    lists = [each for each in WORD_LISTS if each.wish == wish]
    return {
        language: tuple(dict.fromkeys(chain.from_iterable(each.words for each in lists if each.language == language)))
        for language in dict.fromkeys(each.language for each in lists)
    }


OPT_OUT_WORDS: Final = _by_language("optout")
OPT_IN_WORDS: Final = _by_language("optin")
HELP_WORDS: Final = _by_language("help")
WISHES: Final[Mapping[str, Wish]] = {
    **{word: "help" for words in HELP_WORDS.values() for word in words},
    **{word: "optin" for words in OPT_IN_WORDS.values() for word in words},
    # Last, so that a word of two languages is the one that stops.
    **{word: "optout" for words in OPT_OUT_WORDS.values() for word in words},
}

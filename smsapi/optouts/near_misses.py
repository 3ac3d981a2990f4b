"""Texts that are no word of the lists and may ask to stop all the same: never obeyed, but shown to a person.

A person's look at one text too many costs little; a text that asked to stop and that nobody saw costs a complaint. All
functions take the text as :func:`smsapi.optouts.words.plain_words` writes it, but for :func:`has_stop_sign`.
"""

import re
import unicodedata
from typing import Final

from smsapi.optouts.keywords import OPT_OUT_WORDS

# Within a sentence each of these may mean it, and none has to: "Can we stop by tomorrow?"
_SUSPECT: Final = re.compile(
    r"\b(stop\w*|unsub\w*|revok\w*|opt(ed|ing)?( \w+)? ?out|no more|not interested|go away|leave (me|us) alone"
    r"|(remove|delete|block|lose|erase) (me|my|this|us)|take (me|us|my \w+) off|wrong (number|person)|piss off|fuck off"
    r"|(do not|don t|dont|never|cease|quit|end|cancel) (text|message|messaging|contact|sms|send|call|spam|bother)\w*"
    r"|(quit|end|cancel) (this|it|that|these|all|them|alerts?|subscription|my subscription)|spam\w*|harass\w*"
    r"|stahp|cease|desist|discontinue|terminate|withdraw\w*( my)? consent|no (thanks|thank (you|u)|thx)"
    r"|(do not|don t|dont) want"
    r"|arret\w*|desabonn\w*|desinscri\w*|plus de (sms|messages?)|laissez moi|ne plus recevoir|revoqu\w*"
    r"|ne m (envoyez|ecrivez|contactez) plus|ca suffit"
    r"|dejen? de|no (mas|quiero)|darme de baja|borr(ar|en)me|desuscri\w*|no me (envie|mande|escrib|moleste)\w*|revoc\w*"
    r"|abmeld\w*|abbestell\w*|austrag\w*|keine (sms|nachrichten|werbung)|nicht mehr|widerruf\w*"
    r"|lass(t|en sie)? mich in ruhe"
    r"|pare de|parem de|nao (envi|mand|quero)\w*|cancelar|sair da lista|descadastr\w*|revog\w*"
    r"|remov(a|am) me|me (remov|tir)\w*"
    r"|disiscriv\w*|smett\w*|basta|non (scriv|mand|invi|voglio)\w*|cancell(a|at)emi|toglie(rmi|temi)|toglimi"
    r"|afmeld\w*|uitschrijv\w*|schrijf me uit|geen (sms|berichten)|niet meer|intrekk\w*)\b"
)
# What speakers of other languages send to stop; T and TD are China's own words for it, TC is Vietnam's,
# RET and RED are Turkey's.
_ELSEWHERE: Final = re.compile(
    r"\b(td|tc|ret|стоп|хватит|не (пиш|присыл|надо|звон)\w*"
    r"|отпис\w*|прекрат\w*|отмена|зупин\w*|відпис\w*|спри|avbryt\w*|avsluta|avregistrer\w*|lopeta"
    r"|peruuta|rezygnuj\w*|wypisz\w*|odhlas\w*|zrusit|leiratkoz\w*|dezabon\w*|odjav\w*|iptal|dur|durdur\w*|berhenti"
    r"|huy|διακοπη|διαγραφη)\b"
)
# Scripts without spaces between words, or whose vowels are marks: looked for in the text as it came.
_STOP_SIGNS: Final = re.compile(
    r"[🛑🚫⛔✋🖐🤚🙅🔕📵🚷⏹✖❌🖕👎]"
    # With a sign or a digit in place of a letter; plain words have no signs.
    r"|(?<!\w)(?i:[s$5][t7][o0]+p)(?!\w)"
    r"|停|取消|不要再|やめて|中止|退订|退訂|解除|수신거부|수신 거부|그만|كفى|توقف|[إا]يقاف|[إا]لغاء|\bقف\b"
    r"|הסר|עצור|रोक|बंद|หยุด|ยกเลิก"
)
# Words that mean something else within a sentence.
_ALONE: Final = frozenset({"t", "red", "halt", "enough", "genug", "chega", "block", "blocked"})
_POLITE: Final = re.compile(
    r"\b(please|pls|plz|thanks|thank (you|u)|thx|now|asap|immediately|bitte|danke|sofort|por favor|gracias|obrigad[oa]"
    r"|svp|stp|merci|s il (vous|te) plait|per (favore|piacere)|grazie|al(s|stu)blieft|aub|dank (je|u)|ok|okay"
    r"|hi|hello)\b"
)
_KEYWORDS: Final = frozenset(word for words in OPT_OUT_WORDS.values() for word in words)
# Of what begins with one of them, most asks for it: "quit sending me this".
_OPENING: Final = _KEYWORDS - {"end", "alto"}
_JOINED: Final = frozenset(word.replace(" ", "") for word in _KEYWORDS)
_LONG_LETTERS: Final = 8
# A typing error in one of the short ones is as often another word; in one of the long ones it hardly can be.
_SHORT: Final = ("stop", "quit", "cancel", "revoke", "remove", "arret", "baja", "sair", "parar", "stoppen")
_LONG: Final = tuple(sorted(word for word in _JOINED if len(word) >= _LONG_LETTERS))
_OTHER_WORDS: Final = frozenset(
    {
        "step",
        "steps",
        "shop",
        "shops",
        "top",
        "tops",
        "stow",
        "slop",
        "spot",
        "strop",
        "atop",
        "quite",
        "quiet",
        "quid",
        "suit",
        "quip",
        "quits",
        "quint",
        "remote",
        "removed",
        "bajo",
        "bala",
        "baza",
        "caja",
        "hair",
        "said",
        "fair",
        "sait",
        "stair",
        "pagar",
        "pasar",
        "parcar",
        "para",
        "pare",
        "arrest",
        "subscribe",
        "subscribed",
    }
)
_MOST_WORDS: Final = 40
_LONGEST_READ: Final = 2_000


def has_stop_sign(text: str) -> bool:
    """Say whether the text holds a stop sign or its like, or the word for it in a script of signs or marks."""
    return _STOP_SIGNS.search(unicodedata.normalize("NFC", text[:_LONGEST_READ])) is not None


def may_ask_to_stop(plain: str) -> bool:
    """Say whether the text, which is no word of the lists, may ask to stop."""
    if _SUSPECT.search(plain) or _ELSEWHERE.search(plain):
        return True
    words = plain.split()
    if plain in _ALONE:
        return True
    rest = [word for word in _POLITE.sub(" ", plain).split() if not word.isdecimal()]
    if " ".join(rest) in _KEYWORDS or not _JOINED.isdisjoint({"".join(rest), "".join(words)}):
        return True
    if rest and rest[0] in _OPENING:
        return True
    if len(rest) == 1 and any(_is_nearly(rest[0], word, errors=1) for word in _SHORT):
        return True
    return any(_is_nearly(each, word, errors=2) for each in set(rest[:_MOST_WORDS]) for word in _LONG)


def _is_nearly(given: str, word: str, *, errors: int) -> bool:
    """Say whether the word was meant: letters repeated, or so many of them wrong, missing, added or swapped."""
    if given in _OTHER_WORDS or len(set(given) ^ set(word)) > 2 * errors:
        return False
    return _once(given) == _once(word) or _distance(given, word, most=errors) <= errors


def _once(word: str) -> str:
    return re.sub(r"(.)\1+", r"\1", word)


def _distance(given: str, word: str, *, most: int) -> int:
    """Return how many typing errors lie between the two (Damerau and Levenshtein); more than ``most`` is any more."""
    if abs(len(given) - len(word)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(word) + 1))
    for row, letter in enumerate(given, start=1):
        line = [row]
        for column, other in enumerate(word, start=1):
            cost = min(last[column] + 1, line[column - 1] + 1, last[column - 1] + (letter != other))
            if row > 1 and column > 1 and letter == word[column - 2] and given[row - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            line.append(cost)
        before, last = last, line
    return last[-1]

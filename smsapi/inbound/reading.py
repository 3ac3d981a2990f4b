"""Parser of the form of an inbound text (plivo-facts 2.8): plain values within bounds.

Whatever Plivo signed is read as something: a text that is passed over here is lost, for nobody sends it again.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from smsapi.sms.phone import read_provider_number

Intent = Literal["optout", "optin", "help"]
_UUID = re.compile(r"[0-9A-Za-z-]{1,64}")
_UNITS = re.compile(r"[0-9]{1,4}", re.ASCII)
# Control characters, and those that change how what stands beside them is shown.
_UNSEEMLY = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MEDIA = re.compile(r"Media([0-9]{1,3})", re.ASCII)
_KNOWN: Final = frozenset(
    {"MessageUUID", "From", "To", "Text", "Body", "Type", "Units", "MessageIntent", "PowerpackUUID", "MediaCount"}
)
_MOST_MEDIA = 50
_MOST_EXTRAS = 40
_LONGEST_EXTRA = 1_000
_LONGEST_URL = 2_000
LONGEST_ADDRESS: Final = 64
# Who texted, or was texted, where Plivo names nobody.
UNKNOWN_ADDRESS: Final = "unknown"
# Far more than any text: Plivo's own longest is 1,600 characters, a WhatsApp one 4,096.
_LONGEST_TEXT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An inbound text as Plivo tells of it; numbers in E.164 where they are any, short codes and names as they are.

    ``provider_uuid`` is one of our own making where Plivo gives none that can be kept.
    """

    provider_uuid: str
    sender: str
    to: str
    text: str
    kind: str
    intent: Intent | None
    segments: int | None
    media: tuple[str, ...]
    powerpack_uuid: str | None
    extra: Mapping[str, str]


def read_inbound(fields: Mapping[str, str], *, nonce: str) -> Received:
    """Return what the form says; ``nonce`` is that of its signature, which tells forms without a UUID apart."""
    intent, units, pack = (fields.get(name, "") for name in ("MessageIntent", "Units", "PowerpackUUID"))
    return Received(
        provider_uuid=_uuid(fields, nonce),
        sender=read_address(fields.get("From", "")),
        to=read_address(fields.get("To", "")),
        # An MMS has its text in Body. PostgreSQL takes no U+0000.
        text=_storable(fields.get("Text") or fields.get("Body") or "", _LONGEST_TEXT),
        kind=_storable(fields.get("Type", "sms"), 16) or "sms",
        intent=_intent(intent.strip().lower()),
        segments=int(units) if _UNITS.fullmatch(units) else None,
        media=_media(fields),
        powerpack_uuid=pack if _UUID.fullmatch(pack) else None,
        extra=_extra(fields),
    )


def _intent(word: str) -> Intent | None:
    match word:
        case "optout" | "optin" | "help":
            return word
        case _:
            return None


def read_address(shown: str) -> str:
    """Return who texted, or was texted, as it is stored and looked for: never empty, which is what is erased.

    A number in its canonical form; a short code or a name as Plivo shows it, in one line, composed (NFC), its first 64
    characters.
    """
    plain = "".join(each for each in shown[:_LONGEST_EXTRA] if unicodedata.category(each) not in _UNSEEMLY).strip()
    number = read_provider_number(plain)
    return number or unicodedata.normalize("NFC", plain)[:LONGEST_ADDRESS].strip() or UNKNOWN_ADDRESS


def _uuid(fields: Mapping[str, str], nonce: str) -> str:
    found = fields.get("MessageUUID", "").strip()
    if _UUID.fullmatch(found):
        return found
    # The same for each repetition of the request, so that the text is stored once.
    said = repr(found or (nonce, sorted(fields.items())))
    return f"none-{hashlib.sha256(said.encode('utf-8', 'replace')).hexdigest()[:32]}"


def _media(fields: Mapping[str, str]) -> tuple[str, ...]:
    # Media0 is the first on one of Plivo's pages, Media1 on another.
    found = [(int(match[1]), fields[name]) for name in fields if (match := _MEDIA.fullmatch(name)) and fields[name]]
    return tuple(_storable(url, _LONGEST_URL) for _, url in sorted(found)[:_MOST_MEDIA])


def _extra(fields: Mapping[str, str]) -> dict[str, str]:
    names = sorted(name for name in fields if name not in _KNOWN and not _MEDIA.fullmatch(name))
    kept = names[:_MOST_EXTRAS]
    return {_storable(name, 64): _storable(fields[name], _LONGEST_EXTRA) for name in kept}


def _storable(value: str, longest: int) -> str:
    return value[:longest].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()

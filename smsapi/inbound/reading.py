"""What the form of an inbound text says (plivo-facts 2.8), as plain values within bounds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from smsapi.sms.phone import InvalidNumber, parse_number

Intent = Literal["optout", "optin", "help"]
_UUID = re.compile(r"[0-9A-Za-z-]{1,64}")
_UNITS = re.compile(r"[0-9]{1,4}", re.ASCII)
_ADDRESS = re.compile(r"\+?[0-9A-Za-z]{1,20}")
_MEDIA = re.compile(r"Media([0-9]{1,3})", re.ASCII)
_KNOWN: Final = frozenset(
    {"MessageUUID", "From", "To", "Text", "Body", "Type", "Units", "MessageIntent", "PowerpackUUID", "MediaCount"}
)
_MOST_MEDIA = 50
_MOST_EXTRAS = 40
_LONGEST_EXTRA = 1_000
_LONGEST_URL = 2_000
# Far more than any text: Plivo's own longest is 1,600 characters, a WhatsApp one 4,096.
_LONGEST_TEXT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An inbound text as Plivo tells of it; numbers in E.164 where they are any, short codes and names as they are."""

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


def read_inbound(fields: Mapping[str, str]) -> Received | None:
    """Return what the form says, or None where it names no message or no two numbers."""
    uuid, sender, to = (fields.get(name, "").strip() for name in ("MessageUUID", "From", "To"))
    if not (_UUID.fullmatch(uuid) and _ADDRESS.fullmatch(sender) and _ADDRESS.fullmatch(to)):
        return None
    intent, units, pack = (fields.get(name, "") for name in ("MessageIntent", "Units", "PowerpackUUID"))
    return Received(
        provider_uuid=uuid,
        sender=_number(sender),
        to=_number(to),
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


def _number(shown: str) -> str:
    """Return the number as we write it: Plivo leaves the plus sign out."""
    digits = shown.removeprefix("+")
    if not digits.isdecimal():
        return shown
    try:
        return parse_number(f"+{digits}").e164
    except InvalidNumber:
        return digits  # a short code


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

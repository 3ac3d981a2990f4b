"""The ``Prefer`` header (RFC 7240): whether the caller waits for Plivo, and for how long."""

import re
from dataclasses import dataclass

DEFAULT_WAIT_SECONDS = 10
MAX_WAIT_SECONDS = 30

_TOKEN = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*\"?([^\";,]*)\"?)?\s*(?:;[^,]*)?")


@dataclass(frozen=True, slots=True)
class Preference:
    """``wait_seconds`` None: answer as soon as the message is stored. ``applied``: the header that says so, if any."""

    wait_seconds: int | None
    applied: str | None


def read_prefer(header: str) -> Preference:
    """Return what a ``Prefer`` header asks for; what is unknown or malformed in it is ignored, as the RFC wants.

    ``respond-async`` together with ``wait`` means: wait so long, then answer 202, which is what ``wait`` does anyway.
    """
    given: dict[str, str] = {}
    for part in header.split(","):
        if match := _TOKEN.fullmatch(part):
            # The first of a name counts (RFC 7240 section 2).
            given.setdefault(match[1].lower(), match[2] or "")
    wait = given.get("wait", "")
    if re.fullmatch(r"[0-9]{1,9}", wait, re.ASCII):
        seconds = min(int(wait), MAX_WAIT_SECONDS)
        return Preference(seconds, f"wait={seconds}")
    if "respond-async" in given:
        return Preference(None, "respond-async")
    return Preference(DEFAULT_WAIT_SECONDS, None)

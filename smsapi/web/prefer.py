"""The ``Prefer`` header (RFC 7240): whether the caller waits for Plivo, and for how long."""

import re
from dataclasses import dataclass
from urllib.request import parse_http_list

DEFAULT_WAIT_SECONDS = 10
MAX_WAIT_SECONDS = 30

_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


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
    # A comma within quotes parts nothing: the standard library's reader of lists knows that, and its time is linear.
    for item in parse_http_list(header):
        name, _, value = item.partition(";")[0].partition("=")
        # The first of a name counts (RFC 7240 section 2).
        given.setdefault(name.strip().lower(), _unquoted(value.strip()))
    if _SECONDS.fullmatch(given.get("wait", "")):
        seconds = min(int(given["wait"]), MAX_WAIT_SECONDS)
        return Preference(seconds, f"wait={seconds}")
    # It takes no value, and an empty one is none.
    if given.get("respond-async") == "":
        return Preference(None, "respond-async")
    return Preference(DEFAULT_WAIT_SECONDS, None)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value

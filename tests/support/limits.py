"""What an answer says of its limits, read back from its headers, and a bearer of many requests at once."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from werkzeug.test import TestResponse

from tests.support.api import Caller

_POLICY = re.compile(r'"([a-z0-9-]+)";q=(\d+);w=(\d+)')
_STANDING = re.compile(r'"([a-z0-9-]+)";r=(\d+);t=(\d+)')

ASYNC = {"Prefer": "respond-async"}


def policies(answer: TestResponse) -> dict[str, tuple[int, int]]:
    """Return quota and window in seconds, by policy."""
    return _read(_POLICY, answer.headers.get("RateLimit-Policy", ""))


def standings(answer: TestResponse) -> dict[str, tuple[int, int]]:
    """Return what remains and how long it has to last, by policy."""
    return _read(_STANDING, answer.headers.get("RateLimit", ""))


def left(answer: TestResponse) -> dict[str, int]:
    """Return what remains, by policy."""
    return {policy: remaining for policy, (remaining, _) in standings(answer).items()}


def _read(item: re.Pattern[str], header: str) -> dict[str, tuple[int, int]]:
    found = {}
    for part in header.split(", ") if header else []:
        match = item.fullmatch(part)
        assert match, f"not an item of a RateLimit header: {part!r}"
        assert match[1] not in found, f"named twice: {match[1]}"
        found[match[1]] = (int(match[2]), int(match[3]))
    return found


def send(caller: Caller, to: str = "+14155550123", **headers: str) -> TestResponse:
    """Send one message that nobody waits for."""
    return caller.send(to, headers={**ASYNC, **headers})


def all_at_once(acts: list[Callable[[], Any]]) -> list[Any]:
    """Run each act on a thread of its own, all begun together; return what they gave."""
    together = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        together.wait(30)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))

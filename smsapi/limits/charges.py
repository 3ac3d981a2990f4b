"""Charges of a limit string, and a refusal in words: the same for what a request costs and what its view adds."""

from functools import lru_cache
from typing import Final

from limits import RateLimitItem

from smsapi.errors import RateLimited
from smsapi.limits.gcra import Charge, Verdict, Window
from smsapi.settings.windows import read_windows

_REMEMBERED: Final = 1024


def charges_of(
    text: str, scope: str, identity: str, *, cost: int = 1, once_seconds: int = 0, at_least: int = 0
) -> list[Charge]:
    """Return what a shared limit of this string costs, on the keys that requests spend it on.

    Only the windows of ``at_least`` so many seconds; ``once_seconds`` is that of a ``Charge``, at most the window.
    """
    return [
        Charge(key_of(window.seconds, scope, identity), window, name, cost, min(window.seconds, once_seconds))
        for window, name in _windows(text, scope)
        if window.seconds >= at_least
    ]


@lru_cache(_REMEMBERED)
def _windows(text: str, scope: str) -> tuple[tuple[Window, str], ...]:
    found: dict[int, tuple[Window, str]] = {}
    named: set[str] = set()
    for item in read_windows(text) if text else ():
        seconds, earlier = item.get_expiry(), found.get(item.get_expiry())
        if earlier and earlier[0].quota <= item.amount:
            continue
        name = earlier[1] if earlier else policy_name(scope, item, named)
        named.add(name)
        found[seconds] = (window_of(item.amount, seconds), name)
    return tuple(found.values())


def refuse_spent(verdict: Verdict) -> None:
    """Raise :class:`RateLimited`, which says which policies refused, where the verdict is no."""
    if not verdict.allowed:
        raise RateLimited(_refusal(verdict), retry_after_seconds=max(1, verdict.retry_after_seconds))


def key_of(seconds: int, scope: str, identity: str) -> str:
    """Return what is spent on; the identity is last, since it is the only part that a caller may have a say in."""
    return f"{seconds}|{scope}|{identity}"


def policy_name(scope: str, item: RateLimitItem, named: set[str]) -> str:
    """Return the public name of a window: the scope's for the first one that is named, for others their unit too."""
    if scope not in named:
        return scope
    unit = item.GRANULARITY.name
    return f"{scope}-{unit}" if item.multiples == 1 else f"{scope}-{item.multiples}-{unit}"


@lru_cache(_REMEMBERED)
def window_of(quota: int, seconds: int) -> Window:
    """Return the window, each once."""
    return Window(quota, seconds)


def _refusal(verdict: Verdict) -> str:
    denied = [item for item in verdict.items if item.denied]
    named = ", ".join([f'"{item.policy}" ({item.quota} in {item.seconds} s)' for item in denied])
    if not all(item.quota for item in denied):
        return f"A limit allows nothing at all: {named}."
    return f"Spent: {named}. Try again in {max(1, verdict.retry_after_seconds)} s."

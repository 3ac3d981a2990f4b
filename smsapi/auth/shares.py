"""Limits as they apply to one caller: whose share is spent, and what the client has of its own."""

from typing import Final

from smsapi.auth.models import Caller
from smsapi.settings import Settings

# Windows of these of so many seconds and more count texts; shorter ones count requests.
COUNTING_TEXTS: Final = frozenset({"send", "key"})
HOUR: Final = 3600


def client_identity(caller: Caller) -> str:
    """Return whose share of ``send`` the caller's requests spend."""
    # Test keys text nobody: a rehearsal must not use up what the real thing may spend.
    return f"{caller.client.id.hex}|{caller.key.mode}"


def number_identity(caller: Caller, number: str) -> str:
    """Return whose share of ``number`` a text of the caller's to this number (E.164) spends."""
    return f"{client_identity(caller)}|{number}"


def key_identity(caller: Caller) -> str:
    """Return whose share of ``key`` the caller's requests spend."""
    return caller.key.id.hex


def limit_text(settings: Settings, limits: dict[str, str], policy: str) -> str:
    """Return the same with these settings; an empty string where there is none."""
    own = limits.get(policy)
    return own if own is not None else str(getattr(settings, f"limit_{policy}"))

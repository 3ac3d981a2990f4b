"""Sentry, where a DSN is set: errors without texts, numbers, bodies, headers or secrets."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from smsapi import __version__
from smsapi.errors import SettingsInvalid
from smsapi.log import scrub
from smsapi.settings import Settings


def install_sentry(settings: Settings, **options: Any) -> bool:
    """Send errors to Sentry from now on, where ``SENTRY_DSN`` is set; say whether it is.

    Raises:
        SettingsInvalid: a DSN is set and the package ``sentry-sdk`` is not installed.

    """
    if settings.sentry_dsn is None:
        return False
    try:
        # Optional: it costs 50 MB of memory, so it is loaded only where it is wanted.
        sentry = import_module("sentry_sdk")
    except ImportError:
        raise SettingsInvalid("SENTRY_DSN is set, but sentry-sdk is not installed: smsapi[sentry]") from None
    sentry.init(
        dsn=settings.sentry_dsn,
        environment=settings.sentry_environment,
        release=__version__,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        before_send=scrubbed(),
        **options,
    )
    return True


def scrubbed() -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Return the hook that takes texts, numbers and credentials out of an event."""

    def before_send(event: dict[str, Any], _hint: Any) -> dict[str, Any]:
        request = event.get("request", {})
        for name in ("data", "headers", "cookies", "query_string", "env"):
            request.pop(name, None)
        clean: dict[str, Any] = scrub(event)
        return clean

    return before_send

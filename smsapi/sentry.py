"""Sentry, where a DSN is set: errors without texts, numbers, bodies, headers or secrets."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from smsapi import __version__
from smsapi.errors import SettingsInvalid
from smsapi.log import ErrorListener, scrub
from smsapi.settings import Settings

_OURS = "smsapi."


def install_sentry(settings: Settings, **options: Any) -> ErrorListener | None:
    """Make Sentry ready where ``SENTRY_DSN`` is set; return what sends it an exception, None where it is not set.

    Nothing but what is given to the listener is sent: Flask hands Sentry no exception that we answer with a problem,
    and the log has them all.

    Raises:
        SettingsInvalid: a DSN is set and the package ``sentry-sdk`` is not installed.

    """
    if settings.sentry_dsn is None:
        return None
    try:
        # Optional: it costs 50 MB of memory, so it is loaded only where it is wanted.
        sentry = import_module("sentry_sdk")
        logs = import_module("sentry_sdk.integrations.logging")
    except ImportError:
        raise SettingsInvalid("SENTRY_DSN is set, but sentry-sdk is not installed: smsapi[sentry]") from None
    sentry.init(
        dsn=settings.sentry_dsn,
        environment=settings.sentry_environment,
        release=__version__,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        integrations=[logs.LoggingIntegration(level=None, event_level=None)],
        before_send=scrubbed(),
        **options,
    )
    capture: ErrorListener = sentry.capture_exception
    return capture


def scrubbed() -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Return the hook that takes texts, numbers and credentials out of an event."""

    def before_send(event: dict[str, Any], _hint: Any) -> dict[str, Any]:
        request = event.get("request", {})
        for name in ("data", "headers", "cookies", "query_string", "env", "url"):
            request.pop(name, None)
        for exception in event.get("exception", {}).get("values", []):
            # A foreign exception may quote whatever it stumbled over: see smsapi.log.reason_of.
            if not str(exception.get("module")).startswith(_OURS):
                exception.pop("value", None)
        clean: dict[str, Any] = scrub(event)
        return clean

    return before_send

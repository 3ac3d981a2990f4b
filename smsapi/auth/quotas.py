"""Which limits a request spends: those of its client, of its key, and of the number that it texts."""

from collections.abc import Callable
from functools import partial
from typing import Any

from flask import request
from flask_limiter import Limit

from smsapi.auth.guard import caller, caller_or_none
from smsapi.errors import SmsapiError
from smsapi.web.body import read_json
from smsapi.web.context import deps
from smsapi.web.limiter import OnceLimit
from smsapi.web.operations import current_operation

# The limits that a client may have of its own, by policy; each names the setting that holds otherwise.
POLICIES = ("send", "key", "number", "api")


def declared_limits() -> list[Limit]:
    """Return the limits in the form that flask-limiter takes, with what they count and whom they spare."""
    shared: dict[str, Any] = {"shared": True}
    return [
        Limit(_quota("send"), key_function=_client, scope="send", exempt_when=_not_a_send, **shared),
        Limit(_quota("key"), key_function=_key, scope="key", exempt_when=_not_a_send, **shared),
        # Repeating a request with its Idempotency-Key texts nobody again, so it spends the number's share once.
        OnceLimit(_quota("number"), key_function=_number, scope="number", exempt_when=_not_a_send, **shared),
        Limit(_quota("api"), key_function=_client, scope="api", exempt_when=_not_api, **shared),
    ]


def limits_of(limits: dict[str, str], policy: str) -> str:
    """Return a policy's limits for a client that has these of its own."""
    own = limits.get(policy)
    return own if own is not None else str(getattr(deps().settings, f"limit_{policy}"))


def once_token() -> str | None:
    """Return what marks the repetitions of one request, or None where the caller gave no Idempotency-Key."""
    key = request.headers.get("Idempotency-Key")
    return None if key is None else "|".join((caller().client.id.hex, key.strip().strip('"')))


def _quota(policy: str) -> Callable[[], str]:
    return partial(_quota_now, policy)


def _quota_now(policy: str) -> str:
    found = caller_or_none()
    return "" if found is None else limits_of(found.client.limits, policy)


def _client() -> str:
    found = caller_or_none()
    return "" if found is None else found.client.id.hex


def _key() -> str:
    found = caller_or_none()
    return "" if found is None else found.key.id.hex


def _number() -> str:
    try:
        body = read_json()
    except SmsapiError:
        return ""  # the view says what is wrong with it
    to = body.get("to") if isinstance(body, dict) else None
    return f"{_client()}|{to}" if isinstance(to, str) else ""


def _not_a_send() -> bool:
    operation = current_operation()
    return caller_or_none() is None or operation is None or not operation.sends


def _not_api() -> bool:
    operation = current_operation()
    return caller_or_none() is None or operation is None or operation.sends

"""Rate limits that a request spends: those of its client, of its key, and of the number that it texts."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flask import g, request
from flask_limiter import Limit
from werkzeug.exceptions import HTTPException

from smsapi.auth.guard import caller_or_none, missing_scope
from smsapi.auth.shares import COUNTING_TEXTS, HOUR, client_identity, key_identity, limit_text, number_identity
from smsapi.errors import IdempotencyKeyInvalid, SmsapiError
from smsapi.sms.phone import InvalidNumber, parse_number, unwrap_number
from smsapi.web.body import read_json
from smsapi.web.context import deps
from smsapi.web.idempotency import read_key
from smsapi.web.limiter import Once, OnceLimit
from smsapi.web.operations import current_operation

# The limits that a client may have of its own, by policy; each names the setting that holds otherwise.
POLICIES = ("send", "key", "number", "api")


class _Spenders(NamedTuple):
    """Whose share this request spends, by policy: an empty string where the policy does not count it.

    ``limits`` are the client's own.
    """

    limits: dict[str, str]
    send: str = ""
    key: str = ""
    number: str = ""
    api: str = ""


def declared_limits() -> list[Limit]:
    """Return the limits in the form that flask-limiter takes, with what they count and whom they spare."""
    shared: dict[str, Any] = {"shared": True}
    return [
        Limit(_quota("send"), key_function=lambda: _spenders().send, scope="send", **shared),
        Limit(_quota("key"), key_function=lambda: _spenders().key, scope="key", **shared),
        # Repeating a request with its Idempotency-Key texts nobody again, so it spends the number's share once.
        OnceLimit(_quota("number"), key_function=lambda: _spenders().number, scope="number", **shared),
        Limit(_quota("api"), key_function=lambda: _spenders().api, scope="api", **shared),
    ]


def counted_by_view(scope: str, seconds: int) -> bool:
    """Say whether the view counts this window itself: of a batch, texts in windows of an hour and more."""
    operation = current_operation()
    return scope in COUNTING_TEXTS and seconds >= HOUR and operation is not None and operation.streams


def limits_of(limits: dict[str, str], policy: str) -> str:
    """Return a policy's limits for a client that has these of its own."""
    return limit_text(deps().settings, limits, policy)


def once_token() -> Once | None:
    """Return what marks the repetitions of one request, or None where the caller gave no usable Idempotency-Key."""
    operation, found = current_operation(), caller_or_none()
    if operation is not None and operation.retargets and found is not None:
        # However often a message is given the same number, it is one text to it.
        token = f"{found.client.id.hex}|{request.method}|{request.path}|{_number()}"
        return Once(token, deps().settings.idempotency_ttl_seconds)
    header = request.headers.get("Idempotency-Key")
    if header is None or found is None:
        return None
    try:
        # Exactly what an answer is stored under, and no longer: what would be sent anew has to be charged anew.
        token = "|".join((found.client.id.hex, request.method, request.path, read_key(header)))
    except IdempotencyKeyInvalid:
        return None  # the view says what is wrong with it
    return Once(token, deps().settings.idempotency_ttl_seconds)


def _quota(policy: str) -> Callable[[], str]:
    return partial(_quota_now, policy)


def _quota_now(policy: str) -> str:
    found = _spenders()
    # Nothing is looked up for a policy that does not count this request.
    return limits_of(found.limits, policy) if getattr(found, policy) else ""


def _spenders() -> _Spenders:
    if "spenders" not in g:
        g.spenders = _find_spenders()
    found: _Spenders = g.spenders
    return found


def _find_spenders() -> _Spenders:
    found, operation = caller_or_none(), current_operation()
    if found is None or operation is None:
        return _Spenders({})
    client = client_identity(found)
    # What lacks the scope is refused after the limits, and must not use up the sends of those who have it.
    counts = request.method != "OPTIONS" and missing_scope() is None
    if operation.retargets and counts and (number := _number()):
        return _Spenders(found.client.limits, api=client, number=f"{client}|{number}")
    if not operation.sends or not counts:
        return _Spenders(found.client.limits, api=client)
    # What is read as it comes cannot be read here: its view counts the numbers.
    number = "" if operation.streams else _number()
    return _Spenders(
        found.client.limits,
        send=client,
        key=key_identity(found),
        number=number_identity(found, number) if number else "",
    )


def _number() -> str:
    # Only what is a number, so that nobody can fill the store with what is none.
    try:
        body = read_json()
        to = body.get("to") if isinstance(body, dict) else None
        return parse_number(unwrap_number(to)).e164 if isinstance(to, str) else ""
    except (SmsapiError, HTTPException, InvalidNumber):
        return ""  # the view says what is wrong with it

"""Who is calling: the one check before every route that does not say why it needs none."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import NoReturn, cast

import structlog
from flask import g, request

from smsapi.auth.models import Caller
from smsapi.auth.secrets import PresentedKey, read_key
from smsapi.auth.service import find_by_key, find_by_token
from smsapi.auth.tokens import read_token
from smsapi.errors import LimiterUnavailable, ScopeMissing, TooManyFailedLogins, Unauthenticated
from smsapi.limits.gcra import Charge, Verdict, Window
from smsapi.limits.store import LimitStoreDown
from smsapi.settings.windows import read_windows
from smsapi.web.context import deps
from smsapi.web.limiter import keep_standing
from smsapi.web.operations import current_operation

# What one household or one rented server is given: whoever has it has all its addresses.
_IPV6_PREFIX = 64


def require_credential() -> None:
    """Let the request pass only with a working credential; whether it has the scope is for :func:`require_scope`.

    Raises:
        Unauthenticated: there is none, or it does not work.
        TooManyFailedLogins: the same, once too often from this address.

    """
    operation = current_operation()
    if operation is None or operation.public is not None:
        return
    found = _authenticate()
    g.caller = found
    structlog.contextvars.bind_contextvars(client_id=f"cli_{found.client.id.hex}", key_id=f"key_{found.key.id.hex}")


def require_scope() -> None:
    """Let the request pass only with the scope that the route asks for; after the limits, which a refusal spends too.

    Raises:
        ScopeMissing: the credential is good, and not for this.

    """
    if (missing := missing_scope()) is not None:
        raise ScopeMissing(f"This needs the scope {missing}.")


def missing_scope() -> str | None:
    """Return the scope that this route asks for and the caller lacks, or None where nothing is missing."""
    operation, found = current_operation(), caller_or_none()
    if operation is None or found is None or operation.scope is None or operation.scope in found.scopes:
        return None
    return operation.scope


def caller() -> Caller:
    """Return who makes this request; only on routes that ask for a credential."""
    return cast("Caller", g.caller)


def caller_or_none() -> Caller | None:
    """Return who makes this request, or None where nobody has been let in."""
    return cast("Caller | None", g.get("caller"))


def _authenticate() -> Caller:
    key, authorization = request.headers.get("X-API-Key"), request.headers.get("Authorization")
    if key is None and authorization is None:
        raise Unauthenticated("Send X-API-Key, or Authorization: Bearer with a token.")
    if key is not None and authorization is not None:
        fail_login("Send X-API-Key or Authorization, not both.")
    found = _by_key(key) if key is not None else _by_bearer(authorization or "")
    if found is None:
        fail_login("The credential is wrong, has expired, or was revoked.")
    return found


def _by_key(presented: str) -> Caller | None:
    key = read_key(presented)
    return None if key is None else caller_of_key(key)


def caller_of_key(key: PresentedKey) -> Caller | None:
    """Return who holds this key, or None where it does not work."""
    world = deps()
    with world.database.read() as connection:
        return find_by_key(connection, world.clock.now(), key)


def _by_bearer(header: str) -> Caller | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "bearer":
        fail_login("Authorization must be Bearer with a token; an API key goes into X-API-Key.")
    world = deps()
    try:
        token = read_token(encoded.strip(), world.clock.now())
    except Unauthenticated as refusal:
        fail_login(refusal.detail)
    with world.database.read() as connection:
        found = find_by_token(connection, world.clock.now(), key_id=token.key_id, jti=token.jti)
    if found is None:
        return None
    scopes = found.scopes & token.scopes
    return Caller(client=found.client, key=found.key, scopes=scopes, token_ends_at=token.expires_at)


def fail_login(reason: str) -> NoReturn:
    """Count a failed attempt of this address, and refuse: with 429 once its share is spent, until then with 401."""
    charges = _login_charges()
    try:
        verdict = deps().strict_limits.spend(charges)
    except LimitStoreDown:
        # Not counted, and refused all the same.
        raise Unauthenticated(reason) from None
    keep_standing(charges, verdict)
    if not verdict.allowed:
        _refuse_address(verdict)
    raise Unauthenticated(reason)


def check_logins_are_counted() -> None:
    """Refuse to look at a credential where a failure could not be counted; whoever has a right one is let in.

    Behind a proxy that nobody trusts all callers have one address: what some of them fail at must not lock out others.

    Raises:
        LimiterUnavailable: failures cannot be counted now, and guessing uncounted is not allowed.

    """
    charges = _login_charges()
    try:
        verdict = deps().strict_limits.peek(charges)
    except LimitStoreDown:
        raise LimiterUnavailable(
            "Logins cannot be counted at the moment, so none is tried.", retry_after_seconds=2
        ) from None
    keep_standing(charges, verdict)


def _refuse_address(verdict: Verdict) -> NoReturn:
    raise TooManyFailedLogins(
        "This address has failed to authenticate too often.", retry_after_seconds=max(1, verdict.retry_after_seconds)
    )


def _login_charges() -> list[Charge]:
    address = _countable(request.remote_addr or "unknown")
    return [
        Charge(f"login|{item.get_expiry()}|{address}", Window(item.amount, item.get_expiry()), "login")
        for item in read_windows(deps().settings.limit_login)
    ]


def _countable(address: str) -> str:
    """Return what failures are counted by: the address, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # whatever a trusted proxy says
    if isinstance(parsed, IPv6Address):
        # A socket for both families names an IPv4 caller ::ffff:192.0.2.1.
        return str(parsed.ipv4_mapped or ip_network((int(parsed), _IPV6_PREFIX), strict=False))
    return str(parsed)

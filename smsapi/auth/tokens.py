"""Access tokens: short-lived JWTs (RFC 7519), signed with a secret whose ``kid`` they name.

Every token is checked against the store at each use as well, so that a revocation holds at once on every process.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from flask import Flask
from flask_jwt_extended import JWTManager, create_access_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException

from smsapi.auth.models import Caller
from smsapi.errors import Unauthenticated
from smsapi.settings import Settings

ALGORITHM = "HS256"
ISSUER = AUDIENCE = "smsapi"

# PyJWT judges times by the machine's clock and without grace, so that a token would fail on a host that is a second
# behind. With a leeway that nothing exceeds it judges none; read_token does, by the clock that the app was made with.
_NO_OPINION = timedelta(days=1_000_000)


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid token says."""

    jti: str
    key_id: UUID
    scopes: frozenset[str]
    expires_at: datetime


def kid_of(secret: str) -> str:
    """Return the public name of a signing secret; it tells nothing of the secret."""
    return hashlib.sha256(b"smsapi-jwt-kid:" + secret.encode()).hexdigest()[:16]


def install(app: Flask, settings: Settings) -> None:
    """Make flask-jwt-extended sign with the current secret and take tokens of the previous ones too."""
    current = settings.jwt_secret
    if current is None:
        raise RuntimeError("tokens need SMSAPI_JWT_SECRET")
    secrets = {kid_of(secret): secret for secret in (*settings.jwt_previous_secrets, current)}
    app.config.update(
        JWT_SECRET_KEY=current,
        JWT_ALGORITHM=ALGORITHM,
        JWT_DECODE_ALGORITHMS=[ALGORITHM],
        JWT_ENCODE_ISSUER=ISSUER,
        JWT_DECODE_ISSUER=ISSUER,
        JWT_ENCODE_AUDIENCE=AUDIENCE,
        JWT_DECODE_AUDIENCE=AUDIENCE,
        JWT_DECODE_LEEWAY=_NO_OPINION,
        JWT_ENCODE_NBF=False,
        JWT_COOKIE_CSRF_PROTECT=False,  # no cookies here: a claim less in each token
    )
    manager = JWTManager(app)

    @manager.decode_key_loader
    def key_for(header: Mapping[str, Any], _payload: Mapping[str, Any]) -> str:
        secret = secrets.get(str(header.get("kid")))
        if secret is None:
            raise jwt.InvalidTokenError("unknown kid")
        return secret


def issue_token(caller: Caller, scopes: frozenset[str], *, settings: Settings, now: datetime) -> tuple[str, int]:
    """Return a token for these scopes and its life in seconds; it does not outlive its key."""
    seconds = settings.jwt_ttl_seconds
    if caller.key.ends_at is not None:
        seconds = max(1, min(seconds, int((caller.key.ends_at - now).total_seconds())))
    claims = {
        "key": caller.key.id.hex,
        "scope": " ".join(sorted(scopes)),
        "mode": caller.key.mode,
        "iat": now,
        "exp": now + timedelta(seconds=seconds),
    }
    token = create_access_token(
        identity=f"cli_{caller.client.id.hex}",
        additional_claims=claims,
        additional_headers={"kid": kid_of(settings.jwt_secret or "")},
    )
    return token, seconds


def read_token(encoded: str, now: datetime) -> Token:
    """Return what the token says, its signature, issuer and audience checked, and that it has not expired by now.

    Raises:
        Unauthenticated: it is no token of ours, or it has expired.

    """
    try:
        claims = decode_token(encoded)
        # The library puts an empty jti where there is none: such a token could never be revoked.
        if not (isinstance(claims["jti"], str) and claims["jti"]):
            raise Unauthenticated("The token is not valid.")
        token = Token(
            jti=claims["jti"],
            key_id=UUID(hex=claims["key"]),
            scopes=frozenset(str(claims["scope"]).split()),
            expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
        )
    except (jwt.PyJWTError, JWTExtendedException, KeyError, ValueError, TypeError, AttributeError, OverflowError):
        raise Unauthenticated("The token is not valid.") from None
    if token.expires_at <= now:
        raise Unauthenticated("The token has expired.")
    return token

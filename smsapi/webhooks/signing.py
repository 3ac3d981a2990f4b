"""Signatures of Standard Webhooks (standardwebhooks.com, version 1.0): symmetric, ``v1``."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the start of every secret, and none
_SECRET_BYTES: Final = 32


def make_secret() -> str:
    """Return a new secret, ``whsec_`` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(secrets_in_force: Sequence[str], webhook_id: str, moment: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers that a receiver verifies; one signature for each secret, the newest first."""
    timestamp = str(int(moment.timestamp()))
    signed = b".".join((webhook_id.encode(), timestamp.encode(), body))
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets_in_force),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()

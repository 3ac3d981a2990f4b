"""Signatures of Standard Webhooks (standardwebhooks.com, version 1.0): symmetric, ``v1``."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the start of every secret, and none
_SECRET_BYTES: Final = 32
_TOLERANCE_SECONDS: Final = 300


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


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> str | None:
    """Return None where one of the signatures is the secret's and the time is within five minutes, else the reason.

    ``headers`` must find its names in lower case.
    """
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()
    if not webhook_id or not given or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        return "it is not signed"
    expected = _signature(secret, b".".join((webhook_id.encode(), timestamp.encode(), body)))
    if not any(hmac.compare_digest(expected.encode(), each.encode()) for each in given):
        return "the signature is not that of the endpoint's secret"
    if abs(now.timestamp() - int(timestamp)) > _TOLERANCE_SECONDS:
        return "it was signed more than five minutes ago, or the clocks differ"
    return None

"""The form of an API key: ``smsk_<mode>_<id>_<secret><checksum>``.

The secret has 190 random bits, so its plain SHA-256 is safe to store and quick to compare. The checksum (CRC-32 in
six base-62 digits, over all before it) lets a scanner, and this server, refuse a mistyped key without a look-up; it
protects against typing, not against anybody.
"""

import binascii
import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass
from uuid import UUID

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_LENGTH = 32  # 62 ** 32 > 2 ** 190
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32
_KEY = re.compile(r"smsk_(live|test)_([0-9a-f]{32})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})")

_BARE_SECRET = re.compile(r"[0-9A-Za-z]{32}")
_SHOWN_ID = re.compile(r"key_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a caller presented: the key's id, its mode where the form says it, and the digest of its secret."""

    id: UUID
    live: bool | None
    digest: bytes

    def matches(self, stored_digest: bytes, *, live: bool) -> bool:
        """Compare with the stored key: the digests in constant time, and the mode where one was presented."""
        return hmac.compare_digest(self.digest, stored_digest) and self.live in (None, live)


def make_key(key_id: UUID, *, live: bool) -> tuple[str, bytes]:
    """Return a new key, to be shown once, and the digest to store."""
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    start = f"smsk_{'live' if live else 'test'}_{key_id.hex}_{secret}"
    return start + _checksum(start), _digest(secret)


def read_key(presented: str) -> PresentedKey | None:
    """Return what the key says, or None where it is no key of ours or its checksum is wrong."""
    match = _KEY.fullmatch(presented)
    if match is None or not hmac.compare_digest(_checksum(presented[:-_CHECKSUM_LENGTH]), match[4]):
        return None
    return PresentedKey(UUID(hex=match[2]), match[1] == "live", _digest(match[3]))


def read_key_parts(shown_id: str, secret: str) -> PresentedKey | None:
    """Return the key presented as id and secret (OAuth 2.0 client credentials).

    The id is ``key_…``; the secret is the whole key, or its last part with or without the checksum.
    """
    if not _SHOWN_ID.fullmatch(shown_id):
        return None
    key_id = shown_id.removeprefix("key_")
    if _BARE_SECRET.fullmatch(secret):
        return PresentedKey(UUID(hex=key_id), live=None, digest=_digest(secret))
    # The checksum covers the mode, which the id does not tell: it is right for one of the two.
    for whole in (secret, f"smsk_live_{key_id}_{secret}", f"smsk_test_{key_id}_{secret}"):
        if (found := read_key(whole)) is not None:
            return found if found.id.hex == key_id else None
    return None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _checksum(start: str) -> str:
    value, digits = binascii.crc32(start.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits

"""Requests in Plivo's name: let through only with Plivo's signature over the public URL and what came with it."""

from collections.abc import Callable

from flask import request

from smsapi.deps import Deps
from smsapi.errors import SignatureInvalid
from smsapi.plivo import signature

# A report is about one kilobyte, and a stranger can make us read this much before the signature is found wrong.
_MAX_BODY_BYTES = 64 * 1024


def require_signature(world: Deps, *, count_refused: Callable[[], None]) -> None:
    """Let the request pass only where Plivo signed it; what bears no signature at all is not read.

    Raises:
        SignatureInvalid: the signature is missing or wrong; it was counted.

    """
    if not (_claims_to_be_signed(world) and _is_signed(world)):
        count_refused()
        raise SignatureInvalid("The signature is missing or wrong.")


def nonce_of_signature() -> str:
    """Return the nonce of the current request's signature, which Plivo makes anew for each; empty where it has none."""
    return request.headers.get(signature.V3_NONCE) or request.headers.get(signature.V2_NONCE) or ""


def _claims_to_be_signed(world: Deps) -> bool:
    """Say whether there is a signature to check, by the headers alone: what has none is not worth reading its form."""
    pairs = [(signature.V3_NONCE, signature.V3, signature.MA_V3)]
    if world.settings.plivo_accept_v2_signatures:
        pairs.append((signature.V2_NONCE, signature.V2, signature.MA_V2))
    given = request.headers
    return any(given.get(nonce) and (given.get(plain) or given.get(main)) for nonce, plain, main in pairs)


def _is_signed(world: Deps) -> bool:
    settings = world.settings
    if settings.public_url is None:
        return False
    request.max_content_length = _MAX_BODY_BYTES
    tokens = [token for token in (settings.plivo_auth_token, *settings.plivo_signature_tokens) if token is not None]
    query = request.query_string.decode("latin-1")
    url = f"{settings.public_url}{request.path}{'?' if query else ''}{query}"
    return signature.is_signed_by_plivo(
        method=request.method,
        url=url,
        headers=dict(request.headers),
        params=request.form.to_dict(flat=False),
        tokens=tokens,
        allow_v2=settings.plivo_accept_v2_signatures,
    )

"""Plivo's two request signatures, V3 and V2: signing for the simulator, checking for what claims to be Plivo.

Written from the algorithm that Plivo's own SDK follows, because that fails on a non-ASCII query, raises on a missing
header, does not trim a list and compares in variable time. V3 covers URL, query and form; V2 covers only scheme, host
and path. Both are HMAC-SHA256 under an account's auth token, in base64. Neither carries a time, so a replay passes: a
handler has to be idempotent.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qs, urlparse, urlunparse

Params = Mapping[str, Sequence[str]]

V3 = "X-Plivo-Signature-V3"
MA_V3 = "X-Plivo-Signature-Ma-V3"
V3_NONCE = "X-Plivo-Signature-V3-Nonce"
V2 = "X-Plivo-Signature-V2"
MA_V2 = "X-Plivo-Signature-Ma-V2"
V2_NONCE = "X-Plivo-Signature-V2-Nonce"

# A query may hold bytes that are no UTF-8. Plivo signs bytes, so they must come back out as they went in.
_BYTES_SURVIVE = "surrogateescape"
_NONCE = re.compile(r"[0-9]{1,32}")


def sign_v3(*, method: str, url: str, nonce: str, token: str, params: Params) -> str:
    """Return the V3 signature of a request: ``method`` GET or POST, ``params`` its form with every value of a key.

    For GET the parameters usually stand in the URL already; a key in both counts as the URL has it.
    Raises ValueError on another method, a URL that cannot be parsed, or text that has no UTF-8 form.
    """
    return _mac(token, f"{_signed_text(method.upper(), url, params)}.{nonce}")


def sign_v2(*, url: str, nonce: str, token: str) -> str:
    """Return the V2 signature of a URL, its query and fragment left out; the body is not covered.

    Raises ValueError on a URL that cannot be parsed, or text that has no UTF-8 form.
    """
    return _mac(token, f"{_without_query(url)}{nonce}")


def verify_v3(
    *, method: str, url: str, nonce: str | None, token: str, params: Params, header_value: str | None
) -> bool:
    """Say whether the header, one signature or a comma list of them, holds this request's V3 signature.

    Constant time in the signature; anything missing, empty or unreadable is False, never an exception.
    """
    if not (nonce and token and header_value):
        return False
    try:
        expected = sign_v3(method=method, url=url, nonce=nonce, token=token, params=params)
    except ValueError:
        return False
    return _is_listed(expected, header_value)


def verify_v2(*, url: str, nonce: str | None, token: str, header_value: str | None) -> bool:
    """Say whether the header, one signature or a comma list of them, holds this URL's V2 signature.

    Constant time in the signature; anything missing, empty or unreadable is False, never an exception.
    """
    if not (nonce and token and header_value):
        return False
    try:
        expected = sign_v2(url=url, nonce=nonce, token=token)
    except ValueError:
        return False
    return _is_listed(expected, header_value)


def is_signed_by_plivo(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    params: Params,
    tokens: Sequence[str],
    allow_v2: bool,
) -> bool:
    """Say whether one of our auth tokens signed the request; ``url`` is the public one that Plivo was given.

    Once any header of the V3 family is present only V3 counts: falling back to V2, which does not cover the body, would
    let somebody strip or spoil V3 and then write what they like. Plain and ``Ma`` headers are both tried with every
    token, as Plivo does not say which of its tokens signs which on messages. Header names match in any case.
    """
    lowered = {name.lower(): value for name, value in headers.items()}

    def present(*names: str) -> list[str]:
        return [lowered[name.lower()] for name in names if name.lower() in lowered]

    if present(V3, MA_V3, V3_NONCE):
        nonce = _nonce(lowered.get(V3_NONCE.lower()))
        return _any(
            verify_v3(method=method, url=url, nonce=nonce, token=token, params=params, header_value=value)
            for value in present(V3, MA_V3)
            for token in tokens
        )
    if not allow_v2:
        return False
    nonce = _nonce(lowered.get(V2_NONCE.lower()))
    return _any(
        verify_v2(url=url, nonce=nonce, token=token, header_value=value)
        for value in present(V2, MA_V2)
        for token in tokens
    )


def _nonce(value: str | None) -> str | None:
    """Return the nonce where it is one of Plivo's: digits.

    It is signed as the tail of the text, with nothing to say where it begins: a captured request whose last value is
    cut short, and the rest of it put before the nonce, has the same signature.
    """
    return value if value is not None and _NONCE.fullmatch(value) else None


def _any(checks: Iterable[bool]) -> bool:
    """Run every check, so that the time says nothing about which of them passed."""
    return any(list(checks))


def _is_listed(expected: str, header_value: str) -> bool:
    wanted = expected.encode()
    # As bytes: compare_digest raises on a str that is not ASCII, and a header may hold anything.
    offered = [item.strip().encode(errors="replace") for item in header_value.split(",")]
    return _any(hmac.compare_digest(wanted, item) for item in offered)


def _mac(token: str, text: str) -> str:
    digest = hmac.digest(token.encode(), text.encode(errors=_BYTES_SURVIVE), hashlib.sha256)
    return base64.b64encode(digest).decode()


def _without_query(url: str) -> str:
    parts = urlparse(url)
    return urlunparse((parts.scheme, parts.netloc, parts.path, "", "", ""))


def _signed_text(method: str, url: str, params: Params) -> str:
    base = _without_query(url)
    in_url = parse_qs(urlparse(url).query, keep_blank_values=True, errors=_BYTES_SURVIVE)
    if method == "GET":
        query = _sorted_query({**params, **in_url})
        return f"{base}?{query}" if query else base
    if method != "POST":
        raise ValueError("Plivo signs GET and POST only.")
    query = _sorted_query(in_url)
    if not params:
        return f"{base}?{query}" if query else base
    body = "".join(f"{key}{value}" for key, value in _pairs(params))
    return f"{base}?{query}.{body}" if query else f"{base}?{body}"


def _sorted_query(params: Params) -> str:
    return "&".join(f"{key}={value}" for key, value in _pairs(params))


def _pairs(params: Params) -> Iterable[tuple[str, str]]:
    """Yield keys in order, and each key's values in order; a lone string is one value, not its letters."""
    for key in sorted(params):
        values = params[key]
        for value in [values] if isinstance(values, str) else sorted(values):
            yield key, value

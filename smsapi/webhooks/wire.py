"""One POST to a receiver nobody vouches for: to the address that was checked, once, within a time and a size."""

import http.client
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from urllib3.exceptions import HTTPError

from smsapi.clock import elapsed
from smsapi.plivo.wire import AnswerTooLargeError, Call, DeadlineConnection, DeadlineTlsConnection, current_call
from smsapi.webhooks.addresses import Network, check_url, is_allowed, is_within

TOTAL_SECONDS: Final = 15.0
_CONNECT_SECONDS: Final = 5.0
_MAX_ANSWER_BYTES: Final = 64 * 1024
# What comes behind the status is read only so that the receiver is not cut off while it writes.
_REST_SECONDS: Final = 0.25
_SWITCHING: Final = 101


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a POST: the status of its answer, or a sentence on why there was none."""

    milliseconds: int
    status: int | None = None
    retry_after: str | None = None
    error: str | None = None


class AddressRefusedError(OSError):
    """The name has no address that a webhook may go to."""


class _Checked:
    """Connects to those addresses of a name only that are allowed: what was checked is what is connected to."""

    networks: Sequence[Network] = ()
    plain = False

    def addresses(self) -> Sequence[tuple[Any, ...]]:
        """Return the allowed ones; without TLS, only those that a setting names."""
        found: Sequence[tuple[Any, ...]] = super().addresses()  # type: ignore[misc]
        allowed = [each for each in found if is_allowed(each[4][0], self.networks)]
        if self.plain:
            allowed = [each for each in allowed if is_within(each[4][0], self.networks)]
        if not allowed:
            raise AddressRefusedError("the name leads to no address that is allowed")
        return allowed


class _FinalAnswer(DeadlineConnection.response_class):  # type: ignore[valid-type,misc] # a class all the same
    """An answer past all that only announces one: ``http.client`` passes 100 alone, and takes a 103 for the end."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()
            if status // 100 != 1 or status == _SWITCHING:
                return version, status, reason
            http.client.parse_headers(self.fp)


class _CheckedConnection(_Checked, DeadlineConnection):
    plain = True
    response_class = _FinalAnswer


class _CheckedTlsConnection(_Checked, DeadlineTlsConnection):
    response_class = _FinalAnswer


def post(
    url: str,
    body: bytes,
    headers: dict[str, str],
    *,
    networks: Sequence[Network],
    ports: Sequence[tuple[int, int]] = ((1, 65_535),),
    total_seconds: float = TOTAL_SECONDS,
) -> Reply:
    """Post the body and return what came of it; never raises. No proxy, no redirect, and the answer's body is dropped.

    Only the resolver's own time-out is beyond ``total_seconds``.
    """
    begun = elapsed()
    call = Call(begun + total_seconds, _CONNECT_SECONDS, total_seconds, bytes_left=_MAX_ANSWER_BYTES)
    token = current_call.set(call)
    try:
        check_url(url, networks, ports)
        return _exchange(url, body, headers, networks, begun)
    except Exception as error:  # noqa: BLE001 - whatever a receiver does, it is only a failed attempt
        return Reply(_since(begun), error=_reason(error))
    finally:
        current_call.reset(token)


def _since(begun: float) -> int:
    return round((elapsed() - begun) * 1000)


def _exchange(url: str, body: bytes, headers: dict[str, str], networks: Sequence[Network], begun: float) -> Reply:
    parts = check_url(url, networks)
    kind = _CheckedTlsConnection if parts.scheme == "https" else _CheckedConnection
    connection = kind(parts.hostname or "", parts.port)
    connection.networks = networks
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body=body, headers=headers, preload_content=False)
        answer = connection.getresponse()
        reply = Reply(_since(begun), answer.status, answer.headers.get("Retry-After"))
        # The status has been said, and that is all that counts.
        call = current_call.get()
        call.deadline = min(call.deadline, elapsed() + _REST_SECONDS)
        with suppress(OSError, http.client.HTTPException, HTTPError):
            answer.read(_MAX_ANSWER_BYTES, decode_content=False)
        return reply
    finally:
        connection.close()


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (AddressRefusedError, "the address is not allowed"),
    (AnswerTooLargeError, "the answer is too large"),
    (TimeoutError, "timed out"),
    (socket.gaierror, "the name could not be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    (ssl.SSLCertVerificationError, "the certificate could not be verified"),
    (ssl.SSLError, "TLS failed"),
    (ConnectionError, "the connection was closed without an answer"),
    (http.client.HTTPException, "the answer is not HTTP"),
    (ValueError, "the URL is not allowed"),
)


def _reason(error: BaseException) -> str:
    return next((sentence for kind, sentence in _REASONS if isinstance(error, kind)), "the call failed")

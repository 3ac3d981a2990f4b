"""The way to Plivo: a ``requests`` adapter that knows whether a failed call had left, and when to stop waiting."""

import http.client
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import DecodeError, ReadTimeoutError

from smsapi.clock import elapsed
from smsapi.plivo.wire import POOL_CLASSES, AnswerTooLargeError, Call, current_call, over_by

# A thousand UUIDs of a joined call are about 50 KiB, however they are indented.
MAX_BODY_BYTES = 128 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_ACCOUNT_IN_PATH = re.compile(r"(?<=/Account/)[^/]+")


class CallFailedError(Exception):
    """No answer came.

    ``left`` says whether any of the request's body had gone out: if not, the far side cannot have acted on it.
    ``local`` marks what says nothing of the far side (all our own connections were busy). The text is one of a few
    fixed sentences; it never holds an address, a header or a number.
    """

    def __init__(self, reason: str, *, left: bool, local: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.left = left
        self.local = local


def checked_origin(base_url: str) -> str:
    """Return ``scheme://host[:port]`` of ``base_url``; raises ``ValueError`` unless it is an http(s) origin alone."""
    parts = urlsplit(base_url)
    rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(rest):
        raise ValueError("base_url must be an origin such as http://127.0.0.1:8099")
    _ = parts.port  # raises ValueError where it is not a port
    return f"{parts.scheme}://{parts.netloc}"


class PlivoTransport(HTTPAdapter):
    """Carries each request to one origin, once, within one deadline; safe to share between threads, not processes.

    ``origin`` replaces scheme and host of whatever is asked (``None`` leaves them). At most ``pool_size`` calls are
    out at a time, each on a kept-alive connection; one more waits for up to ``connect_timeout_seconds``.
    ``connect_timeout_seconds`` bounds connecting and the TLS handshake, ``read_timeout_seconds`` the gap between two
    bytes, ``total_timeout_seconds`` everything together; only the resolver's own time-out is beyond reach. A call
    that has to be over earlier says so by ``over_by``. ``counter`` gives the seconds that all of it is measured in.
    No redirect is followed and nothing is tried twice. ``send`` raises ``CallFailedError`` and nothing else.
    """

    def __init__(
        self,
        *,
        origin: str | None,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        total_timeout_seconds: float,
        pool_size: int,
        counter: Callable[[], float] = elapsed,
    ) -> None:
        self._origin = origin
        self._counter = counter
        self._connect_seconds = connect_timeout_seconds
        self._read_seconds = read_timeout_seconds
        self._total_seconds = total_timeout_seconds
        self._places = BoundedSemaphore(pool_size)
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *arguments: Any, **keywords: Any) -> None:
        """Set up pools whose connections keep the deadline."""
        super().init_poolmanager(*arguments, **keywords)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES

    def proxy_manager_for(self, proxy: str, **keywords: Any) -> Any:
        """Return the proxy's manager, with pools whose connections keep the deadline."""
        manager = super().proxy_manager_for(proxy, **keywords)
        manager.pool_classes_by_scheme = POOL_CLASSES
        return manager

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """Return the target without the account's id and the numbers in its query: urllib3 logs it."""
        target = super().request_url(request, proxies)
        current_call.get().target = target
        return _ACCOUNT_IN_PATH.sub("-", target).partition("?")[0]

    def send(self, request: PreparedRequest, *_arguments: Any, **keywords: Any) -> Response:
        """Make the call and read its answer whole; of ``keywords`` the SDK's ``verify`` and ``proxies`` count."""
        latest, now = over_by.get(), self._counter()
        if latest <= now:
            raise CallFailedError("its time was over before the call", left=False, local=True)
        call = Call(
            deadline=min(now + self._total_seconds, latest),
            connect_seconds=self._connect_seconds,
            read_seconds=self._read_seconds,
            bytes_left=_MAX_HEADER_BYTES + MAX_BODY_BYTES,
            counter=self._counter,
        )
        if not self._places.acquire(timeout=min(self._connect_seconds, self._total_seconds)):
            raise CallFailedError("every connection to the far side is in use", left=False, local=True)
        token = current_call.set(call)
        try:
            return self._exchange(request, call, keywords.get("verify", True), keywords.get("proxies"))
        except Exception as error:  # noqa: BLE001  # whatever happened, only one question matters: had it left?
            # Without "from": urllib3's texts hold the URL, and with it the account's id.
            raise CallFailedError(_reason(error, left=call.left), left=call.left) from None
        finally:
            current_call.reset(token)
            self._places.release()

    def _exchange(self, request: PreparedRequest, call: Call, verify: Any, proxies: Any) -> Response:
        if self._origin is not None and request.url is not None:
            parts = urlsplit(request.url)
            request.url = self._origin + parts.path + (f"?{parts.query}" if parts.query else "")
        call.patience(self._total_seconds)  # the wait for a place may have used it up
        timeout = (self._connect_seconds, self._read_seconds)
        response = super().send(request, stream=True, timeout=timeout, verify=verify, proxies=proxies)
        body = _whole_body(response)
        response._content = body  # noqa: SLF001  # requests has no other way to hand over a bounded body
        # A 307 would post the message a second time; what has no Location cannot be followed.
        response.headers.pop("Location", None)
        return response


def _whole_body(response: Response) -> bytes:
    try:
        body: bytes = response.raw.read(MAX_BODY_BYTES + 1, decode_content=True)
    except BaseException:
        response.raw.close()  # half-read, it must not go back to the pool
        raise
    if len(body) > MAX_BODY_BYTES:
        response.raw.close()
        raise AnswerTooLargeError("the answer is too large")
    response.raw.release_conn()
    return body


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (AnswerTooLargeError, "the answer is too large"),
    (socket.gaierror, "the name could not be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    (http.client.RemoteDisconnected, "the connection was closed without an answer"),
    (ConnectionResetError, "the connection was reset"),
    (BrokenPipeError, "the connection was reset"),
    (ssl.SSLError, "TLS failed"),
    (DecodeError, "the answer could not be decoded"),
    (http.client.IncompleteRead, "the answer broke off"),
    (http.client.HTTPException, "the answer is not HTTP"),
)


def _reason(error: BaseException, *, left: bool) -> str:
    causes = list(_causes(error))
    # urllib3 names a handshake's time-out a read time-out, so its name does not tell which it was.
    if any(isinstance(cause, TimeoutError | ReadTimeoutError) for cause in causes):
        return "waiting for the answer timed out" if left else "connecting timed out"
    for kind, sentence in _REASONS:
        if any(isinstance(cause, kind) for cause in causes):
            return sentence
    return f"the call failed ({type(error).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it wraps: requests and urllib3 nest by ``args``, ``reason`` and context."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]

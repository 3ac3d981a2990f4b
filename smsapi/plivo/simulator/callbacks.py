"""Plivo's calls to the sender's URLs: signed, on time, and again where the answer is not 2xx."""

import heapq
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from threading import Condition, Lock, Thread
from urllib.parse import urldefrag, urlencode

import urllib3

from smsapi.clock import Clock
from smsapi.plivo import signature

_SENDERS = 8
_TIMEOUT = urllib3.Timeout(connect=5, read=8)
_JOIN_SECONDS = 15
# A clock under a test's hand moves without telling anybody, so nobody waits for a due moment longer than this.
_LOOK_SECONDS = 0.05

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Callback:
    """One form to deliver. ``fields`` is called at each try: built early, it would fill memory under load."""

    url: str
    method: str
    fields: Callable[[], dict[str, str]]


class Callbacks:
    """Callbacks that are due at a time, delivered by a few threads at once. Safe to share between threads."""

    def __init__(self, *, token: str, retries: Sequence[float], clock: Clock) -> None:
        """``retries`` are the seconds from each failed try to the next; after the last one the callback is dropped."""
        self._token = token
        self._retries = tuple(retries)
        self._clock = clock
        lock = Lock()
        self._changed = Condition(lock)
        self._settled = Condition(lock)
        self._waiting: list[tuple[datetime, int, Callback, int]] = []
        self._order = count()
        self._in_flight = 0
        self._forgotten = 0
        self._is_running = False
        self._threads: list[Thread] = []
        self._pool: urllib3.PoolManager | None = None

    @property
    def pending(self) -> int:
        """Return how many callbacks wait or are on their way."""
        with self._changed:
            return len(self._waiting) + self._in_flight

    def start(self) -> None:
        """Begin to deliver, also what was left when the last run stopped."""
        # The default headers hold a User-Agent and no Accept-Encoding; environment proxies are never asked.
        self._pool = urllib3.PoolManager(
            num_pools=_SENDERS, maxsize=_SENDERS, retries=False, timeout=_TIMEOUT, headers={"User-Agent": "Plivo"}
        )
        self._is_running = True
        self._threads = [
            Thread(target=self._deliver, args=(self._pool,), name=f"plivo-simulator-sender-{number}", daemon=True)
            for number in range(_SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the deliveries on their way, keep the rest for the next start, and close every connection."""
        with self._changed:
            self._is_running = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        self._threads = []
        if self._pool is not None:
            self._pool.clear()
            self._pool = None

    def schedule(self, due: datetime, callback: Callback, tries: int = 0) -> None:
        """Deliver the callback at that moment or soon after."""
        with self._changed:
            entry = (due, next(self._order), callback, tries)
            heapq.heappush(self._waiting, entry)
            if self._waiting[0] is entry:
                self._changed.notify()

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is on its way and nothing more is due, and say whether it came to that in time."""

        def is_settled() -> bool:
            return not self._in_flight and (not self._waiting or self._waiting[0][0] > self._clock.now())

        with self._settled:
            return self._settled.wait_for(is_settled, timeout_seconds)

    def forget(self) -> None:
        """Drop what has not been delivered yet; what is on its way is not tried again."""
        with self._changed:
            self._waiting.clear()
            self._forgotten += 1

    def _deliver(self, pool: urllib3.PoolManager) -> None:
        while (item := self._next()) is not None:
            callback, tries = item
            forgotten = self._forgotten
            try:
                is_over = self._post(pool, callback) or tries == len(self._retries) or forgotten != self._forgotten
                if not is_over:
                    self.schedule(self._clock.now() + timedelta(seconds=self._retries[tries]), callback, tries + 1)
            except Exception:
                # A sender that dies would take the receipts of every later message with it.
                logger.exception("simulator_callback_failed")
            finally:
                with self._settled:
                    self._in_flight -= 1
                    self._settled.notify_all()

    def _next(self) -> tuple[Callback, int] | None:
        """Wait for a callback that is due; None means stop."""
        with self._changed:
            while self._is_running:
                wait = None
                if self._waiting:
                    left = (self._waiting[0][0] - self._clock.now()).total_seconds()
                    if left <= 0:
                        _, _, callback, tries = heapq.heappop(self._waiting)
                        self._in_flight += 1
                        if self._waiting:
                            # Whoever slept towards this one must look at the one behind it.
                            self._changed.notify()
                        return callback, tries
                    wait = min(left, _LOOK_SECONDS)
                self._changed.wait(wait)
            return None

    def _post(self, pool: urllib3.PoolManager, callback: Callback) -> bool:
        """Make one try, and say whether it was answered 2xx."""
        fields = callback.fields()
        url = urldefrag(callback.url).url
        body = None
        if callback.method == "GET":
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(fields)}"
            signed = signature_headers(method="GET", url=url, token=self._token, params={})
        else:
            body = urlencode(fields)
            params = {name: [value] for name, value in fields.items()}
            signed = signature_headers(method="POST", url=url, token=self._token, params=params)
            signed["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            response = pool.request(callback.method, url, body=body, headers=signed, redirect=False)
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            logger.debug("simulator_callback_unanswered", extra={"error": type(error).__name__})
            return False
        return 200 <= response.status < 300  # noqa: PLR2004 - the 2xx range


def signature_headers(*, method: str, url: str, token: str, params: signature.Params) -> dict[str, str]:
    """Return both families of signature headers with fresh nonces; one token stands for account and main account.

    Raises ValueError on a URL that cannot be parsed.
    """
    nonce_v3, nonce_v2 = (f"{uuid.uuid4().int % 10**20:020}" for _ in range(2))
    v3 = signature.sign_v3(method=method, url=url, nonce=nonce_v3, token=token, params=params)
    v2 = signature.sign_v2(url=url, nonce=nonce_v2, token=token)
    return {
        signature.V3: v3,
        signature.MA_V3: v3,
        signature.V3_NONCE: nonce_v3,
        signature.V2: v2,
        signature.MA_V2: v2,
        signature.V2_NONCE: nonce_v2,
    }

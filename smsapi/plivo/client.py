"""Plivo as a provider of this service: its own SDK for the request, our transport below it, our reading above it."""

import math
import os
import re
import threading
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import plivo
from plivo.exceptions import ValidationError
from requests import Response

from smsapi.clock import Clock, SystemClock, elapsed
from smsapi.plivo.answers import Answer, clean, read_answer, read_joined_answer, sentence
from smsapi.plivo.listing import PAGE_SIZE, read_listing
from smsapi.plivo.lookup import LookupFailed, Page, Query
from smsapi.plivo.outcomes import (
    NOTHING_ASKED,
    JoinedOutcome,
    Outcome,
    Outgoing,
    OutgoingToMany,
    Rejected,
    Unavailable,
    Unknown,
)
from smsapi.plivo.transport import CallFailedError, PlivoTransport, checked_origin
from smsapi.plivo.wire import over_by

PLIVO_ORIGIN = "https://api.plivo.com"

_AUTH_ID = re.compile(r"(?:MA|SA)[A-Za-z0-9]{18}")
_VISIBLE = re.compile(r"[!-~]+")
# One number. A "<" within it would send to more than were asked for.
_DESTINATION = re.compile(r"\+?[1-9][0-9]{1,14}")
# Plivo takes up to 1,000 in one call (plivo-facts 2.1).
MOST_TOGETHER = 1000
_FEWEST_TOGETHER = 2


class PlivoProvider:
    """Sends texts through one Plivo account, and looks up what it took.

    Thread-safe; may be made before a fork and used after it.

    ``clock`` says when ``not_after`` of a text has come, and ``counter`` counts the seconds of a call
    (:func:`smsapi.clock.elapsed`).
    ``base_url`` is the origin to talk to (``None``: Plivo's own). Time-outs are in seconds: to connect, between two
    bytes of the answer, and for the whole call. At most ``pool_size`` calls are out at a time (Plivo takes 100 of an
    account). ``proxy_url`` is an HTTP proxy and ``ca_file`` a bundle of certificates to trust; the environment's
    (``HTTPS_PROXY``, ``REQUESTS_CA_BUNDLE``) are not looked at, as the SDK does not either. Raises ``ValueError``,
    without repeating a value, for credentials or a URL that cannot be right: the SDK would replace a half-given pair
    by the environment's.

    The SDK's client keeps state that it rewrites on each request, and a ``requests`` session promises no thread
    safety, so each thread has its own (50 µs, once); the connections are shared by all.
    """

    def __init__(
        self,
        *,
        auth_id: str,
        auth_token: str,
        base_url: str | None = None,
        connect_timeout_seconds: float = 3.0,
        read_timeout_seconds: float = 10.0,
        total_timeout_seconds: float = 12.0,
        pool_size: int = 16,
        clock: Clock | None = None,
        proxy_url: str | None = None,
        ca_file: str | None = None,
        counter: Callable[[], float] = elapsed,
    ) -> None:
        if not _AUTH_ID.fullmatch(auth_id):
            raise ValueError("auth_id must be 20 letters and digits that begin with MA or SA")
        if not _VISIBLE.fullmatch(auth_token):
            raise ValueError("auth_token must be visible ASCII")
        self._credentials = _Credentials((auth_id, auth_token))
        self._origin = None if base_url is None else checked_origin(base_url)
        self._timeouts = (connect_timeout_seconds, read_timeout_seconds, total_timeout_seconds)
        self._pool_size = pool_size
        self._clock = SystemClock() if clock is None else clock
        self._proxy_url = proxy_url
        self._ca_file = ca_file
        self._counter = counter
        self._transports: dict[int, PlivoTransport] = {}
        self._thread = threading.local()

    def __repr__(self) -> str:
        return f"PlivoProvider(origin={self._origin or PLIVO_ORIGIN!r})"

    @property
    def name(self) -> str:
        """Return ``plivo``."""
        return "plivo"

    def send(self, message: Outgoing) -> Outcome:
        """Make one attempt and say what came of it; never raises for what the far side does.

        A message that cannot be asked for at all is ``Rejected`` with status 0.
        """
        if not _DESTINATION.fullmatch(message.to):
            return Rejected("message", "the destination is not one phone number", NOTHING_ASKED)
        secrets = (*self._secrets(message.to, message.sender), message.text)
        found = self._create(message, message.to.removeprefix("+"), secrets)
        return read_answer(found, now=self._clock.now(), secrets=secrets) if isinstance(found, Answer) else found

    def send_joined(self, message: OutgoingToMany) -> JoinedOutcome:
        """Make one attempt for all of the numbers and say what came of it; never raises for what the far side does.

        Fewer than 2 numbers, more than 1,000, one that is none or one that is there twice make it ``Rejected`` with
        status 0: Plivo would drop what is repeated without a word, and its answer be short of a UUID.
        """
        numbers = [number.removeprefix("+") for number in message.numbers]
        if not _FEWEST_TOGETHER <= len(set(numbers)) == len(numbers) <= MOST_TOGETHER:
            return Rejected("message", "the destinations are not 2 to 1,000 different numbers", NOTHING_ASKED)
        if not all(_DESTINATION.fullmatch(number) for number in message.numbers):
            return Rejected("message", "a destination is not one phone number", NOTHING_ASKED)
        secrets = (*self._secrets(*message.numbers, message.sender), message.text)
        # Joined here: the SDK turns a list into the text that Python shows of it (plivo-facts 1.6).
        found = self._create(message, "<".join(numbers), secrets)
        if not isinstance(found, Answer):
            return found
        return read_joined_answer(found, message.numbers, now=self._clock.now(), secrets=secrets)

    def _create(
        self, message: Outgoing | OutgoingToMany, destination: str, secrets: tuple[str, ...]
    ) -> Answer | Rejected | Unavailable | Unknown:
        """Ask Plivo to send, and return its answer as it came, or what it means that there is none."""
        token = over_by.set(self._latest(message.not_after))
        try:
            response: Response = self._client().messages.create(**_keywords(message, destination))
        except ValidationError as refusal:
            # The SDK's own check: _Client reads every answer itself, so this class never stands for a server's 400.
            said = sentence(refusal.args[0] if refusal.args else "") or "refused by Plivo's SDK"
            return Rejected("message", clean(said, secrets), NOTHING_ASKED)
        except CallFailedError as failure:
            return (Unknown if failure.left else Unavailable)(failure.reason, local=failure.local)
        except Exception as error:  # noqa: BLE001  # not foreseen, so perhaps on its way: the safe answer
            return Unknown(f"the call failed ({type(error).__name__})", local=True)
        finally:
            over_by.reset(token)
        return _answer_of(response)

    def _latest(self, not_after: datetime | None) -> float:
        """Return the moment by the counter; where the host is suspended in between, one that is too early."""
        counted = self._counter()
        return math.inf if not_after is None else counted + (not_after - self._clock.now()).total_seconds()

    def look_up(self, query: Query) -> Page | LookupFailed:
        """Return one page of Plivo's message list, newest first; never raises for what the far side does.

        Whatever is not a list that can be trusted is ``LookupFailed``. Plivo allows 20 of these calls a minute by
        default and keeps messages for 90 days.
        """
        try:
            response: Response = self._client().messages.list(**_filters(query))
        except CallFailedError as failure:
            return LookupFailed(failure.reason)
        except Exception as error:  # noqa: BLE001  # whatever it was, there is no list
            return LookupFailed(f"the call failed ({type(error).__name__})")
        secrets = self._secrets(query.sender, query.to or "")
        return read_listing(_answer_of(response), query, now=self._clock.now(), secrets=secrets)

    def close(self) -> None:
        """Close this process's idle connections; a later ``send`` opens new ones."""
        transport = self._transports.get(os.getpid())
        if transport is not None:
            transport.close()

    def _secrets(self, *numbers: str) -> tuple[str, ...]:
        return (*self._credentials, self._credentials.basic, *numbers, *(each.removeprefix("+") for each in numbers))

    def _client(self) -> "_Client":
        """Return the calling thread's client, over the transport that its process shares."""
        process = os.getpid()
        if getattr(self._thread, "process", None) != process:
            # A forked child finds the parent's transport under the parent's id and leaves it alone: two processes on
            # one socket would read each other's answers. setdefault is atomic; a lock could be held across a fork.
            transport = self._transports.get(process) or self._transports.setdefault(process, self._new_transport())
            self._thread.client = _Client(
                self._credentials, transport, proxy_url=self._proxy_url, ca_file=self._ca_file
            )
            self._thread.process = process
        client: _Client = self._thread.client
        return client

    def _new_transport(self) -> PlivoTransport:
        connect, read, total = self._timeouts
        return PlivoTransport(
            origin=self._origin,
            connect_timeout_seconds=connect,
            read_timeout_seconds=read,
            total_timeout_seconds=total,
            pool_size=self._pool_size,
            counter=self._counter,
        )


class _Credentials(tuple[str, str]):
    """The pair as the SDK and ``requests`` want it, except that it does not print itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<credentials>"

    @property
    def basic(self) -> str:
        """Return the pair as it stands in an ``Authorization`` header (RFC 7617)."""
        return b64encode(":".join(self).encode()).decode()


class _Client(plivo.RestClient):  # type: ignore[misc]  # the SDK ships no types
    """The SDK's client on our transport, handing answers back unread.

    Reading them itself it loses the status, the body and ``Retry-After``, takes HTML for success and fails on
    ``null``.
    """

    def __init__(
        self, credentials: _Credentials, transport: PlivoTransport, *, proxy_url: str | None, ca_file: str | None
    ) -> None:
        proxies = None if proxy_url is None else {"all": proxy_url}
        super().__init__(*credentials, proxies=proxies)
        for session in (self.session, self.multipart_session):
            session.auth = credentials
            session.trust_env = False
            session.verify = True if ca_file is None else ca_file
            session.headers["Accept-Encoding"] = "identity"
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            # With no other adapter mounted, a request to anywhere else fails instead of going out.
            session.adapters.clear()
            session.mount(PLIVO_ORIGIN, transport)

    def process_response(self, _method: str, response: Response, *_types: Any) -> Response:
        """Return the answer as it came."""
        return response


def _keywords(message: Outgoing | OutgoingToMany, destination: str) -> dict[str, Any]:
    """Return the arguments of ``messages.create``, by name: by position they are easily swapped without an error."""
    dlt = message.dlt
    return {
        # Plivo strips the "+"; without it the SDK's check of source against destination works on both.
        "dst": destination,
        "src": message.sender.removeprefix("+"),
        "text": message.text,
        "url": message.callback_url,
        "method": "POST",
        "log": "true",  # a text since SDK 4.48.2; False raises
        "message_expiry": message.expires_in_seconds,
        "dlt_entity_id": None if dlt is None else dlt.entity_id,
        "dlt_template_id": None if dlt is None else dlt.template_id,
        "dlt_template_category": None if dlt is None else dlt.template_category,
    }


def _filters(query: Query) -> dict[str, Any]:
    """Return the arguments of ``messages.list``. Its filters are documented for E.164 with the ``+``, unlike a send."""
    return {
        "message_direction": "outbound",
        "from_number": query.sender,
        "to_number": query.to,
        "message_time__gte": _filter_time(query.since),
        "message_time__lte": _filter_time(query.until),
        "limit": PAGE_SIZE,
        "offset": query.offset,
    }


def _filter_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _answer_of(response: Response) -> Answer:
    return Answer(response.status_code, response.content, response.headers.get("Retry-After"))

"""Examination by ``smsapi doctor``: what its checks ask for together, and the verdict of a check."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Literal

import requests

from smsapi.clock import Clock
from smsapi.plivo.client import PLIVO_ORIGIN
from smsapi.plivo.transport import CallFailedError, PlivoTransport
from smsapi.settings import Settings

State = Literal["ok", "fail", "skip"]

_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found; ``advice`` is what to do where it failed."""

    state: State
    detail: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class _Answered:
    """An answer, or why there is none, and between which moments of our clock it was made."""

    response: requests.Response | None
    reason: str
    asked_at: datetime
    answered_at: datetime


def passed(detail: str) -> Verdict:
    """Return that all is well."""
    return Verdict("ok", detail)


def failed(detail: str, advice: str) -> Verdict:
    """Return that something is not, and what to do."""
    return Verdict("fail", detail, advice)


def skipped(detail: str) -> Verdict:
    """Return why there was nothing to look at."""
    return Verdict("skip", detail)


class Patient:
    """What is examined, and what several checks ask for."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock

    @cached_property
    def account(self) -> _Answered | None:
        """What Plivo says of the account (GET /v1/Account/{auth_id}/), None without credentials."""
        auth_id, token = self.settings.plivo_auth_id, self.settings.plivo_auth_token
        if auth_id is None or token is None:
            return None
        origin = self.settings.plivo_url or PLIVO_ORIGIN
        return self.ask("GET", f"{origin}/v1/Account/{auth_id}/", auth=(auth_id, token))

    def ask(self, method: str, url: str, **given: Any) -> _Answered:
        """Make one request, by the transport that Plivo is called with: no redirect, nothing from the environment."""
        asked_at = self.clock.now()
        transport = PlivoTransport(
            origin=None,
            connect_timeout_seconds=_PATIENCE_SECONDS,
            read_timeout_seconds=_PATIENCE_SECONDS,
            total_timeout_seconds=_PATIENCE_SECONDS * 2,
            pool_size=1,
        )
        with requests.Session() as session:
            session.trust_env = False
            session.adapters.clear()
            session.mount("http", transport)
            try:
                response, reason = session.request(method, url, **given), ""
            except CallFailedError as failure:
                response, reason = None, failure.reason
        return _Answered(response, reason, asked_at, self.clock.now())

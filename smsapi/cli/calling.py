"""How a command calls the service: where that is, by which credential, and what its answers mean to a script."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import orjson
import requests
from click.core import ParameterSource

EXIT_REFUSED: Final = 1
EXIT_NOT_ALLOWED: Final = 3
EXIT_LATER: Final = 4

_TAKEN: Final = frozenset({200, 201, 202})
_NOT_ALLOWED: Final = frozenset({401, 403})
_LATER: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
# Of those statuses, what stays as it is however often one asks.
_FOR_GOOD: Final = frozenset({"provider_account", "too_late"})
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 15.0
# Longer than the service may wait for Plivo.
_TIMEOUT_SECONDS: Final = 45.0
_TOKEN_FILE: Final = "SMSAPI_TOKEN_FILE"  # noqa: S105 - the name of a variable


def visible(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Return the value of an option that goes into a header."""
    if value is not None and not re.fullmatch(r"[!-~]+", value):
        # Without the value: it may be a secret.
        raise click.BadParameter("must be visible ASCII, without spaces and line ends")
    return value


def _token(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if os.environ.get(_TOKEN_FILE) and context.get_parameter_source("token") is ParameterSource.ENVIRONMENT:
        raise click.BadParameter(f"SMSAPI_TOKEN and {_TOKEN_FILE} are both set; set one")
    if value is None:
        raise click.MissingParameter(ctx=context, param=option)
    return visible(context, option, value)


def _token_in_its_file() -> str | None:
    path = os.environ.get(_TOKEN_FILE)
    if not path:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"cannot be read from {_TOKEN_FILE}: {type(error).__name__}") from None
    if not token:
        raise click.BadParameter(f"is empty in {_TOKEN_FILE}")
    return token


def _service(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise click.BadParameter("must be where the service is, such as https://sms.example.com")
    return value.rstrip("/")


_url_option = click.option(
    "--url", envvar="SMSAPI_URL", required=True, callback=_service, help="Where the service is. [SMSAPI_URL]"
)
_token_option = click.option(
    "--token",
    envvar="SMSAPI_TOKEN",
    required=True,
    default=_token_in_its_file,
    callback=_token,
    help="An API key or an access token. [SMSAPI_TOKEN, or the name of its file in SMSAPI_TOKEN_FILE]",
)


def address(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options ``--url`` and ``--token``."""
    return _url_option(_token_option(command))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call. ``status`` None is no answer; ``body`` says then why, as a problem does.

    ``retry_after`` is what the service asked for, in seconds, or 0.
    """

    status: int | None
    body: dict[str, Any]
    retry_after: float = 0.0
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """The service at a URL, to one credential. Nothing is followed elsewhere, and no other credential is taken."""

    url: str
    token: str

    def ask(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT_SECONDS,
        member: str = "id",
    ) -> Answer:
        """Call once. An answer that has neither ``member`` nor a problem's code is taken for somebody else's."""
        address_ = self.url + path.partition("?")[0]
        try:
            with self._called(method, path, data=data, headers=headers, timeout=timeout) as response:
                return _read(response, member, address_)
        except (requests.RequestException, UnicodeError) as error:
            return no_answer(address_, error)

    @contextmanager
    def stream(self, path: str, *, accept: str) -> Iterator[requests.Response]:
        """Get what is long, to be read piece by piece; may raise ``requests.RequestException`` at any of them."""
        with self._called("GET", path, headers={"Accept": accept}, timeout=_TIMEOUT_SECONDS, stream=True) as response:
            yield response

    def _called(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **rest: Any
    ) -> requests.Response:
        key = self.token.startswith("smsk_")
        credential = {"X-API-Key": self.token} if key else {"Authorization": f"Bearer {self.token}"}
        given = {**(headers or {}), **credential}
        return requests.request(method, self.url + path, headers=given, allow_redirects=False, auth=_as_it_is, **rest)  # noqa: S113 - in rest


def no_answer(address_: str, error: Exception) -> Answer:
    """Return what stands for an answer that did not come."""
    return Answer(None, {"code": "connection_failed", "detail": f"No answer from {address_}: {type(error).__name__}."})


def read_problem(response: requests.Response, address_: str) -> Answer:
    """Return an answer that is not what was wanted."""
    return _read(response, "code", address_)


def _read(response: requests.Response, member: str, address_: str) -> Answer:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    is_ours = isinstance(body, dict) and (_is_there(body, member) or isinstance(body.get("code"), str))
    if not is_ours:
        body = {"code": "not_smsapi", "detail": f"{address_} answered {response.status_code}, and not as smsapi does."}
    asked = response.headers.get("Retry-After", "")
    seconds = float(asked) if re.fullmatch(r"[0-9]{1,5}", asked) else 0.0
    return Answer(response.status_code, body, seconds, response.headers.get("Idempotent-Replayed") == "true")


def _is_there(body: dict[str, Any], member: str) -> bool:
    return isinstance(body.get(member), list if member == "data" else str)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # Without an auth of our own, requests takes one from ~/.netrc, and that would replace the credential.
    return request


def exit_code(answer: Answer, *, member: str = "id") -> int:
    """Return what the answer means: 0, refused for good, not allowed, or try again later."""
    if answer.status in _TAKEN and _is_there(answer.body, member):
        return 0
    if answer.status in _NOT_ALLOWED:
        return EXIT_NOT_ALLOWED
    if answer.status is None or (answer.status in _LATER and answer.body.get("code") not in _FOR_GOOD):
        return EXIT_LATER
    return EXIT_REFUSED


def ask_until(
    ask: Callable[[], Answer],
    seconds: float,
    *,
    since: float | None = None,
    on_failure: Callable[[Answer, float], None] = lambda _answer, _wait: None,
) -> Answer:
    """Ask, and again while it is worth it: for so many seconds from ``since`` (monotonic), or from the first failure.

    ``on_failure`` is told each answer that leads to another try, and how many seconds pass before it.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        answer = ask()
        since = time.monotonic() if since is None else since
        wait = max(pause, answer.retry_after)
        if exit_code(answer) != EXIT_LATER or time.monotonic() + wait > since + seconds:
            return answer
        on_failure(answer, wait)
        time.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def problem_lines(answer: Answer) -> Iterator[str]:
    """Yield what went wrong, the fields that are at fault in lines of their own."""
    what = " ".join(str(each) for each in (answer.status, answer.body.get("code")) if each)
    yield f"{what}: {answer.body.get('detail', 'no detail')}"
    errors = answer.body.get("errors")
    for each in errors if isinstance(errors, list) else ():
        if isinstance(each, dict):
            yield f"  {each.get('pointer', '')}: {each.get('message', '')}"

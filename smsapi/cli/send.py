"""``smsapi send``: one message from a script, repeated safely until it is taken or refused."""

import os
import re
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import click
import orjson
import requests
from click.core import ParameterSource

EXIT_REFUSED = 1
EXIT_NOT_ALLOWED = 3
EXIT_LATER = 4

_TAKEN = frozenset({200, 201, 202})
_NOT_ALLOWED = frozenset({401, 403})
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
# Longer than the service may wait for Plivo.
_TIMEOUT_SECONDS = 45
_TOKEN_FILE = "SMSAPI_TOKEN_FILE"  # noqa: S105 - the name of a variable


def _visible(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[!-~]+", value):
        # Without the value: it may be a secret.
        raise click.BadParameter("must be visible ASCII, without spaces and line ends")
    return value


def _token(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if os.environ.get(_TOKEN_FILE) and context.get_parameter_source("token") is ParameterSource.ENVIRONMENT:
        raise click.BadParameter(f"SMSAPI_TOKEN and {_TOKEN_FILE} are both set; set one")
    if value is None:
        raise click.MissingParameter(ctx=context, param=option)
    return _visible(context, option, value)


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


def _text(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        # As bytes: what a locale makes of them is not what was meant. The line end is the shell's.
        text = sys.stdin.buffer.read().decode() if value == "-" else value
        text.encode()
    except UnicodeError:
        raise click.BadParameter("is not valid UTF-8") from None
    return re.sub(r"\r?\n\Z", "", text) if value == "-" else text


@click.command()
@click.option("--to", required=True, help="The recipient, in E.164, such as +14155550123.")
@click.option(
    "--text", required=True, callback=_text, help="The text; - reads it from standard input, less one line end."
)
@click.option("--from", "sender", help="The sender; default: the client's.")
@click.option("--reference", help="Your own reference, to search by.")
@click.option("--url", envvar="SMSAPI_URL", required=True, callback=_service, help="Where the service is. [SMSAPI_URL]")
@click.option(
    "--token",
    envvar="SMSAPI_TOKEN",
    required=True,
    default=_token_in_its_file,
    callback=_token,
    help="An API key or an access token. [SMSAPI_TOKEN, or the name of its file in SMSAPI_TOKEN_FILE]",
)
@click.option("--wait", type=click.IntRange(0, 30), default=10, show_default=True, help="Seconds to wait for Plivo.")
@click.option(
    "--retry-for", type=click.IntRange(0, 3600), default=60, show_default=True, help="Seconds to keep trying."
)
@click.option(
    "--idempotency-key", callback=_visible, help="Give the same to repeat a send safely; default: a fresh one."
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def send(*, to: str, text: str, url: str, token: str, retry_for: int, as_json: bool, **rest: Any) -> None:
    """Send one message.

    Exit codes: 0 taken, 1 refused for good, 2 wrong usage, 3 not allowed, 4 try again later (with the Idempotency-Key
    that is then named, so that nothing is sent twice).
    """
    body = {"to": to, "text": text}
    body |= {name: rest[key] for name, key in (("from", "sender"), ("reference", "reference")) if rest[key] is not None}
    idempotency_key = rest["idempotency_key"] or uuid4().hex
    headers = {
        "Content-Type": "application/json",
        "Prefer": f"wait={rest['wait']}",
        "Idempotency-Key": idempotency_key,
        **({"X-API-Key": token} if token.startswith("smsk_") else {"Authorization": f"Bearer {token}"}),
    }
    try:
        status, answer = _post_until(time.monotonic() + retry_for, f"{url}/v1/messages", _encoded(body), headers)
    except KeyboardInterrupt:
        status, answer = None, {"code": "interrupted", "detail": "The message may have been taken."}
    code = _exit_code(status, answer)
    if as_json:
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        _tell(status, answer, code)
    if code == EXIT_LATER:
        click.echo(f"smsapi send: to repeat it safely: --idempotency-key {idempotency_key}", err=True)
    sys.exit(code)


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise click.BadParameter("an option is not valid UTF-8") from None


def _post_until(deadline: float, url: str, body: bytes, headers: dict[str, str]) -> tuple[int | None, dict[str, Any]]:
    """Post, and again with the same Idempotency-Key while it is worth it; return the last status and answer."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        status, answer, asked = _post(url, body, headers)
        wait = max(pause, asked)
        if _exit_code(status, answer) != EXIT_LATER or time.monotonic() + wait > deadline:
            return status, answer
        time.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int | None, dict[str, Any], float]:
    try:
        response = requests.post(
            url, data=body, headers=headers, timeout=_TIMEOUT_SECONDS, allow_redirects=False, auth=_as_it_is
        )
    except (requests.RequestException, UnicodeError) as error:
        return None, {"code": "connection_failed", "detail": f"No answer from {url}: {type(error).__name__}."}, 0.0
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or not (isinstance(answer.get("id"), str) or isinstance(answer.get("code"), str)):
        answer = {"code": "not_smsapi", "detail": f"{url} answered {response.status_code}, and not as smsapi does."}
    asked = response.headers.get("Retry-After", "")
    return response.status_code, answer, float(asked) if re.fullmatch(r"[0-9]{1,5}", asked) else 0.0


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # Without an auth of our own, requests takes one from ~/.netrc, and that would replace the credential.
    return request


def _tell(status: int | None, answer: dict[str, Any], code: int) -> None:
    if code == 0:
        click.echo(f"{answer['id']} {answer.get('status', '')}")
        return
    what = " ".join(str(each) for each in (status, answer.get("code")) if each)
    click.echo(f"smsapi send: {what}: {answer.get('detail', 'no detail')}", err=True)
    errors = answer.get("errors")
    for each in errors if isinstance(errors, list) else ():
        if isinstance(each, dict):
            click.echo(f"  {each.get('pointer', '')}: {each.get('message', '')}", err=True)


def _exit_code(status: int | None, answer: dict[str, Any]) -> int:
    if status in _TAKEN and isinstance(answer.get("id"), str):
        return 0
    if status in _NOT_ALLOWED:
        return EXIT_NOT_ALLOWED
    if status is None or (status in _LATER and answer.get("code") != "provider_account"):
        return EXIT_LATER
    return EXIT_REFUSED

"""``smsapi send``: one message from a script, repeated safely until it is taken or refused."""

import os
import re
import sys
import time
from typing import Any
from uuid import uuid4

import click
import orjson
import requests

EXIT_REFUSED = 1
EXIT_NOT_ALLOWED = 3
EXIT_LATER = 4

_NOT_ALLOWED = frozenset({401, 403})
_LATER = frozenset({409, 429, 500, 502, 503, 504})
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0


@click.command()
@click.option("--to", required=True, help="The recipient, in E.164, such as +14155550123.")
@click.option("--text", required=True, help="The text; - reads it from standard input.")
@click.option("--from", "sender", help="The sender; default: the client's.")
@click.option("--reference", help="Your own reference, to search by.")
@click.option("--url", envvar="SMSAPI_URL", required=True, help="Where the service is. [SMSAPI_URL]")
@click.option("--token", envvar="SMSAPI_TOKEN", required=True, help="An API key or an access token. [SMSAPI_TOKEN]")
@click.option("--wait", type=click.IntRange(0, 30), default=10, show_default=True, help="Seconds to wait for Plivo.")
@click.option(
    "--retry-for", type=click.IntRange(0, 3600), default=60, show_default=True, help="Seconds to keep trying."
)
@click.option("--idempotency-key", help="Give the same to repeat a send safely; default: a fresh one.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def send(*, to: str, text: str, url: str, token: str, retry_for: int, as_json: bool, **rest: Any) -> None:
    """Send one message.

    Exit codes: 0 taken, 1 refused for good, 2 wrong usage, 3 not allowed, 4 try again later.
    """
    body = {"to": to, "text": sys.stdin.read() if text == "-" else text}
    body |= {name: rest[key] for name, key in (("from", "sender"), ("reference", "reference")) if rest[key] is not None}
    headers = {
        "Content-Type": "application/json",
        "Prefer": f"wait={rest['wait']}",
        "Idempotency-Key": rest["idempotency_key"] or uuid4().hex,
        **({"X-API-Key": token} if token.startswith("smsk_") else {"Authorization": f"Bearer {token}"}),
    }
    status, answer = _post_until(time.monotonic() + retry_for, f"{url.rstrip('/')}/v1/messages", body, headers)
    if as_json:
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        _tell(status, answer)
    sys.exit(_exit_code(status, answer))


def _post_until(
    deadline: float, url: str, body: dict[str, Any], headers: dict[str, str]
) -> tuple[int | None, dict[str, Any]]:
    """Post, and again with the same Idempotency-Key while it is worth it; return the last status and answer."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        status, answer, asked = _post(url, body, headers)
        final = status is not None and (status not in _LATER or answer.get("code") == "provider_account")
        wait = max(pause, asked)
        if final or time.monotonic() + wait > deadline:
            return status, answer
        time.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int | None, dict[str, Any], float]:
    try:
        response = requests.post(url, data=orjson.dumps(body), headers=headers, timeout=45, allow_redirects=False)
    except requests.RequestException as error:
        return None, {"code": "connection_failed", "detail": f"No answer from {url}: {type(error).__name__}."}, 0.0
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        answer = {"code": "not_smsapi", "detail": f"{url} answered {response.status_code}, and not as smsapi does."}
    asked = response.headers.get("Retry-After", "")
    return response.status_code, answer, float(asked) if re.fullmatch(r"[0-9]{1,5}", asked) else 0.0


def _tell(status: int | None, answer: dict[str, Any]) -> None:
    if "id" in answer:
        click.echo(f"{answer['id']} {answer['status']}")
        return
    detail = answer.get("detail", "no detail")
    errors = "".join(f"{os.linesep}  {each['pointer']}: {each['message']}" for each in answer.get("errors", ()))
    click.echo(f"smsapi send: {status or ''} {answer.get('code', '')}: {detail}{errors}", err=True)


def _exit_code(status: int | None, answer: dict[str, Any]) -> int:
    if status in {200, 201, 202} and "id" in answer:
        return 0
    if status in _NOT_ALLOWED:
        return EXIT_NOT_ALLOWED
    if status is None or (status in _LATER and answer.get("code") != "provider_account"):
        return EXIT_LATER
    return EXIT_REFUSED

"""``smsapi send``: one message from a script, repeated safely until it is taken or refused."""

import re
import sys
import time
from typing import Any
from uuid import uuid4

import click
import orjson

from smsapi.cli.calling import EXIT_LATER, Answer, Service, address, ask_until, exit_code, problem_lines, visible


def _text(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        # As bytes: what a locale makes of them is not what was meant. A byte order mark is the editor's, the line end
        # the shell's.
        text = sys.stdin.buffer.read().decode("utf-8-sig") if value == "-" else value
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
@address
@click.option("--wait", type=click.IntRange(0, 30), default=10, show_default=True, help="Seconds to wait for Plivo.")
@click.option(
    "--retry-for", type=click.IntRange(0, 3600), default=60, show_default=True, help="Seconds to keep trying."
)
@click.option(
    "--idempotency-key", callback=visible, help="Give the same to repeat a send safely; default: a fresh one."
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
    content = _encoded(body)
    headers = {
        "Content-Type": "application/json",
        "Prefer": f"wait={rest['wait']}",
        "Idempotency-Key": idempotency_key,
    }
    service = Service(url, token)

    def post() -> Answer:
        return service.ask("POST", "/v1/messages", data=content, headers=headers)

    try:
        answer = ask_until(post, retry_for, since=time.monotonic())
    except KeyboardInterrupt:
        answer = Answer(None, {"code": "interrupted", "detail": "The message may have been taken."})
    code = exit_code(answer)
    if as_json:
        click.echo(orjson.dumps(answer.body, option=orjson.OPT_INDENT_2).decode())
    else:
        _tell(answer, code)
    if code == EXIT_LATER:
        click.echo(f"smsapi send: to repeat it safely: --idempotency-key {idempotency_key}", err=True)
    sys.exit(code)


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise click.BadParameter("an option is not valid UTF-8") from None


def _tell(answer: Answer, code: int) -> None:
    if code == 0:
        click.echo(f"{answer.body['id']} {answer.body.get('status', '')}")
        return
    for place, line in enumerate(problem_lines(answer)):
        click.echo(line if place else f"smsapi send: {line}", err=True)

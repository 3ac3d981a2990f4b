"""``smsapi batch``: one text to everybody in a file, watched until the last one is through."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import click
import orjson
import requests

from smsapi.cli.bars import Screen, open_screen, print_table
from smsapi.cli.calling import (
    EXIT_LATER,
    EXIT_REFUSED,
    Answer,
    Service,
    address,
    ask_until,
    exit_code,
    no_answer,
    problem_lines,
    read_problem,
    visible,
)
from smsapi.cli.standing import EXIT_INPUT, Standing
from smsapi.cli.upload import FORMATS, Upload, again, fields_of, format_of, pair, prepare, with_text

EXIT_REPLAYED: Final = 6
EXIT_INTERRUPTED: Final = 130
_INPUT: Final = frozenset({400, 413, 414, 415, 422})
_FIRST_LOOK_SECONDS: Final = 0.2
_LONGEST_LOOK_SECONDS: Final = 2.0
_PAGE: Final = 100
_PAGE_SECONDS: Final = 60
_PIECE_BYTES: Final = 64 * 1024

_as_json = click.option("--json", "as_json", is_flag=True, help="Print the batch as JSON, and nothing else.")
_retry_for = click.option(
    "--retry-for",
    type=click.IntRange(0, 86_400),
    default=300,
    show_default=True,
    help="Seconds to keep trying after a failure.",
)


def _batch_id(_context: click.Context, _option: click.Parameter, value: str) -> str:
    # It goes into a path.
    if not value.isascii() or not value.removeprefix("bat_").isalnum():
        raise click.BadParameter(f"{value!r} is not an id such as bat_0190…")
    return value


_batch_argument = click.argument("batch_id", metavar="BATCH_ID", callback=_batch_id)


@click.group()
def batch() -> None:
    """Send one text to everybody in a file, watch that, call it off.

    Exit codes: 0 all rows were taken and sent, 1 refused for good, 2 wrong usage or a file that is refused (nothing is
    sent), 3 not allowed, 4 not reached or not known (try again, with the key that is named), 5 some rows were rejected
    or not sent, 6 the same was uploaded before and nothing is sent a second time, 130 interrupted.
    """


@batch.command("send")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--text", help="The text; {{name}} is each row's own. Required unless a .json file has it.")
@click.option("--from", "sender", help="The sender; default: the client's.")
@click.option("--category", type=click.Choice(["transactional", "otp", "marketing"]), help="What kind of text it is.")
@click.option("--send-at", help="When to send it, such as 2026-12-24T18:00:00Z. It is not waited for.")
@click.option("--expires-in", type=int, help="Seconds after which a message is not sent any more.")
@click.option("--max-price", help='Reject a row that costs more, such as "0.05".')
@click.option("--max-segments", type=int, help="Reject a row that needs more.")
@click.option("--smart-encoding", is_flag=True, help="Replace typographic characters where that makes it GSM-7.")
@click.option("--metadata", metavar="NAME=VALUE", multiple=True, callback=pair, help="Echoed in events; several times.")
@click.option("--all-or-nothing", is_flag=True, help="Send nothing at all where a single row is bad.")
@click.option("--dry-run", is_flag=True, help="Check the rows, count segments and cost, and send nothing.")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="What FILE is; default: by its name.")
@click.option("--rejects", type=click.Path(dir_okay=False, writable=True), help="Write the rejected rows here, as CSV.")
@address
@click.option(
    "--idempotency-key",
    callback=visible,
    help="Give the same to repeat an upload safely; default: one that is derived from FILE and the options.",
)
@_retry_for
@click.option("--no-wait", is_flag=True, help="End when the batch is taken, and do not watch it being sent.")
@_as_json
@click.pass_context
def send(
    context: click.Context, /, *, source: str, form: str | None, url: str, token: str, as_json: bool, **given: Any
) -> None:
    """Send a text to everybody in FILE, each row once: CSV with a column "to", NDJSON, or JSON; - reads a pipe.

    The upload is safe to repeat with the same Idempotency-Key, which is printed: nobody gets the text twice within a
    day. What is not uploaded whole is not sent at all.
    """
    service, form = Service(url, token), format_of(source, form)
    fields = with_text(fields_of(given))
    with _ending(as_json=as_json), open_screen(quiet=as_json) as screen:
        upload = _prepare(source, form, fields, given["idempotency_key"], screen)
        with closing(upload.parcel):
            answer = _upload(context, service, upload, screen, given["retry_for"])
        standing = _taken(service, answer, hint=f"to take it up again: {again(context, upload.key)}")
        _say_taken(screen, standing, is_replay=answer.is_replay, as_json=as_json)
        if not (given["no_wait"] or given["dry_run"] or standing.status in {"scheduled", "rejected"}):
            standing = _follow(service, standing, screen, given["retry_for"])
    _show(standing, as_json=as_json, replayed=answer.is_replay)
    with _ending(as_json=False):
        if given["rejects"] is not None:
            _save_rejects(service, standing.id, given["rejects"])
    if standing.rejected and given["rejects"] is None and not as_json:
        click.echo(f"smsapi batch: what was rejected, and why: smsapi batch rejects {standing.id}", err=True)
    sys.exit(EXIT_REPLAYED if answer.is_replay and standing.exit_code != EXIT_INPUT else standing.exit_code)


@batch.command("watch")
@_batch_argument
@address
@_retry_for
@_as_json
def watch(*, batch_id: str, url: str, token: str, retry_for: int, as_json: bool) -> None:
    """Watch BATCH_ID until nothing of it waits any more; its sending goes on whether it is watched or not."""
    service = Service(url, token)
    with _ending(as_json=as_json), open_screen(quiet=as_json) as screen:
        standing = _follow(service, _get(service, batch_id, retry_for), screen, retry_for)
    _show(standing, as_json=as_json)
    sys.exit(standing.exit_code)


@batch.command("show")
@_batch_argument
@address
@_as_json
def show(*, batch_id: str, url: str, token: str, as_json: bool) -> None:
    """Show how BATCH_ID stands now."""
    with _ending(as_json=as_json):
        _show(_get(Service(url, token), batch_id, 0), as_json=as_json)


@batch.command("cancel")
@_batch_argument
@address
@_as_json
def cancel(*, batch_id: str, url: str, token: str, as_json: bool) -> None:
    """Call off what has not left of BATCH_ID, and show what had; of a large batch the counts follow within seconds."""
    with _ending(as_json=as_json):
        answer = Service(url, token).ask("POST", f"/v1/batches/{batch_id}/cancel")
        _show(_standing_of(answer), as_json=as_json)


@batch.command("rejects")
@_batch_argument
@address
@click.option(
    "--csv",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    help="Write them here as CSV; - is standard output.",
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, one a line.")
def rejects(*, batch_id: str, url: str, token: str, path: str | None, as_json: bool) -> None:
    """Print the rows of BATCH_ID that were not taken, and why."""
    service = Service(url, token)
    with _ending(as_json=as_json):
        if path is not None:
            _save_rejects(service, batch_id, path)
            return
        for each in _list_rejects(service, batch_id):
            click.echo(orjson.dumps(each).decode() if as_json else _reject_line(each))


def _reject_line(reject: dict[str, Any]) -> str:
    return f"{reject.get('row'):>8}  {reject.get('value')}  {reject.get('code')}  {reject.get('message')}"


class _Ended(Exception):
    """The command is at its end: this answer is no success. ``hint`` is for where trying again may help."""

    def __init__(self, answer: Answer, hint: str | None = None) -> None:
        super().__init__()
        self.answer = answer
        self.hint = hint


class _Interrupted(Exception):
    """Somebody pressed Ctrl-C; the message says what that means."""


@contextmanager
def _ending(*, as_json: bool) -> Iterator[None]:
    """End the process with what is said of it and the code for it, if the block does not come to its end."""
    try:
        yield
    except _Interrupted as interrupted:
        click.echo(f"smsapi batch: interrupted: {interrupted}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        click.echo("smsapi batch: interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except _Ended as ended:
        answer = ended.answer
        if as_json:
            click.echo(orjson.dumps(answer.body, option=orjson.OPT_INDENT_2).decode())
        else:
            for place, line in enumerate(problem_lines(answer)):
                click.echo(line if place else f"smsapi batch: {line}", err=True)
        # An answer of success in which there is no batch is no answer of ours.
        code = exit_code(answer) or EXIT_REFUSED
        if code == EXIT_LATER and ended.hint is not None:
            click.echo(f"smsapi batch: {ended.hint}", err=True)
        sys.exit(EXIT_INPUT if code == EXIT_REFUSED and answer.status in _INPUT else code)


def _prepare(source: str, form: str, fields: Mapping[str, Any], key: str | None, screen: Screen) -> Upload:
    try:
        upload = prepare(source, form, fields, key=key, on_read=screen.reading)
    except KeyboardInterrupt:
        raise _Interrupted("nothing was uploaded, and nothing is sent.") from None
    if key is None:
        screen.say(f"Idempotency-Key: {upload.key}")
    return upload


def _upload(context: click.Context, service: Service, upload: Upload, screen: Screen, retry_for: int) -> Answer:
    unheard = False

    def tell(answer: Answer, wait: float) -> None:
        nonlocal unheard
        # It may have been taken all the same, and then the next answer is a replay of this one's.
        unheard = unheard or answer.status != HTTPStatus.CONFLICT
        screen.say(f"{next(problem_lines(answer))} Again in {wait:.0f} s.")

    try:
        answer = ask_until(lambda: upload.post(service, screen.uploading), retry_for, on_failure=tell)
        return replace(answer, is_replay=answer.is_replay and not unheard)
    except KeyboardInterrupt:
        # Once all of it has left, the service may have taken it before it could say so.
        fate = "the batch may have been taken" if upload.was_whole else "nothing is sent"
        raise _Interrupted(f"{fate}. To take it up again: {again(context, upload.key)}") from None


def _taken(service: Service, answer: Answer, *, hint: str) -> Standing:
    """Return the batch that came of an upload, even one that was refused as a whole because of its rows."""
    batch_id = answer.body.get("batch_id")
    if answer.body.get("code") != "batch_rejected" or not isinstance(batch_id, str):
        return _standing_of(answer, hint)
    found = service.ask("GET", f"/v1/batches/{batch_id}")
    # A key may send and not read; then the problem itself has to do.
    return _standing_of(found if exit_code(found) == 0 else answer)


def _standing_of(answer: Answer, hint: str | None = None) -> Standing:
    standing = Standing.read(answer.body) if exit_code(answer) == 0 else None
    if standing is None:
        raise _Ended(answer, hint)
    return standing


def _say_taken(screen: Screen, standing: Standing, *, is_replay: bool, as_json: bool) -> None:
    if is_replay:
        said = "this was uploaded before with this Idempotency-Key, and nothing is sent a second time; "
        said += "give another --idempotency-key to send it once more."
        click.echo(f"smsapi batch: {said}", err=True) if as_json else screen.say(said)
    match standing.status:
        case "rejected":
            screen.say(f"{standing.id} is refused as a whole: nothing of it is sent.")
        case "checked":
            screen.say(f"{standing.id} is a dry run: nothing of it is sent.")
        case _:
            screen.say(f"{standing.id} is taken: {standing.accepted:,} of {standing.total:,} rows.")


def _follow(service: Service, standing: Standing, screen: Screen, retry_for: int) -> Standing:
    """Return the batch when nothing of it waits any more."""
    again_ = f"smsapi batch watch {standing.id}"
    pause = _FIRST_LOOK_SECONDS
    try:
        while not standing.is_over:
            screen.sending(standing)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK_SECONDS)
            standing = _get(service, standing.id, retry_for, hint=f"it goes on being sent; to watch it: {again_}")
        screen.sending(standing)
    except KeyboardInterrupt:
        raise _Interrupted(f"{standing.id} goes on being sent. To watch it again: {again_}") from None
    return standing


def _get(service: Service, batch_id: str, retry_for: int, *, hint: str | None = None) -> Standing:
    return _standing_of(ask_until(lambda: service.ask("GET", f"/v1/batches/{batch_id}"), retry_for), hint)


def _show(standing: Standing, *, as_json: bool, **more: Any) -> None:
    if as_json:
        click.echo(orjson.dumps({**standing.resource, **more}, option=orjson.OPT_INDENT_2).decode())
    else:
        print_table(standing.lines())


def _list_rejects(service: Service, batch_id: str) -> Iterator[dict[str, Any]]:
    cursor: str | None = ""
    while cursor is not None:
        route = f"/v1/batches/{batch_id}/rejects?limit={_PAGE}{cursor and f'&cursor={cursor}'}"
        answer = ask_until(partial(service.ask, "GET", route, member="data"), _PAGE_SECONDS)
        if exit_code(answer, member="data") != 0:
            raise _Ended(answer)
        yield from answer.body["data"]
        cursor = answer.body.get("next_cursor")


def _save_rejects(service: Service, batch_id: str, path: str) -> None:
    """Write all rejects to a file as CSV."""
    route, hint = f"/v1/batches/{batch_id}/rejects", f"to get them: smsapi batch rejects {batch_id} --csv FILE"
    try:
        with service.stream(route, accept="text/csv") as response:
            if response.status_code != requests.codes.ok:
                raise _Ended(read_problem(response, service.url + route), hint)
            _write(response, path)
    except requests.RequestException as error:
        raise _Ended(no_answer(service.url + route, error), hint) from None
    except OSError as error:
        raise _Ended(Answer(None, {"code": "not_written", "detail": f"{path}: {error.strerror}."}), hint) from None


def _write(response: requests.Response, path: str) -> None:
    with click.open_file(path, "wb") as file:
        for piece in response.iter_content(_PIECE_BYTES):
            file.write(piece)

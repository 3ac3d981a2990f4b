"""``smsapi messages``: one message with all that became of it, and an operator's decisions about it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import click
from sqlalchemy import Connection, Row, select

from smsapi.app import build_deps
from smsapi.cli.admin import as_json, open_database, print_json
from smsapi.cli.demo import operator_settings
from smsapi.clock import rfc3339
from smsapi.deps import Deps
from smsapi.errors import SmsapiError
from smsapi.events.store import Event, list_events
from smsapi.ids import read_id, show_id
from smsapi.log import mask_numbers, scrub
from smsapi.messages.lanes import name_of
from smsapi.messages.models import Message, message_attempts
from smsapi.messages.present import present_event, present_message
from smsapi.messages.statuses import FINAL, QUEUED, UNKNOWN
from smsapi.messages.store import add_event, get_message, hold_message
from smsapi.send.after import OUTCOMES, Outcome, resolve, wake_batch
from smsapi.send.change import change
from smsapi.timekeeping import set_clock_of

_HIDDEN: Final = "[hidden]"
_BY: Final = {"by": "operator"}
# Nothing here asks Plivo or signs a token, so that the database's setting is enough to decide about a message.
_NEVER_USED: Final[dict[str, Any]] = {"plivo_auth_id": "MA" + "0" * 18, "plivo_auth_token": "-", "jwt_secret": "-" * 32}


def _message_id(_context: click.Context, _option: click.Parameter, value: str) -> UUID:
    found = read_id("msg", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not an id such as msg_0190…")
    return found


message_argument = click.argument("message_id", metavar="ID", callback=_message_id)


@click.group()
def messages() -> None:
    """Look at a message, and decide about one that waits for it."""


@messages.command("show")
@message_argument
@click.option("--reveal", is_flag=True, help="Show numbers, text and metadata too.")
@as_json
def show(*, message_id: UUID, reveal: bool, as_json: bool) -> None:
    """Show the message ID, its attempts and what became of it; numbers are shown in part."""
    with open_database() as store, store.read() as connection:
        message = get_message(connection, message_id)
        attempts, events = _attempts_of(connection, message_id), list_events(connection, message_id)
    shown = {
        "message": present_message(message) if reveal else _hide(present_message(message)),
        "lane": name_of(message.lane),
        "on_unknown": message.on_unknown,
        "due_at": _moment(message.due_at),
        "expires_at": _moment(message.expires_at),
        "attempts": [_present_attempt(each) for each in attempts],
        "events": [_present_event(each, reveal=reveal) for each in events],
    }
    if as_json:
        print_json(shown)
        return
    for line in _lines(shown):
        click.echo(line)


@messages.command("retry")
@message_argument
def retry(*, message_id: UUID) -> None:
    """Send the message ID now, in place of at its next attempt; an unknown one is sent again.

    Of an unknown one Plivo may have taken the last attempt: the recipient may then get the text twice.
    """
    with _opened_world() as world, world.database.transaction() as connection:
        message = hold_message(connection, message_id)
        if message.status == UNKNOWN:
            resolve(world, connection, message, "resend", by=_BY)
        elif message.status != QUEUED or message.due_at is None:
            raise SmsapiError(_why_not(message))
        elif message.due_at > world.clock.now():
            _make_due(world, connection, message)
    click.echo(f"{show_id('msg', message_id)} is due now.")


@messages.command("resolve")
@message_argument
@click.option(
    "--outcome",
    type=click.Choice(OUTCOMES),
    required=True,
    help="sent: Plivo took it. resend: it did not, send it again. failed: it did not, and it is not sent.",
)
def resolve_message(*, message_id: UUID, outcome: Outcome) -> None:
    """Say what became of the message ID, whose outcome is unknown."""
    with _opened_world() as world:
        with world.database.transaction() as connection:
            settled = resolve(world, connection, hold_message(connection, message_id), outcome, by=_BY)
        wake_batch(world, settled)
    click.echo(f"{show_id('msg', message_id)} is {settled.status} now.")


@contextmanager
def _opened_world() -> Iterator[Deps]:
    with open_database() as store:
        world = build_deps(operator_settings(**_NEVER_USED), database=store, clock=set_clock_of(store))
        try:
            yield world
        finally:
            world.executor.shutdown()


def _make_due(world: Deps, connection: Connection, message: Message) -> None:
    now = world.clock.now()
    # The epoch, for a caller's own delivery may hold it until its next attempt; it finds the message gone.
    change(world, connection, message, due_at=now, epoch=message.epoch + 1)
    add_event(connection, message, "message.queued", now, {"decision": "retry", **_BY})


def _why_not(message: Message) -> str:
    if message.status in FINAL:
        return f"The message is {message.status}, which is final. Send a new one."
    return f"The message is {message.status}; only a queued or an unknown one can be tried again."


def _attempts_of(connection: Connection, message_id: UUID) -> Sequence[Row[Any]]:
    rows = message_attempts.c
    query = select(message_attempts).where(rows.message_id == message_id).order_by(rows.number)
    return connection.execute(query).all()


def _present_attempt(row: Row[Any]) -> dict[str, Any]:
    return {
        "number": row.number,
        "started_at": rfc3339(row.started_at),
        "finished_at": _moment(row.finished_at),
        # None: it is under way, or its sender died within it.
        "outcome": row.outcome,
        "provider_status": row.provider_status,
        "message_uuid": row.provider_uuid,
        "reason": None if row.reason is None else mask_numbers(row.reason),
    }


def _present_event(event: Event, *, reveal: bool) -> dict[str, Any]:
    return present_event(event if reveal else replace(event, data=scrub(dict(event.data))))


def _hide(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resource without its text and its metadata's values, and with numbers in part."""
    hidden = {name: mask_numbers(value) if isinstance(value, str) else value for name, value in resource.items()}
    metadata = dict.fromkeys(resource["metadata"], _HIDDEN)
    return {**hidden, "error": scrub(resource["error"]), "text": _HIDDEN, "metadata": metadata}


def _moment(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)


def _lines(shown: Mapping[str, Any]) -> Iterator[str]:
    message = shown["message"]
    for name in ("id", "client_id", "status", "to", "from", "text", "category", "segments", "reference", "test"):
        yield f"{name:<12}{_said(message[name])}"
    for name in ("lane", "on_unknown", "due_at", "expires_at"):
        yield f"{name:<12}{_said(shown[name])}"
    error = message["error"]
    yield f"{'error':<12}{_said(error and '{code}: {message}'.format(**error))}"
    for each in shown["attempts"]:
        outcome = each["outcome"] or "no outcome"
        yield f"{each['started_at']}  attempt {each['number']}: {outcome} {_said(each['reason'], '')}".rstrip()
    for each in shown["events"]:
        yield f"{each['at']}  {each['type']} {_said(each['data'], '')}".rstrip()


def _said(value: Any, nothing: str = "-") -> str:
    match value:
        case None:
            return nothing
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name}={_said(item)}" for name, item in value.items())
        case _:
            return str(value)

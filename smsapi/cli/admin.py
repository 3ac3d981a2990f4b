"""Commands for whoever runs the service: the database, its clients and their keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click
import orjson
from limits import parse_many

from smsapi import migrations
from smsapi.auth import service
from smsapi.auth.models import MODES, SCOPES
from smsapi.auth.quotas import POLICIES
from smsapi.auth.views import present_client, present_key
from smsapi.db import Database
from smsapi.errors import SmsapiError
from smsapi.ids import read_id
from smsapi.settings import read_settings
from smsapi.sms.phone import is_country
from smsapi.sms.sender import InvalidSender, classify_sender

_PAGE = 100
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API would.")


@contextmanager
def open_database(*, current: bool = True) -> Iterator[Database]:
    """Open the database of the settings; with ``current``, only where its schema is up to date."""
    store = Database(read_settings().database_url)
    try:
        if current and not migrations.is_current(store):
            raise SmsapiError("The database has not the schema of this version. Run: smsapi db upgrade")
        yield store
    finally:
        store.close()


def print_json(value: Any) -> None:
    """Print a value as one JSON document."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


@click.group("db")
def database() -> None:
    """Keep the database's schema."""


@database.command("upgrade")
def upgrade() -> None:
    """Bring the schema to this version; safe to run again, and from several places at once."""
    with open_database(current=False) as store:
        migrations.upgrade(store)
    click.echo("The database is up to date.")


def _sender(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
    for each in value if isinstance(value, tuple) else (value,):
        try:
            if each is not None:
                classify_sender(each)
        except InvalidSender as error:
            raise click.BadParameter(str(error)) from None
    return value


def _countries(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    codes = tuple(code.upper() for code in value)
    if bad := [code for code in codes if not is_country(code)]:
        raise click.BadParameter(f"no country: {', '.join(bad)}")
    return codes


def _limits(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in value:
        policy, _, limits = each.partition("=")
        if policy not in POLICIES:
            raise click.BadParameter(f"POLICY=LIMITS, with one of {', '.join(POLICIES)}")
        try:
            parse_many(limits)
        except ValueError:
            raise click.BadParameter(f"{limits!r} is no limit such as 600 per minute; 10000 per day") from None
        found[policy] = limits
    return found


@click.group()
def clients() -> None:
    """Keep the clients, the services that call."""


@clients.command("create")
@click.argument("name")
@click.option("--default-sender", callback=_sender, help="The sender of messages that name none.")
@click.option("--allowed-sender", "allowed_senders", multiple=True, callback=_sender, help="Only these senders.")
@click.option("--allowed-country", "allowed_countries", multiple=True, callback=_countries, help="Only these, as US.")
@click.option("--limit", "limits", multiple=True, callback=_limits, help='As "send=600 per minute; 10000 per day".')
@as_json
def create_client(
    *,
    name: str,
    default_sender: str | None,
    allowed_senders: tuple[str, ...],
    allowed_countries: tuple[str, ...],
    limits: dict[str, str],
    as_json: bool,
) -> None:
    """Make a client called NAME."""
    if not 1 <= len(name) <= 100 or not name.isprintable():  # noqa: PLR2004 - as the API's rule
        raise click.BadParameter("1 to 100 printable characters", param_hint="NAME")
    with open_database() as store, store.transaction() as connection:
        made = service.create_client(
            connection,
            datetime.now(UTC),
            name=name,
            default_sender=default_sender,
            allowed_senders=list(allowed_senders) or None,
            allowed_countries=list(allowed_countries) or None,
            limits=limits,
        )
    shown = present_client(made)
    print_json(shown) if as_json else click.echo(f"Made client {shown['id']} ({name}).")


@clients.command("list")
@as_json
def list_clients(*, as_json: bool) -> None:
    """List the clients, newest first."""
    with open_database() as store, store.read() as connection:
        found = [present_client(each) for each in service.list_clients(connection, limit=_PAGE, before=None)]
    if as_json:
        print_json({"data": found})
        return
    for each in found:
        click.echo(f"{each['id']}  {each['name']}")


@click.group()
def keys() -> None:
    """Keep the clients' API keys."""


def _id(prefix: str, shown: str) -> UUID:
    found = read_id(prefix, shown)
    if found is None:
        raise click.BadParameter(f"{shown!r} is not an id such as {prefix}_0190…")
    return found


def _print_key(shown: dict[str, Any], secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**shown, "key": secret})
        return
    click.echo(f"Made {shown['mode']} key {shown['id']} ({shown['name']}). It is shown this once:", err=True)
    click.echo(secret)


@keys.command("create")
@click.option("--client", "client_id", required=True, help="The client's id, cli_….")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--mode", type=click.Choice(MODES), default="live", show_default=True, help="test: nobody is texted.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    default=("messages:send", "messages:read"),
    show_default=True,
    help="What the key may do; several times for several.",
)
@click.option("--expires-in-days", type=click.IntRange(1, 3650), help="Days until the key stops working.")
@as_json
def create_key(
    *, client_id: str, name: str, mode: str, scopes: tuple[str, ...], expires_in_days: int | None, as_json: bool
) -> None:
    """Make an API key and show it, this once."""
    now = datetime.now(UTC)
    with open_database() as store, store.transaction() as connection:
        key, secret = service.issue_key(
            connection,
            now,
            client_id=_id("cli", client_id),
            name=name,
            live=mode == "live",
            scopes=scopes,
            expires_at=None if expires_in_days is None else now + timedelta(days=expires_in_days),
        )
    _print_key(present_key(key), secret, as_json=as_json)


@keys.command("list")
@click.option("--client", "client_id", help="Only this client's keys.")
@as_json
def list_keys(*, client_id: str | None, as_json: bool) -> None:
    """List keys, newest first, without their secrets."""
    only = None if client_id is None else _id("cli", client_id)
    with open_database() as store, store.read() as connection:
        found = [present_key(each) for each in service.list_keys(connection, client_id=only, limit=_PAGE, before=None)]
    if as_json:
        print_json({"data": found})
        return
    for each in found:
        state = "revoked" if each["revoked_at"] else f"expires {each['expires_at']}" if each["expires_at"] else "works"
        click.echo(f"{each['id']}  {each['client_id']}  {each['mode']}  {state}  {each['name']}")


@keys.command("revoke")
@click.argument("key_id")
def revoke_key(*, key_id: str) -> None:
    """Make the key KEY_ID, and its tokens, stop working at once."""
    with open_database() as store, store.transaction() as connection:
        service.revoke_key(connection, datetime.now(UTC), _id("key", key_id), client_id=None)
    click.echo(f"Revoked {key_id}.")


@keys.command("rotate")
@click.argument("key_id")
@click.option(
    "--overlap-seconds",
    type=click.IntRange(0, 30 * 86400),
    default=86400,
    show_default=True,
    help="How long the old key goes on working.",
)
@as_json
def rotate_key(*, key_id: str, overlap_seconds: int, as_json: bool) -> None:
    """Replace the key KEY_ID by a new one like it, and show that one, this once."""
    with open_database() as store, store.transaction() as connection:
        key, secret = service.rotate_key(
            connection, datetime.now(UTC), _id("key", key_id), client_id=None, overlap_seconds=overlap_seconds
        )
    _print_key(present_key(key), secret, as_json=as_json)

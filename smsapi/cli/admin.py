"""Commands for whoever runs the service: the database, its clients and their keys."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import click
import orjson
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from smsapi import migrations
from smsapi.auth import service
from smsapi.auth.models import MODES, SCOPES, ApiKey
from smsapi.auth.quotas import POLICIES
from smsapi.auth.schemas import MAX_OVERLAP_SECONDS, MAX_WEIGHT, check_country, check_limits, read_sender
from smsapi.auth.views import present_client, present_key
from smsapi.batches.of_key import cancel_all_of_key
from smsapi.cli.demo import operator_settings, sqlite_file
from smsapi.cli.offline import working_on
from smsapi.clock import rfc3339
from smsapi.db import Database
from smsapi.errors import InvalidInput, SmsapiError, StoreUnavailable
from smsapi.ids import read_id, show_id
from smsapi.log import configure_logging, is_logging_configured
from smsapi.settings import Settings, read_settings
from smsapi.sms.phone import unwrap_number

_T = TypeVar("_T")
_PAGE = 100
_NAME_LENGTH = 100  # as the API's rule
LATER_SCHEMA: Final = (
    "The database has the schema of a later version of smsapi, which this version may not use. "
    "Run that version, or a later one; going back takes a backup from before the upgrade."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API would.")


@contextmanager
def open_database(
    settings: Settings | None = None, *, current: bool = True, create: bool = False
) -> Iterator[Database]:
    """Open the database of the settings; with ``current``, only where its schema is up to date.

    Without ``settings``, it is the database of :func:`~smsapi.cli.demo.operator_settings`. A SQLite file is made only
    with ``create``. Raises :class:`SmsapiError` with a sentence that says what to do.
    """
    if not is_logging_configured():
        # What the commands print is theirs alone; what their work logs goes to stderr.
        configure_logging("warning")
    url = (settings or operator_settings()).database_url
    if not create:
        _check_exists(url)
    store = Database(url)
    try:
        _require_utf8(store)
        if current:
            _require_usable_schema(store)
        yield store
    except (StoreUnavailable, OperationalError, InterfaceError) as error:
        raise SmsapiError(f"The database of SMSAPI_DATABASE_URL cannot be used: {_first_line(error)}") from None
    finally:
        store.close()


def _check_exists(url: str) -> None:
    # The driver would make an empty file, where the directory is there.
    file = sqlite_file(url)
    if file is not None and file.parent.is_dir() and not file.exists():
        named = "Set SMSAPI_DATABASE_URL" if url == read_settings({}).database_url else "Correct SMSAPI_DATABASE_URL"
        raise SmsapiError(f"There is no database: {file} does not exist. {named}, or make it with: smsapi db upgrade")


def _require_utf8(store: Database) -> None:
    if not store.is_postgresql:
        return
    with store.read() as connection:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise SmsapiError(
            f"The database of SMSAPI_DATABASE_URL is encoded in {encoding}, which cannot hold every text. "
            "Make one by: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


def _require_usable_schema(store: Database) -> None:
    state = migrations.schema_state(store)
    if state is migrations.SchemaState.NEWER:
        raise SmsapiError(LATER_SCHEMA)
    if not state.is_usable:
        raise SmsapiError("The database has not the schema of this version. Run: smsapi db upgrade")


def _first_line(error: Exception) -> str:
    # What the driver says, which names the file or the server and never the password; not SQLAlchemy's pages on it.
    database_error = error.__cause__ if isinstance(error, StoreUnavailable) else error
    cause = database_error.orig if isinstance(database_error, DBAPIError) else database_error
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)


def print_json(value: Any) -> None:
    """Print a value as one JSON document."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


@click.group("db")
def database() -> None:
    """Keep the database's schema."""


@database.command("upgrade")
def upgrade() -> None:
    """Bring the schema to this version; safe to run again, and from several places at once."""
    with open_database(read_settings(), current=False, create=True) as store:
        state = migrations.schema_state(store)
        if state is migrations.SchemaState.NEWER:
            raise SmsapiError(LATER_SCHEMA)
        if state is migrations.SchemaState.NEWER_AND_USABLE:
            click.echo("The database has the schema of a later version, which this version may use.")
            return
        migrations.upgrade(store)
    click.echo("The database is up to date.")


def _check(rule: Callable[[str], _T], value: str) -> _T:
    try:
        return rule(value)
    except ValidationError as error:
        raise click.BadParameter(f"{value!r}: {error}") from None


def _name(_context: click.Context, _option: click.Parameter, value: str) -> str:
    # What is not printable includes what the shell passed on that is no UTF-8.
    if not 1 <= len(value) <= _NAME_LENGTH or not value.isprintable():
        raise click.BadParameter(f"must be 1 to {_NAME_LENGTH} printable characters")
    return value


def _id_of(prefix: str) -> Callable[[click.Context, click.Parameter, str | None], UUID | None]:
    def parse(_context: click.Context, _option: click.Parameter, value: str | None) -> UUID | None:
        found = None if value is None else read_id(prefix, value)
        if value is not None and found is None:
            raise click.BadParameter(f"{value!r} is not an id such as {prefix}_0190…")
        return found

    return parse


def _sender(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_check(read_sender, unwrap_number(each)) for each in value)
    return None if value is None else _check(read_sender, unwrap_number(value))


def _countries(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    codes = tuple(code.upper() for code in value)
    for code in codes:
        _check(check_country, code)
    return codes


def _limits(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in value:
        policy, _, limits = each.partition("=")
        if policy not in POLICIES or not limits:
            raise click.BadParameter(f"{each!r} is not POLICY=LIMITS, with one of {', '.join(POLICIES)}")
        _check(check_limits, limits)
        found[policy] = limits
    return found


@click.group()
def clients() -> None:
    """Keep the clients, the services that call."""


@clients.command("create")
@click.argument("name", callback=_name)
@click.option("--default-sender", callback=_sender, help="The sender of messages that name none.")
@click.option(
    "--allowed-sender",
    "allowed_senders",
    multiple=True,
    callback=_sender,
    help="Only these senders; without any, its default sender.",
)
@click.option("--allowed-country", "allowed_countries", multiple=True, callback=_countries, help="Only these, as US.")
@click.option("--limit", "limits", multiple=True, callback=_limits, help='As "send=600 per minute; 10000 per day".')
@click.option(
    "--weight",
    type=click.IntRange(1, MAX_WEIGHT),
    default=1,
    show_default=True,
    help="Its share of the sending, against the other clients that wait in the same lane.",
)
@as_json
def create_client(
    *,
    name: str,
    default_sender: str | None,
    allowed_senders: tuple[str, ...],
    allowed_countries: tuple[str, ...],
    limits: dict[str, str],
    weight: int,
    as_json: bool,
) -> None:
    """Make a client called NAME."""
    try:
        service.check_default_sender(default_sender, allowed_senders or None)
        with open_database() as store, store.transaction() as connection:
            made = service.create_client(
                connection,
                datetime.now(UTC),
                name=name,
                default_sender=default_sender,
                allowed_senders=list(allowed_senders) or None,
                allowed_countries=list(allowed_countries) or None,
                limits=limits,
                weight=weight,
            )
    except InvalidInput as error:
        raise click.BadParameter(error.errors[0].message, param_hint="--default-sender") from None
    shown = present_client(made)
    print_json(shown) if as_json else click.echo(f"Made client {shown['id']} ({name}).")


@clients.command("list")
@as_json
def list_clients(*, as_json: bool) -> None:
    """List the clients, newest first."""
    with open_database() as store, store.read() as connection:
        pages = _all(lambda before: service.list_clients(connection, limit=_PAGE, before=before), lambda each: each.id)
        found = [present_client(each) for each in pages]
    if as_json:
        print_json({"data": found, "next_cursor": None})
        return
    for each in found:
        click.echo(f"{each['id']}  {each['name']}")


@click.group()
def keys() -> None:
    """Keep the clients' API keys."""


def _print_key(shown: dict[str, Any], secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**shown, "key": secret})
        return
    click.echo(f"Made {shown['mode']} key {shown['id']} ({shown['name']}). It is shown this once:", err=True)
    click.echo(secret)


@keys.command("create")
@click.option("--client", "client_id", required=True, callback=_id_of("cli"), help="The client's id, cli_….")
@click.option("--name", required=True, callback=_name, help="What the key is for.")
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
    *, client_id: UUID, name: str, mode: str, scopes: tuple[str, ...], expires_in_days: int | None, as_json: bool
) -> None:
    """Make an API key and show it, this once."""
    now = datetime.now(UTC)
    with open_database() as store, store.transaction() as connection:
        key, secret = service.issue_key(
            connection,
            now,
            client_id=client_id,
            name=name,
            live=mode == "live",
            scopes=scopes,
            expires_at=None if expires_in_days is None else now + timedelta(days=expires_in_days),
        )
    _print_key(present_key(key), secret, as_json=as_json)


@keys.command("list")
@click.option("--client", "client_id", callback=_id_of("cli"), help="Only this client's keys.")
@as_json
def list_keys(*, client_id: UUID | None, as_json: bool) -> None:
    """List keys, newest first, without their secrets."""
    with open_database() as store, store.read() as connection:
        if client_id is not None:
            service.get_client(connection, client_id)
        found = _all(
            lambda before: service.list_keys(connection, client_id=client_id, limit=_PAGE, before=before),
            lambda each: each.id,
        )
    if as_json:
        print_json({"data": [present_key(each) for each in found], "next_cursor": None})
        return
    now = datetime.now(UTC)
    for each in found:
        shown = present_key(each)
        click.echo(f"{shown['id']}  {shown['client_id']}  {shown['mode']}  {_state(each, now)}  {shown['name']}")


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.ends_at is None:
        return "works"
    return f"{'expires' if key.works_at(now) else 'expired'} {rfc3339(key.ends_at)}"


def _all(page_before: Callable[[UUID | None], Sequence[_T]], id_of: Callable[[_T], UUID]) -> list[_T]:
    """Return the items of all pages; a page holds one item more than was asked for where others follow."""
    found: list[_T] = []
    while page := page_before(id_of(found[-1]) if found else None):
        found += page
    return found


@keys.command("revoke")
@click.argument("key_id", callback=_id_of("key"))
@click.option("--cancel-scheduled", is_flag=True, help="Cancel what waits of it, too: scheduled and queued messages.")
def revoke_key(*, key_id: UUID, cancel_scheduled: bool) -> None:
    """Make the key KEY_ID, and its tokens, stop working at once.

    What was accepted with it is sent all the same, also what is scheduled, but with --cancel-scheduled.
    """
    with open_database() as store:
        with store.transaction() as connection:
            service.revoke_key(connection, datetime.now(UTC), key_id, client_id=None)
            key = service.get_key(connection, key_id, client_id=None)
        if cancel_scheduled:
            by = {"by": "operator", "reason": "key_revoked"}
            with working_on(store) as world:
                cancel_all_of_key(world, key.client_id, key_id, by=by)
    click.echo(f"Revoked {show_id('key', key_id)}.")


@keys.command("rotate")
@click.argument("key_id", callback=_id_of("key"))
@click.option(
    "--overlap-seconds",
    type=click.IntRange(0, MAX_OVERLAP_SECONDS),
    default=86400,
    show_default=True,
    help="How long the old key goes on working.",
)
@as_json
def rotate_key(*, key_id: UUID, overlap_seconds: int, as_json: bool) -> None:
    """Replace the key KEY_ID by a new one like it, and show that one, this once."""
    with open_database() as store, store.transaction() as connection:
        now = datetime.now(UTC)
        key, secret = service.rotate_key(connection, now, key_id, client_id=None, overlap_seconds=overlap_seconds)
        ends_at = service.get_key(connection, key_id, client_id=None).ends_at or now
    old, until = show_id("key", key_id), rfc3339(ends_at)
    replaces = {"replaces": {"id": old, "works_until": until}} if as_json else {}
    _print_key(present_key(key) | replaces, secret, as_json=as_json)
    if as_json:
        return
    if ends_at <= now:
        click.echo(f"The old key, {old}, has stopped working.", err=True)
    else:
        click.echo(f"The old key, {old}, works until {until}. To end it now: smsapi keys revoke {old}", err=True)

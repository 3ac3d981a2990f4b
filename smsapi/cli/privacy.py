"""``smsapi privacy``: what is stored of one person is erased at their request."""

from typing import Any, Final

import click

from smsapi.app import build_deps
from smsapi.cli.admin import as_json, open_database, print_json
from smsapi.privacy.service import Erased, erase_number
from smsapi.settings import read_settings
from smsapi.sms.phone import E164
from smsapi.timekeeping import set_clock_of

# Nothing here asks Plivo or signs a token, so that the database's setting is enough.
_NEVER_USED: Final[dict[str, Any]] = {"plivo_auth_id": "MA" + "0" * 18, "plivo_auth_token": "-", "jwt_secret": "-" * 32}


@click.group()
def privacy() -> None:
    """Erase what is stored of one person."""


def _number(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if E164.fullmatch(value) is None:
        raise click.BadParameter("It has to be an E.164 number such as +14155550123.")
    return value


@privacy.command("erase")
@click.option("--number", required=True, callback=_number, help="The person's number, in E.164.")
@as_json
def erase(*, number: str, as_json: bool) -> None:
    """Erase a number and what was texted to it, everywhere; what waits to be sent to it is canceled.

    Counts, segments and prices stay. It cannot be undone.
    """
    with open_database() as store:
        world = build_deps(read_settings(**_NEVER_USED), database=store, clock=set_clock_of(store))
        try:
            erased = erase_number(world, number)
        finally:
            world.executor.shutdown()
    if as_json:
        print_json({"rows": dict(erased.rows), "canceled": erased.canceled, "left": erased.left})
        return
    for line in _lines(erased):
        click.echo(line)


def _lines(erased: Erased) -> list[str]:
    lines = [f"{name:<12}{count}" for name, count in erased.rows.items()]
    lines.append(f"{'canceled':<12}{erased.canceled}")
    if erased.left:
        lines.append(f"{erased.left} are being sent or looked for at Plivo. Run it again later.")
    return lines

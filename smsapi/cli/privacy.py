"""``smsapi privacy``: what is stored of one person is erased at their request."""

import click

from smsapi.cli.admin import as_json, open_database, print_json
from smsapi.cli.offline import working_on
from smsapi.privacy.service import Erased, erase_number
from smsapi.sms.phone import InvalidNumber, read_number, unwrap_number


@click.group()
def privacy() -> None:
    """Erase what is stored of one person."""


def _number(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        return read_number(unwrap_number(value))
    except InvalidNumber as error:
        raise click.BadParameter(str(error)) from None


@privacy.command("erase")
@click.option("--number", required=True, callback=_number, help="The person's number, in E.164.")
@as_json
def erase(*, number: str, as_json: bool) -> None:
    """Erase a number and what was texted to it, everywhere; what waits to be sent to it is canceled.

    Counts, segments and prices stay. It cannot be undone.
    """
    with open_database() as store, working_on(store) as world:
        erased = erase_number(world, number)
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

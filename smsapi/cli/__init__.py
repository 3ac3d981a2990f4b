"""The ``smsapi`` command."""

import sys

import click

from smsapi import __version__
from smsapi.cli.admin import clients, database, keys
from smsapi.cli.dev import dev
from smsapi.cli.run import openapi, serve, settings_page, simulator
from smsapi.cli.send import send
from smsapi.errors import SmsapiError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smsapi")
def cli() -> None:
    """Send SMS through Plivo: nothing lost, nothing twice, nothing that surprises the bill."""


for command in (dev, serve, simulator, send, clients, keys, database, openapi, settings_page):
    cli.add_command(command)


def main() -> None:
    """Run the command; an error of ours is a sentence on stderr and exit code 1, not a traceback."""
    try:
        cli()
    except SmsapiError as error:
        for line in error.detail.splitlines():
            click.echo(f"smsapi: {line}", err=True)
        sys.exit(1)

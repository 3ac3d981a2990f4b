"""The ``smsapi`` command."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import click

from smsapi import __version__
from smsapi.errors import SmsapiError

# Where each command is. Only the one that is called is loaded: a script's `smsapi send` should not wait for a server.
_COMMANDS = {
    "batch": ("smsapi.cli.batch", "batch"),
    "clients": ("smsapi.cli.admin", "clients"),
    "db": ("smsapi.cli.admin", "database"),
    "dev": ("smsapi.cli.dev", "dev"),
    "doctor": ("smsapi.cli.doctor", "doctor"),
    "keys": ("smsapi.cli.admin", "keys"),
    "messages": ("smsapi.cli.messages", "messages"),
    "openapi": ("smsapi.cli.run", "openapi"),
    "privacy": ("smsapi.cli.privacy", "privacy"),
    "queue": ("smsapi.cli.queue", "queue"),
    "send": ("smsapi.cli.send", "send"),
    "serve": ("smsapi.cli.serve", "serve"),
    "settings": ("smsapi.cli.run", "settings_page"),
    "simulator": ("smsapi.cli.run", "simulator"),
    "webhooks": ("smsapi.cli.webhooks", "webhooks"),
    "worker": ("smsapi.cli.serve", "worker"),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, loaded now."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smsapi")
def cli() -> None:
    """Send SMS through Plivo: nothing lost, nothing twice, nothing that surprises the bill."""


@contextmanager
def told_in_sentences() -> Iterator[None]:
    """Print what an error of ours in the block says on stderr, and exit with 1, without a traceback."""
    try:
        yield
    except SmsapiError as error:
        for line in error.detail.splitlines():
            click.echo(f"smsapi: {line}", err=True)
        sys.exit(1)


def main() -> None:
    """Run the command; an error of ours is a sentence on stderr and exit code 1, not a traceback."""
    with told_in_sentences():
        cli()

"""The pages of docs/ that are made from the code. ``python -m tests.support.pages`` writes them."""

from collections.abc import Iterator
from pathlib import Path

import click

from smsapi.cli import cli
from smsapi.settings import describe_settings
from smsapi.web.problems import PROBLEMS

DOCS = Path(__file__).parents[2] / "docs"

_CLI = """\
# The `smsapi` command

What each command says of itself with `--help`. An error is a sentence on stderr and exit code 1, wrong usage is exit
code 2; `smsapi send` and `smsapi batch` have more of them, below."""

_ERRORS = """\
# Errors

Every error is `application/problem+json` (RFC 9457). `code` is stable and is what to branch on; `detail` is for people.
`GET /problems/{code}` says the same as this page."""


def settings_page() -> str:
    return describe_settings() + "\n"


def cli_page() -> str:
    return "\n".join([_CLI, *_commands(cli, None)]) + "\n"


def errors_page() -> str:
    rows = [_ERRORS, "", "| code | status | what it means | what to do |", "|---|---|---|---|"]
    rows += [f"| `{code}` | {each.status} | {each.title} | {each.advice} |" for code, each in PROBLEMS.items()]
    return "\n".join(rows) + "\n"


def _commands(command: click.Command, parent: click.Context | None) -> Iterator[str]:
    name = "smsapi" if parent is None else command.name
    settings = {"terminal_width": 100, "max_content_width": 100, **command.context_settings}
    context = click.Context(command, parent=parent, info_name=name, **settings)
    yield f"\n## `{context.command_path}`\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None
            yield from _commands(found, context)


PAGES = {"settings.md": settings_page, "cli.md": cli_page, "errors.md": errors_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")

"""Progress of a batch as a person sees it: bars in a terminal, a line now and then elsewhere, and a table at the end.

Nothing else imports ``rich``, so that the other commands start as quickly as without it.
"""

import os
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, Self

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from smsapi.cli.standing import Standing

_NAME: Final = "smsapi batch"
_LINE_EVERY_SECONDS: Final = 10.0
_PER_SECOND: Final = 4
_MEGABYTE: Final = 1_000_000
_WHOLE_FROM: Final = 10


class Screen(AbstractContextManager["Screen"], Protocol):
    """Where progress is shown, for the length of a block; all of it on stderr."""

    def say(self, line: str) -> None:
        """Tell something that happened."""

    def reading(self, count: int, total: int | None) -> None:
        """Show how many bytes were read."""

    def uploading(self, count: int, total: int) -> None:
        """Show how many bytes have left."""

    def sending(self, batch: Standing) -> None:
        """Show how many messages are through."""


def open_screen(*, quiet: bool) -> Screen:
    """Return bars where stderr is a terminal that can show them; otherwise lines, or nothing where ``quiet``."""
    if sys.stderr.isatty() and os.environ.get("TERM") not in {None, "", "dumb", "unknown"}:
        return _Bars()
    return _Lines(quiet=quiet)


def print_table(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values on stdout, framed where that is a terminal."""
    if not sys.stdout.isatty():
        for name, value in rows:
            click.echo(f"{name:<13}{value}")
        return
    table = Table(box=box.ROUNDED, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows:
        # As Text: a value is no markup, whatever brackets it has.
        table.add_row(Text(name), Text(value))
    Console(highlight=False).print(table)


def rate_of(batch: Standing) -> str:
    """Return its rate as text, once it is over that of the whole, or a hyphen."""
    rate = batch.done / batch.seconds_taken if batch.seconds_taken else batch.rate
    if rate is None:
        return "-/s"
    return f"{rate:,.0f}/s" if rate >= _WHOLE_FROM else f"{rate:.1f}/s"


def time_of(batch: Standing) -> str:
    """Return how long it will still take, or, once it is over, took; as hours, minutes and seconds, or hyphens."""
    seconds = batch.seconds_left if batch.seconds_taken is None else batch.seconds_taken
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class _Bars:
    """Bars in a terminal, one at a time. What is said stands above them."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def say(self, line: str) -> None:
        # Wrapped by the terminal itself, so that a command can be copied as it is.
        self._console.print(Text(f"{_NAME}: {line}"), soft_wrap=True)

    def reading(self, count: int, total: int | None) -> None:
        self._show("reading", "Reading", SpinnerColumn("line"), DownloadColumn(), total=total, completed=count)

    def uploading(self, count: int, total: int) -> None:
        columns = (BarColumn(None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True))
        said = "Checking" if count >= total else "Uploading"
        self._show("upload", said, *columns, total=total, completed=count)

    def sending(self, batch: Standing) -> None:
        columns = (
            BarColumn(None),
            TextColumn("{task.fields[through]}"),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]:>7}"),
            TextColumn("{task.fields[time]}"),
        )
        through = f"{batch.done:,}/{batch.accepted:,}" + (f", {batch.not_sent:,} not sent" if batch.not_sent else "")
        through += f", {batch.standstill}" if batch.standstill else ""
        said = {"through": through, "rate": rate_of(batch), "time": time_of(batch)}
        # Of nothing at all everything is done.
        total, done = (batch.accepted, batch.done) if batch.accepted else (1, 1)
        self._show("sending", batch.status.capitalize(), *columns, total=total, completed=done, **said)

    def _show(self, stage: str, description: str, *columns: ProgressColumn, total: int | None, **values: Any) -> None:
        if stage != self._stage or self._progress is None or self._task is None:
            self._stop()
            self._stage = stage
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                *columns,
                console=self._console,
                expand=stage != "reading",
                refresh_per_second=_PER_SECOND,
                transient=stage == "reading",
                # What a command prints is not for this console.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._progress.add_task(description, total=total, **values)
            self._progress.start()
        self._progress.update(self._task, description=description, total=total, refresh=stage == "sending", **values)

    def _stop(self) -> None:
        if self._progress is not None:
            if self._stage == "upload" and self._task is not None and self._progress.finished:
                self._progress.update(self._task, description="Uploaded")
            self._progress.stop()
        self._progress = None


class _Lines:
    """A line now and then, and where the batch's status changes."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stage = ""
        self._said_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it as it is."""

    def say(self, line: str) -> None:
        if not self._quiet:
            click.echo(f"{_NAME}: {line}", err=True)

    def reading(self, count: int, total: int | None) -> None:
        del total
        self._now_and_then("reading", f"read {count / _MEGABYTE:,.1f} MB", begins=False)

    def uploading(self, count: int, total: int) -> None:
        share = 100 * count // max(1, total)
        said = f"uploaded {count / _MEGABYTE:,.1f} of {total / _MEGABYTE:,.1f} MB ({share} %)"
        self._now_and_then("uploading", said, begins=False)

    def sending(self, batch: Standing) -> None:
        share = 100 * batch.done // max(1, batch.accepted)
        said = f"{batch.status}: {batch.done:,} of {batch.accepted:,} ({share} %)"
        if batch.seconds_taken is not None:
            said = f"{said}, {rate_of(batch)}, in {time_of(batch)}"
        elif batch.standstill is not None:
            said = f"{said}, {batch.standstill}"
        elif batch.rate is not None:
            said = f"{said}, {rate_of(batch)}, {time_of(batch)} left"
        self._now_and_then(f"{batch.status} {batch.standstill}", said)

    def _now_and_then(self, stage: str, line: str, *, begins: bool = True) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._said_at = stage, now - (_LINE_EVERY_SECONDS if begins else 0.0)
        if now - self._said_at >= _LINE_EVERY_SECONDS:
            self._said_at = now
            self.say(line)

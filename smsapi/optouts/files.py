"""The ledger as CSV: lists of numbers read in, and what stands written out."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from smsapi.clock import rfc3339
from smsapi.errors import InvalidInput
from smsapi.optouts.models import OptOut
from smsapi.sms.phone import InvalidNumber, read_number
from smsapi.sms.sender import InvalidSender, classify_sender

MOST_ROWS: Final = 10_000
MOST_REJECTS: Final = 100
_LONGEST_REASON = 255
_COLUMNS: Final = ("number", "from", "reason")
_EXPORTED: Final = ("number", "scope", "from", "source", "reason", "opted_out_at")


@dataclass(frozen=True, slots=True)
class Line:
    """One number to opt out: from one sender of the client, or from all."""

    number: str
    sender: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be taken: its number in the file (the header is 1) and why."""

    row: int
    message: str


def read_csv(text: str) -> tuple[Sequence[Line], Sequence[Reject]]:
    """Return the rows of a CSV with a header row: ``number``, and perhaps ``from`` and ``reason``.

    What was exported can be read in: its further columns are passed over. Bad rows never stop good ones.

    Raises:
        InvalidInput: there is no column ``number``, or there are more than ten thousand rows.

    """
    # Excel begins a file in UTF-8 with a byte order mark.
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    lines: list[Line] = []
    rejects: list[Reject] = []
    try:
        columns = _columns(next(rows, []))
        for place, row in enumerate(rows, start=2):
            if place > MOST_ROWS + 1:
                raise InvalidInput.at("", f"At most {MOST_ROWS} rows at once.")
            if any(cell.strip() for cell in row):
                _sort_in(_cells(columns, row), place, lines, rejects)
    except csv.Error as error:
        raise InvalidInput.at("", f"Not a CSV: {error}.") from None
    return lines, rejects


def _columns(header: Sequence[str]) -> Sequence[str]:
    names = [name.strip().lower() for name in header]
    if names.count("number") != 1:
        raise InvalidInput.at("", "The first row must name the columns, and one of them number.")
    if unknown := sorted({name for name in names if name not in {*_COLUMNS, *_EXPORTED}}):
        raise InvalidInput.at("", f"There is no such column as {', '.join(unknown)[:100]}.")
    return names


def _cells(columns: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    return {name: cell.strip() for name, cell in zip(columns, row, strict=False)}


def _sort_in(cells: dict[str, str], place: int, lines: list[Line], rejects: list[Reject]) -> None:
    try:
        number = read_number(cells.get("number", ""))
        sender = classify_sender(cells["from"]).value if cells.get("from") else None
    except (InvalidNumber, InvalidSender) as error:
        rejects.append(Reject(place, str(error)))
        return
    reason = cells.get("reason") or None
    if reason is not None and (len(reason) > _LONGEST_REASON or not reason.isprintable()):
        rejects.append(Reject(place, f"The reason must be one line of at most {_LONGEST_REASON} characters."))
        return
    lines.append(Line(number, sender, reason))


def write_csv(entries: Iterable[OptOut]) -> Iterator[str]:
    """Yield the entries as CSV, the header first."""
    yield _written(_EXPORTED)
    for entry in entries:
        scope = entry.scope
        shown = (scope.number, scope.name, scope.sender, entry.source, entry.reason, rfc3339(entry.at))
        yield _written([value or "" for value in shown])


def _written(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()

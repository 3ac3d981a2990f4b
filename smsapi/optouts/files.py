"""The ledger as CSV: lists of numbers read in, and what stands written out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from smsapi.clock import rfc3339
from smsapi.csvfiles import CsvFile, Row, restore, write_row
from smsapi.errors import InvalidInput
from smsapi.optouts.models import OptOut
from smsapi.sms.phone import InvalidNumber, read_number, unwrap_number
from smsapi.sms.sender import InvalidSender, classify_sender

MOST_ROWS: Final = 10_000
MOST_REJECTS: Final = 100
_LONGEST_REASON = 255
# As of a reason in JSON (``smsapi.web.fields.Line``).
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
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


def read_csv(content: bytes) -> tuple[Sequence[Line], Sequence[Reject]]:
    """Return the rows of a CSV with a header row: ``number``, and perhaps ``from`` and ``reason``.

    What was exported can be read in: its further columns are passed over, and the apostrophes taken away that kept its
    cells from being formulas. Bad rows never stop good ones.

    Raises:
        InvalidInput: it cannot be read as :class:`smsapi.csvfiles.CsvFile` says, there is a column that is not known,
            or there are more than ten thousand rows.

    """
    file = CsvFile([content], "number", others=_EXPORTED)
    names = [name.lower() for name in file.names]
    if unknown := next((name for name in file.names if name and name.lower() not in _EXPORTED), None):
        raise InvalidInput.at(
            "", f"Row {file.header_row}, the header, names a column that is not known: {unknown[:64]}."
        )
    lines: list[Line] = []
    rejects: list[Reject] = []
    for row in file:
        if row is None:
            continue
        if len(lines) + len(rejects) == MOST_ROWS:
            raise InvalidInput.at("", f"At most {MOST_ROWS} rows at once.")
        try:
            lines.append(_line_of(row, names))
        except _Unfit as unfit:
            rejects.append(Reject(row.number, str(unfit)))
    return lines, rejects


class _Unfit(ValueError):
    """The row cannot be taken; the message is for the caller."""


def _line_of(row: Row, names: Sequence[str]) -> Line:
    if row.fault is not None:
        raise _Unfit(row.fault)
    cells = {name: restore(cell) for name, cell in zip(names, row.cells, strict=True)}
    try:
        number = read_number(unwrap_number(cells["number"]))
        written = unwrap_number(cells.get("from", ""))
        sender = classify_sender(written).value if written else None
    except (InvalidNumber, InvalidSender) as error:
        raise _Unfit(str(error)) from None
    return Line(number, sender, _reason_of(cells.get("reason", "")))


def _reason_of(cell: str) -> str | None:
    reason = cell.strip()
    if found := _CONTROL.search(reason):
        raise _Unfit(f"The reason must not contain control characters (U+{ord(found.group()):04X}).")
    if len(reason) > _LONGEST_REASON:
        raise _Unfit(f"The reason must have at most {_LONGEST_REASON} characters.")
    return reason or None


def write_csv(entries: Iterable[OptOut]) -> Iterator[str]:
    """Yield the entries as CSV, the header first."""
    yield write_row(_EXPORTED)
    for entry in entries:
        scope = entry.scope
        shown = (scope.number, scope.name, scope.sender, entry.source, entry.reason, rfc3339(entry.at))
        yield write_row([value or "" for value in shown])

"""Recipients out of the bytes of a body: CSV, lines of JSON, or a list of JSON; a piece at a time."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, Protocol

import orjson

from smsapi.batches.orders import Broken, Given
from smsapi.errors import InvalidInput

# Of a line, and of a row of a CSV, which may have several. No text is longer.
LONGEST_LINE: Final = 64 * 1024
# More than any list has, and few enough for each row to be looked through.
MOST_COLUMNS: Final = 1_000
_DELIMITERS: Final = (",", ";", "\t")
_QUOTED: Final = re.compile(r'"[^"]*"')
_MEMBERS: Final = frozenset({"to", "vars", "reference"})
_BOM: Final = "\ufeff"


class Written(str):
    """A number of a JSON text as it was written there."""

    __slots__ = ()


class Rows(Protocol):
    """The recipients of a batch, once and in their order."""

    @property
    def columns(self) -> Sequence[str] | None:
        """Return the variables that every row has a value for, or None where each row has its own."""
        ...

    def __iter__(self) -> Iterator[Given | Broken | None]:
        """Yield each row; None for a line with nothing in it."""
        ...


class CsvRows:
    """The rows of a CSV with a header. A fault of the file is an InvalidInput that names the row it is in."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._row = 0
        self._length = 0
        lines = self._lines(pieces)
        first = next((line for line in lines if self._has_words(line)), "")
        delimiter = max(_DELIMITERS, key=_QUOTED.sub("", first).count)
        self._records = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        self._names = self._header()
        self.columns: Sequence[str] = [name for name in self._names if name != "to"]

    def __iter__(self) -> Iterator[Given | Broken | None]:
        """Yield the rows; the header is row 1."""
        names, width = self._names, len(self._names)
        to, reference = names.index("to"), names.index("reference") if "reference" in names else None
        while (cells := self._next()) is not None:
            if not "".join(cells).strip():
                yield None
            elif len(cells) != width:
                shown = cells[to].strip() if len(cells) > to else ""
                yield Broken(self._row, shown, f"The row has {len(cells)} cells and the header {width}.")
            else:
                named = None if reference is None else cells[reference].strip() or None
                yield Given(self._row, cells[to].strip(), dict(zip(names, cells, strict=True)), named)

    def _header(self) -> Sequence[str]:
        names = [name.strip() for name in self._next() or []]
        if "to" not in names:
            raise InvalidInput.at("", f"Row {self._row}, the header, must name the columns, and one of them to.")
        if len(names) > MOST_COLUMNS:
            raise InvalidInput.at("", f"Row {self._row}, the header, names more than {MOST_COLUMNS} columns.")
        if doubled := sorted(name for name, count in Counter(names).items() if name and count > 1):
            raise InvalidInput.at("", f"Row {self._row}, the header, names a column twice: {doubled[0][:64]}.")
        return names

    def _next(self) -> list[str] | None:
        self._length = 0
        try:
            cells = next(self._records, None)
        except csv.Error as error:
            raise self._fault(_said_of(error)) from None
        self._row += 1
        return cells

    def _has_words(self, line: str) -> bool:
        if line.strip():
            return True
        self._row += 1
        return False

    def _lines(self, pieces: Iterable[bytes]) -> Iterator[str]:
        for number, line in enumerate(_split(pieces)):
            if len(line) > LONGEST_LINE:
                raise self._fault(f"is longer than {LONGEST_LINE} bytes")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                raise self._fault("is not in UTF-8") from None
            if "\0" in text:
                raise self._fault("holds U+0000")
            self._length += len(text)
            if self._length > LONGEST_LINE:
                raise self._fault(f"is longer than {LONGEST_LINE} characters: perhaps a quote in it is not closed")
            # Excel begins a file in UTF-8 with a byte order mark.
            yield text if number else text.removeprefix(_BOM)

    def _fault(self, said: str) -> InvalidInput:
        return InvalidInput.at("", f"Row {self._row + 1} {said}.")


def _said_of(error: csv.Error) -> str:
    return "has a quote that is not closed" if "unexpected end" in str(error) else f"is no CSV: {error}"


class JsonLines:
    """The rows of lines of JSON, each an object as in a list of recipients; the first line is row 1."""

    columns = None

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[Given | Broken | None]:
        """Yield the rows. A line that is too long is an InvalidInput, any other fault concerns its row alone."""
        for row, line in enumerate(_split(self._pieces), start=1):
            if len(line) > LONGEST_LINE:
                raise InvalidInput.at("", f"Row {row} is longer than {LONGEST_LINE} bytes.")
            text = line.strip()
            yield _of_line(row, text.removeprefix(b"\xef\xbb\xbf") if row == 1 else text) if text else None


class JsonList:
    """The rows of a list of recipients; the first is row 1."""

    columns = None

    def __init__(self, recipients: Sequence[Any]) -> None:
        self._recipients = recipients

    def __iter__(self) -> Iterator[Given | Broken | None]:
        """Yield the rows."""
        for row, value in enumerate(self._recipients, start=1):
            yield _recipient(row, value)


def read_recipients(text: bytes) -> Any:
    """Return a JSON value in which numbers are as they were written, and an object with a name twice is marked.

    The text has been found to be JSON that orjson takes, which refuses lone surrogates and what is nested deep.
    """
    return json.loads(text, object_pairs_hook=_object, parse_int=Written, parse_float=Written)


class Doubled(dict[str, Any]):
    """An object that names the same thing twice: nobody knows which was meant."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Doubled(found)


def _of_line(row: int, line: bytes) -> Given | Broken:
    try:
        orjson.loads(line)
        value = read_recipients(line)
    except (ValueError, RecursionError):
        return Broken(row, "", "The line is no JSON object in UTF-8.")
    return _recipient(row, value)


def _recipient(row: int, value: Any) -> Given | Broken:
    if not isinstance(value, dict):
        return Broken(row, "", "A recipient must be an object.")
    to = value.get("to")
    if fault := _fault_of(value):
        return Broken(row, to if isinstance(to, str) else "", fault)
    return Given(row, str(to), value.get("vars") or {}, value.get("reference"))


def _fault_of(value: dict[str, Any]) -> str | None:
    to, variables, reference = value.get("to"), value.get("vars"), value.get("reference")
    faults = (
        (isinstance(value, Doubled) or isinstance(variables, Doubled), "A member is named twice."),
        (not value.keys() <= _MEMBERS, "A recipient has to, vars and reference, and nothing else."),
        (not _is_text(to), "to must be a text: the number in E.164."),
        (reference is not None and not _is_text(reference), "reference must be a text, and not an empty one."),
        (variables is not None and not _are_variables(variables), "vars must be an object of texts and numbers."),
    )
    return next((said for is_so, said in faults if is_so), None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Written) and value != ""


def _are_variables(value: Any) -> bool:
    return isinstance(value, dict) and all(each is None or isinstance(each, str) for each in value.values())


def _split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines with their ends; one that is longer than any may be is given up early, as far as it came."""
    rest = b""
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line + b"\n"
        if len(rest) > LONGEST_LINE:
            break
    if rest:
        yield rest

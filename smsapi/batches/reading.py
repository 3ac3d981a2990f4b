"""Recipients out of the bytes of a body: CSV, lines of JSON, or a list of JSON; a piece at a time."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from smsapi.batches.orders import Broken, Given
from smsapi.csvfiles import LONGEST_LINE, CsvFile, count_of_cells, restore, split_lines
from smsapi.errors import InvalidInput
from smsapi.sms.phone import unwrap_number
from smsapi.sms.text import plain_name, without_mark

_MEMBERS: Final = frozenset({"to", "vars", "reference"})


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
        self._file = CsvFile(pieces, "to", others=("reference",))
        self._to = self._file.column("to")
        self.columns: Sequence[str] = [name for place, name in enumerate(self._file.names) if place != self._to]

    def __iter__(self) -> Iterator[Given | Broken | None]:
        """Yield the rows; the header is row 1."""
        names, to, reference = self._file.names, self._to or 0, self._file.column("reference")
        for row in self._file:
            if row is None:
                yield None
                continue
            number = unwrap_number(restore(row.cells[to]))
            if row.fault is not None:
                yield Broken(row.number, number, row.fault)
                continue
            named = None if reference is None else row.cells[reference].strip() or None
            there = len(names) - row.missing
            # Of the cells that are there only: a million short rows under a thousand columns would take minutes.
            variables: dict[str, str | None] = dict(zip(names[:there], row.cells[:there], strict=True))
            short = count_of_cells(there, len(names)) if row.missing else None
            yield Given(row.number, number, variables, named, short)


class JsonLines:
    """The rows of lines of JSON, each an object as in a list of recipients; the first line is row 1."""

    columns = None

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[Given | Broken | None]:
        """Yield the rows. A line that is too long is an InvalidInput, any other fault concerns its row alone."""
        for row, line in enumerate(split_lines(self._pieces), start=1):
            if len(line) > LONGEST_LINE:
                raise InvalidInput.at("", f"Row {row} is longer than {LONGEST_LINE} bytes.")
            text = without_mark(line.strip()) if row == 1 else line.strip()
            yield _of_line(row, text) if text else None


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
    variables = {plain_name(name): each for name, each in (value.get("vars") or {}).items()}
    return Given(row, unwrap_number(str(to)), variables, value.get("reference"))


def _fault_of(value: dict[str, Any]) -> str | None:
    to, variables, reference = value.get("to"), value.get("vars"), value.get("reference")
    faults = (
        (isinstance(value, Doubled) or isinstance(variables, Doubled), "A member is named twice."),
        (not value.keys() <= _MEMBERS, "A recipient has to, vars and reference, and nothing else."),
        (not _is_text(to), "to must be a text: the number in E.164."),
        (reference is not None and not _is_text(reference), "reference must be a text, and not an empty one."),
        (variables is not None and not _are_variables(variables), "vars must be an object of texts and numbers."),
    )
    return next((said for is_so, said in faults if is_so), None) or _twice(variables or {})


def _twice(variables: Mapping[str, Any]) -> str | None:
    """Return what is wrong where two names are the same once they are composed."""
    names = Counter(map(plain_name, variables))
    if len(names) == len(variables):
        return None
    doubled = next((name for name, count in names.items() if count > 1), None)
    return None if doubled is None else f"vars names a variable twice: {doubled[:64]}."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Written) and value != ""


def _are_variables(value: Any) -> bool:
    return isinstance(value, dict) and all(each is None or isinstance(each, str) for each in value.values())

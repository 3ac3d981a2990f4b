"""CSV: the one reader of what people's spreadsheets write, and the one writer of what spreadsheets may open."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from smsapi.errors import InvalidInput
from smsapi.sms.text import is_blank, plain_name

# Of a line, and of a row, which may have several. No text is longer.
LONGEST_LINE: Final = 64 * 1024
# More than any list has, and few enough for each row to be looked through.
MOST_COLUMNS: Final = 1_000
_DELIMITERS: Final = (",", ";", "\t")
_NAMED_DELIMITERS: Final = (*_DELIMITERS, "|")
# Excel writes and reads such a first line; when it is saved again it may have got quotes and empty cells.
_SEPARATOR_LINE: Final = re.compile(r'\s*"?sep=(.)"?[,;|\s]*', re.IGNORECASE | re.DOTALL)
_QUOTED: Final = re.compile(r'"[^"]*"')
_LINE_MARK: Final = re.compile(rb'"|\r\n|\r|\n')
_BOM: Final = "\ufeff"

# With one of these at its beginning, some in full width, a spreadsheet takes a cell for a formula. Apostrophes before
# it are told from ours by one more of them.
_FORMULA: Final = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NEUTRALISED: Final = re.compile(f"'{_FORMULA.pattern}")
_DIALLED: Final = re.compile(r"\+[0-9]+")

_IN_PLAIN_WORDS: Final = (
    ("unexpected end", "has a quote that is not closed"),
    ("expected after", "is no CSV: something follows a closing quote; a quote within a cell is written twice"),
    (
        "new-line",
        "is no CSV: a line ends in the middle of it, in another way than the first line does",
    ),
    ("field larger", f"is longer than {LONGEST_LINE} characters"),
)


class Row(NamedTuple):
    """A row below the header: as many cells as the header has; those that it lacks are empty.

    ``number`` is that of a spreadsheet: empty rows count, a line ``sep=;`` does not. With a ``fault`` the row is to be
    refused, and the cells are what there is of it. ``missing`` of its last cells were not there.
    """

    number: int
    cells: Sequence[str]
    fault: str | None
    missing: int = 0


class CsvFile:
    """A CSV with a header, read from pieces of bytes as they come. Its rows can be had once.

    Comma, semicolon and tab part the cells, or what a first line ``sep=…`` names; the lines end as the first one does;
    a byte order mark and empty lines before the header are passed over. ``key`` is the column that there must be; it
    and ``others`` are known in upper and lower case, and so is no other column. What makes the whole file unreadable is
    an InvalidInput that names the row.
    """

    def __init__(self, pieces: Iterable[bytes], key: str, *, others: Sequence[str] = ()) -> None:
        self._key = key
        self._row = 0
        self._length = 0
        self._blind = frozenset({key, *others})
        lines = self._lines(iter(pieces))
        first, delimiter = self._first(lines)
        self._records = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        self.names = self._header()
        self.header_row = self._row

    def column(self, name: str) -> int | None:
        """Return the place of one of the columns that are known in any case, or None where there is no such column."""
        return next((place for place, each in enumerate(self.names) if each.lower() == name), None)

    def __iter__(self) -> Iterator[Row | None]:
        """Yield the rows; None for one with nothing in it."""
        width = len(self.names)
        while (cells := self._next()) is not None:
            if not "".join(cells).strip():
                yield None
            elif len(cells) == width:
                yield Row(self._row, cells, None)
            elif any(cell.strip() for cell in cells[width:]):
                yield Row(self._row, cells[:width], count_of_cells(len(cells), width))
            else:
                missing = max(width - len(cells), 0)
                yield Row(self._row, cells[:width] + [""] * missing, None, missing)

    def _first(self, lines: Iterator[str]) -> tuple[str, str]:
        """Return the first line with something in it, and what parts the cells."""
        named, may_name = None, True
        for line in lines:
            if may_name and (found := _SEPARATOR_LINE.fullmatch(line)):
                if (named := found[1]) not in _NAMED_DELIMITERS:
                    raise self._fault("names a separator that is not known: it may be a comma, a semicolon, a tab or |")
                # A spreadsheet does not show this line.
                may_name, self._length = False, 0
            elif is_blank(line.replace('""', "").strip(",;|\t\r\n ")):
                self._row, self._length = self._row + 1, 0
            else:
                return line, named or max(_DELIMITERS, key=lambda each: self._likelihood(line, each))
        raise self._no_header()

    def _likelihood(self, line: str, delimiter: str) -> tuple[bool, int]:
        bare = _QUOTED.sub(lambda found: found[0].replace(delimiter, ""), line)
        cells = bare.split(delimiter)
        return any(plain_name(cell.strip('"\r\n ')).lower() == self._key for cell in cells), len(cells)

    def _header(self) -> Sequence[str]:
        names = [plain_name(name) for name in self._next() or []]
        known = [name.lower() if name.lower() in self._blind else name for name in names]
        if self._key not in known:
            self._row -= 1
            raise self._no_header()
        if len(names) > MOST_COLUMNS:
            raise InvalidInput.at("", f"Row {self._row}, the header, names more than {MOST_COLUMNS} columns.")
        if doubled := sorted(name for name, count in Counter(known).items() if name and count > 1):
            raise InvalidInput.at("", f"Row {self._row}, the header, names a column twice: {doubled[0][:64]}.")
        return names

    def _next(self) -> list[str] | None:
        self._length = 0
        try:
            cells = next(self._records, None)
        except csv.Error as error:
            said = (plain for word, plain in _IN_PLAIN_WORDS if word in str(error))
            raise self._fault(next(said, "is no CSV")) from None
        self._row += 1
        return cells

    def _lines(self, pieces: Iterator[bytes]) -> Iterator[str]:
        begun: list[bytes] = []
        end = _find_line_end(pieces, begun)
        for number, line in enumerate(split_lines(chain(begun, pieces), end)):
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

    def _no_header(self) -> InvalidInput:
        return InvalidInput.at(
            "", f"Row {self._row + 1}, the header, must name the columns, and one of them {self._key}."
        )

    def _fault(self, said: str) -> InvalidInput:
        return InvalidInput.at("", f"Row {self._row + 1} {said}.")


def count_of_cells(found: int, width: int) -> str:
    """Return the sentence for a row that has more cells than the header, or lacks one that is needed."""
    return f"The row has {found} cells and the header {width}."


def split_lines(pieces: Iterable[bytes], end: bytes = b"\n") -> Iterator[bytes]:
    """Yield the lines with their ends, one byte each.

    One that is longer than LONGEST_LINE is given up early, as far as it came, and is the last.
    """
    rest = b""
    for piece in pieces:
        lines = (rest + piece).split(end)
        rest = lines.pop()
        for line in lines:
            yield line + end
        if len(rest) > LONGEST_LINE:
            break
    if rest:
        yield rest


def _find_line_end(pieces: Iterator[bytes], begun: list[bytes]) -> bytes:
    """Return the last byte of the first line end that is not in quotes; ``begun`` gets the pieces that were read."""
    quoted = after_return = False
    read = 0
    for piece in pieces:
        begun.append(piece)
        if after_return and piece:
            return b"\n" if piece.startswith(b"\n") else b"\r"
        for mark in _LINE_MARK.finditer(piece):
            if mark[0] == b'"':
                quoted = not quoted
            elif quoted:
                continue
            elif mark[0] != b"\r":
                return b"\n"
            elif mark.end() < len(piece):
                return b"\r"
            else:
                after_return = True
        read += len(piece)
        if read > LONGEST_LINE:
            # Whatever comes, the line is too long.
            break
    return b"\r" if after_return else b"\n"


def write_row(cells: Sequence[str]) -> str:
    """Return the cells as a line of CSV with its end, CR and LF.

    No cell is a formula to a spreadsheet: what would be one gets an apostrophe, which :func:`restore` takes away. A
    number in its usual form is what it seems, and stays.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(map(_neutralised, cells))
    return line.getvalue()


def restore(cell: str) -> str:
    """Return what a cell of :func:`write_row` was before it got its apostrophe, if it got one."""
    return cell[1:] if _NEUTRALISED.match(cell) else cell


def _neutralised(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) and not _DIALLED.fullmatch(cell) else cell

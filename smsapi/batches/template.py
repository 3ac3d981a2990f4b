"""A text with places for variables, such as ``Hi {{name}}``; pure functions of values."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from smsapi.errors import InvalidInput
from smsapi.sms.text import NOT_IN_TEXT, is_blank, plain_name

# A text is at most 1,600 characters in the end; more places than these only make work.
MOST_PLACES: Final = 100
# As of a single send (``smsapi.send.schemas``): what is longer is not even put together.
LONGEST_TEXT: Final = 100_000

_LONGEST_NAME: Final = 64
_PLACE: Final = re.compile(r"\{\{([^{}]*)\}\}")
# Besides letters, marks and digits: hyphen, underscore, and the joiners that some scripts need within a word.
_IN_NAMES: Final = frozenset("-_\u200c\u200d")


class Unfilled(ValueError):
    """A row lacks a variable of the text, or has nothing in it; the message is for the caller."""


class Unfit(ValueError):
    """What a row has for a variable cannot be texted; the message is for the caller."""


class TooLong(ValueError):
    """With what a row has for its variables the text would be longer than any text may be."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text in parts: what stands between the places, one more than there are places, and what goes into those."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def is_fixed(self) -> bool:
        """Say whether the text is the same for every row."""
        return not self.names

    def fill(self, variables: Mapping[str, str | None], *, longest: int = LONGEST_TEXT) -> str:
        """Return the text for a row; nothing in a value is a place again.

        Raises:
            Unfilled: a variable is missing, empty, or nothing but white space and invisible characters.
            Unfit: a value has control characters but line ends.
            TooLong: the text would have more than ``longest`` characters.

        """
        parts, length = [self.literals[0]], len(self.literals[0])
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            value = variables.get(name)
            if value is None or is_blank(value):
                raise Unfilled(f"The row has nothing for {{{{{name}}}}}.")
            if found := NOT_IN_TEXT.search(value):
                raise Unfit(f"The value for {{{{{name}}}}} has a control character (U+{ord(found.group()):04X}).")
            parts += (value, literal)
            length += len(value) + len(literal)
            if length > longest:
                raise TooLong(f"With its variables the text has more than {longest} characters.")
        return "".join(parts)


def variable_name(written: str) -> str | None:
    """Return the name of a variable as it is compared with those of the rows, or None where it is none.

    A name is 1 to 64 letters of any script, marks, digits, ``_`` and ``-``, composed (NFC); white space and invisible
    characters around it do not count, and upper and lower case make two names.
    """
    name = plain_name(written)
    is_one = 0 < len(name) <= _LONGEST_NAME and all(map(_is_in_names, name))
    return name if is_one else None


def _is_in_names(character: str) -> bool:
    return character.isalnum() or character in _IN_NAMES or unicodedata.category(character).startswith("M")


def no_column(name: str, columns: Iterable[str]) -> str:
    """Return the sentence for a caller whose file has no column for a variable of the text."""
    near = next((each for each in columns if each.casefold() == name.casefold()), None)
    hint = "" if near is None else f", but one called {near}: upper and lower case make two names"
    return f"The file has no column for {{{{{name}}}}}{hint}."


def read_template(text: str) -> Template:
    """Return the template of a text: ``{{name}}`` is a place, named by the rule of :func:`variable_name`.

    Raises:
        InvalidInput: two braces open something else, which would be texted as it stands, or there are too many places.

    """
    literals: list[str] = []
    names: list[str] = []
    for number, part in enumerate(_PLACE.split(text)):
        if number % 2:
            names.append(variable_name(part) or "")
        else:
            literals.append(part)
    if "" in names or any("{{" in literal for literal in literals):
        said = "{{ must open a variable: letters with their marks, digits, _ and -, at most 64 of them, and then }}."
        raise InvalidInput.at("/text", said)
    if len(names) > MOST_PLACES:
        raise InvalidInput.at("/text", f"At most {MOST_PLACES} places for variables.")
    return Template(tuple(literals), tuple(names))

"""A text with places for variables, such as ``Hi {{name}}``; pure functions of values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from smsapi.errors import InvalidInput

# A text is at most 1,600 characters in the end; more places than these only make work.
MOST_PLACES: Final = 100
# As of a single send (``smsapi.send.schemas``): what is longer is not even put together.
LONGEST_TEXT: Final = 100_000

_PLACE: Final = re.compile(r"\{\{[ \t]*([\w-]{1,64})[ \t]*\}\}")
_NOT_IN_TEXT: Final = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")


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
            Unfilled: a variable is missing, empty, or nothing but white space.
            Unfit: a value has control characters but line ends.
            TooLong: the text would have more than ``longest`` characters.

        """
        parts, length = [self.literals[0]], len(self.literals[0])
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            value = variables.get(name)
            if value is None or not value.strip():
                raise Unfilled(f"The row has nothing for {{{{{name}}}}}.")
            if found := _NOT_IN_TEXT.search(value):
                raise Unfit(f"The value for {{{{{name}}}}} has a control character (U+{ord(found.group()):04X}).")
            parts += (value, literal)
            length += len(value) + len(literal)
            if length > longest:
                raise TooLong(f"With its variables the text has more than {longest} characters.")
        return "".join(parts)


def read_template(text: str) -> Template:
    """Return the template of a text: ``{{name}}`` is a place, with letters, digits, ``_`` and ``-`` for its name.

    Raises:
        InvalidInput: two braces open something else, which would be texted as it stands, or there are too many places.

    """
    literals: list[str] = []
    names: list[str] = []
    for number, part in enumerate(_PLACE.split(text)):
        (names if number % 2 else literals).append(part)
    if any("{{" in literal for literal in literals):
        raise InvalidInput.at("/text", "{{ must open a variable: letters, digits, _ and -, and then }}.")
    if len(names) > MOST_PLACES:
        raise InvalidInput.at("/text", f"At most {MOST_PLACES} places for variables.")
    return Template(tuple(literals), tuple(names))

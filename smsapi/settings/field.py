"""One setting as a field of a dataclass: its name, its rule, its default and its sentence for the docs."""

from collections.abc import Callable
from dataclasses import field
from typing import Any


def setting(name: str, parse: Callable[[str], Any], about: str, *, default: Any = None, secret: bool = False) -> Any:
    """Return a field that is read from the environment variable ``name`` by ``parse``, and is never shown if secret."""
    return field(
        repr=not secret,
        metadata={"name": name, "parse": parse, "default": default, "about": about, "secret": secret},
    )

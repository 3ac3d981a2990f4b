"""Lists in pages: newest first, by id, so that inserts never move what a cursor points at."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from marshmallow import ValidationError, fields, post_load

from smsapi.web.fields import StrictSchema, Whole

_T = TypeVar("_T")
_MARK = b"c1"


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted: at most ``limit`` items, older than ``before``."""

    limit: int
    before: UUID | None


def show_cursor(last: UUID) -> str:
    """Return the opaque cursor that continues after the item with this id."""
    return base64.urlsafe_b64encode(_MARK + last.bytes).decode().rstrip("=")


def read_cursor(shown: str) -> UUID:
    """Return the id in a cursor; raise a ValidationError where it is none of ours."""
    try:
        raw = base64.b64decode(shown + "=" * (-len(shown) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != len(_MARK) + 16 or not raw.startswith(_MARK) or show_cursor(UUID(bytes=raw[2:])) != shown:
        raise ValidationError("Not a cursor of this list.")
    return UUID(bytes=raw[len(_MARK) :])


class Cursor(fields.String):
    """A cursor from ``next_cursor``."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return read_cursor(super()._deserialize(value, attr, data, **kwargs))


class PageQuery(StrictSchema):
    """The query of a list."""

    limit = Whole(minimum=1, maximum=100, from_text=True, load_default=20, metadata={"description": "Items a page."})
    cursor = Cursor(load_default=None, metadata={"description": "`next_cursor` of the page before."})

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the page."""
        return Page(data["limit"], data["cursor"])


def page_of(
    items: Sequence[_T], limit: int, present: Callable[[_T], Any], id_of: Callable[[_T], UUID]
) -> dict[str, Any]:
    """Return the list answer for up to ``limit + 1`` items that were fetched; the extra one says that more follow."""
    shown = items[:limit]
    more = len(items) > limit
    return {"data": [present(item) for item in shown], "next_cursor": show_cursor(id_of(shown[-1])) if more else None}

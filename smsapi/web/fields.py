"""Marshmallow fields without its leniency: a string is a string, a whole number a whole number, true is true."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, validate
from marshmallow.exceptions import MarshmallowError

from smsapi.sms.phone import E164, InvalidNumber, read_number

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SENDER = re.compile(E164.pattern + r"|[0-9]{3,8}|[0-9]{0,10}[A-Za-z][A-Za-z0-9]{0,10}")
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class StrictSchema(Schema):
    """A schema that refuses fields it does not know."""

    error_messages = {"unknown": "Unknown field.", "type": "Must be an object."}  # noqa: RUF012 - Marshmallow's form


class Line(fields.String):
    """One line of text without control characters, within bounds; a lone surrogate never gets this far."""

    def __init__(self, *, minimum: int = 1, maximum: int = 255, **kwargs: Any) -> None:
        self.bounds = validate.Length(min=minimum, max=maximum)
        super().__init__(validate=[self.bounds, no_control_characters, *kwargs.pop("also", [])], **kwargs)


def no_control_characters(value: str) -> None:
    """Raise a ValidationError where the text has a control character (C0, DEL, C1)."""
    if found := _CONTROL.search(value):
        raise ValidationError(f"Must not contain control characters (U+{ord(found.group()):04X}).")


class Phone(fields.String):
    """A phone number in a query: E.164, its plus sign as %2B (a bare one is read as a space); loads to its one form."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"pattern": f"^{E164.pattern}$"}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        return _phone(super()._deserialize(value, attr, data, **kwargs))


class SenderOrPhone(fields.String):
    """A sender in a query: a phone number as above, a short code, or letters and digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"pattern": f"^({_SENDER.pattern})$"}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if _SENDER.fullmatch(text) is None:
            raise ValidationError("Must be an E.164 number, its + as %2B, a short code, or letters and digits.")
        return _phone(text) if text.startswith("+") else text


def _phone(value: str) -> str:
    # The whole of it: what follows a number may be a NUL, which PostgreSQL does not take.
    if E164.fullmatch(value) is None:
        raise ValidationError("Must be an E.164 number, its + as %2B.")
    try:
        return read_number(value)
    except InvalidNumber as error:
        raise ValidationError(str(error)) from None


class Several(fields.List[Any]):
    """A list within bounds, which is measured before any of its items is looked at."""

    def __init__(self, inner: fields.Field[Any], *, minimum: int = 0, maximum: int, **kwargs: Any) -> None:
        self.bounds = validate.Length(min=minimum, max=maximum)
        super().__init__(inner, validate=self.bounds, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[Any]:
        if isinstance(value, list):
            self.bounds(value)
        return super()._deserialize(value, attr, data, **kwargs)


class Pairs(fields.Dict):
    """An object of names and values within bounds, which is measured before any of them is looked at."""

    def __init__(self, *, maximum: int, **kwargs: Any) -> None:
        self.bounds = validate.Length(max=maximum)
        super().__init__(validate=self.bounds, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, Mapping):
            self.bounds(value)
        found: Any = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]  # Marshmallow's
        return found


class Whole(fields.Integer):
    """A whole number within bounds: a JSON number in a body, digits in a query."""

    def __init__(self, *, minimum: int, maximum: int, from_text: bool = False, **kwargs: Any) -> None:
        self.from_text = from_text
        super().__init__(validate=validate.Range(min=minimum, max=maximum), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        del attr, data, kwargs
        if self.from_text and isinstance(value, str) and _WHOLE.fullmatch(value):
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid")
        return value


class Truth(fields.Boolean):
    """``true`` or ``false``, and nothing that merely looks like one: JSON's own in a body, the words in a query."""

    def __init__(self, *, from_text: bool = False, **kwargs: Any) -> None:
        self.from_text = from_text
        super().__init__(**kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        del attr, data, kwargs
        if self.from_text and isinstance(value, str) and value in {"true", "false"}:
            return value == "true"
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class JsonText(fields.Field[Any]):
    """A JSON text in a query, of what ``inner`` takes."""

    def __init__(self, inner: fields.Field[Any], **kwargs: Any) -> None:
        self.inner = inner
        super().__init__(**kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        del attr, data, kwargs
        try:
            found = orjson.loads(value)
        except (orjson.JSONDecodeError, TypeError):
            raise ValidationError("Must be a JSON text.") from None
        return self.inner.deserialize(found)


class Moment(fields.AwareDateTime):
    """A moment in RFC 3339 with its zone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        if not isinstance(value, str):
            raise self.make_error("invalid", input=value, obj_type="datetime")
        try:
            # Within a day of the calendar's ends the change to UTC would overflow later, far from here.
            moment: datetime = super()._deserialize(value, attr, data, **kwargs)
            moment - timedelta(days=1), moment + timedelta(days=1)
        except (OverflowError, ValueError, MarshmallowError) as error:
            if isinstance(error, ValidationError):
                raise
            raise self.make_error("invalid", input=value, obj_type="datetime") from None
        return moment

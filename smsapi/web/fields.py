"""Marshmallow fields without its leniency: a string is a string, a whole number a whole number, true is true."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import orjson
from marshmallow import Schema, ValidationError, fields, pre_load, validate

from smsapi.clock import RFC3339, read_rfc3339
from smsapi.sms.phone import E164, InvalidNumber, read_number, unwrap_number

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SENDER = re.compile(E164.pattern + r"|[0-9]{3,8}|[0-9]{0,10}[A-Za-z][A-Za-z0-9]{0,10}")
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class StrictSchema(Schema):
    """A schema that refuses fields it does not know."""

    error_messages = {"unknown": "Unknown field.", "type": "Must be an object."}  # noqa: RUF012 - Marshmallow's form


class BodySchema(StrictSchema):
    """The body of a request: an optional field that is null is as if it were not given.

    Where null has a meaning of its own, as in a change, ``null_is_absent`` is false, and each field says what it takes.
    """

    null_is_absent: ClassVar[bool] = True

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let the specification say that an optional field may be null."""
        super().on_bind_field(field_name, field_obj)
        if self.null_is_absent and not field_obj.required:
            field_obj.allow_none = True

    @pre_load
    def _leave_out_nulls(self, data: Any, **_: Any) -> Any:
        if not self.null_is_absent or not isinstance(data, dict) or None not in data.values():
            return data
        optional = {each.data_key or name for name, each in self.load_fields.items() if not each.required}
        return {name: value for name, value in data.items() if value is not None or name not in optional}


class Line(fields.String):
    """One line of text without control characters, within bounds; a lone surrogate never gets this far.

    ``trimmed``: white space around it is dropped.
    """

    def __init__(self, *, minimum: int = 1, maximum: int = 255, trimmed: bool = False, **kwargs: Any) -> None:
        self.bounds = validate.Length(min=minimum, max=maximum)
        self.trimmed = trimmed
        super().__init__(validate=[self.bounds, no_control_characters, *kwargs.pop("also", [])], **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        found = super()._deserialize(value, attr, data, **kwargs)
        return found.strip() if self.trimmed else found


def no_control_characters(value: str) -> None:
    """Raise a ValidationError where the text has a control character (C0, DEL, C1)."""
    if found := _CONTROL.search(value):
        raise ValidationError(f"Must not contain control characters (U+{ord(found.group()):04X}).")


class Pasted(fields.String):
    """A number or a sender, from a body or a query: what was pasted around it is dropped before it is looked at."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return unwrap_number(super()._deserialize(value, attr, data, **kwargs))


class Phone(Pasted):
    """A phone number in a query: E.164, its plus sign as %2B (a bare one is read as a space); loads to its one form."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"pattern": f"^{E164.pattern}$"}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        return _phone(super()._deserialize(value, attr, data, **kwargs))


class SenderOrPhone(Pasted):
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
        if found is None:
            # As null is in a body.
            return self.load_default() if callable(self.load_default) else self.load_default
        return self.inner.deserialize(found)


class Moment(fields.AwareDateTime):
    """A moment in RFC 3339 with its offset; nothing else of ISO 8601."""

    def __init__(self, *, metadata: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(metadata={"pattern": f"^{RFC3339}$", **(metadata or {})}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        del attr, data, kwargs
        if not isinstance(value, str):
            raise self.make_error("invalid", input=value, obj_type="datetime")
        try:
            return read_rfc3339(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None

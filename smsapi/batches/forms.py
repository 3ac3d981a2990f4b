"""Form of a request for a batch: its JSON, and the query beside a file."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from marshmallow import ValidationError, fields, post_load

from smsapi.batches.orders import BatchOrder
from smsapi.errors import InvalidInput
from smsapi.send.order import Order
from smsapi.send.schemas import DltSchema, OrderSchema
from smsapi.web.fields import JsonText, Truth, Whole

MOST_RECIPIENTS: Final = 10_000
_ALL_OR_NOTHING: Final = "Send nothing at all where a single row is bad: 422 `batch_rejected`."
_DRY_RUN: Final = "Check the rows and count segments and cost, and send nothing: 200."
_RECIPIENTS: Final = (
    "At most 10,000 of them, each an object with `to`, and perhaps `vars` (texts or numbers by name) and `reference`. "
    "One that is bad is a reject, and never stops the good ones."
)


class _BatchFields(OrderSchema):
    """What all recipients have in common."""

    class Meta:
        """Who gets it stands apart."""

        exclude = ("to", "reference")

    all_or_nothing = Truth(load_default=False, metadata={"description": _ALL_OR_NOTHING})
    dry_run = Truth(load_default=False, metadata={"description": _DRY_RUN})

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order."""
        whole, dry = data.pop("all_or_nothing"), data.pop("dry_run")
        message = Order(to="", reference=None, sender=data.pop("from_"), **data)
        return BatchOrder(message=message, all_or_nothing=whole, dry_run=dry)


def _check_recipients(value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise ValidationError("Must be a list of at least one recipient.")
    if len(value) > MOST_RECIPIENTS:
        raise ValidationError(f"At most {MOST_RECIPIENTS} recipients; send more of them as a file.")


class BatchOrderSchema(_BatchFields):
    """A batch with its recipients."""

    # Not looked into here: what is wrong with one of them concerns that one alone.
    recipients = fields.Raw(
        required=True,
        validate=_check_recipients,
        metadata={
            "type": "array",
            "items": {},
            "minItems": 1,
            "maxItems": MOST_RECIPIENTS,
            "description": _RECIPIENTS,
            "example": [{"to": "+14155550123", "vars": {"name": "Ada"}, "reference": "order-4711"}],
        },
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return the order; the recipients are read apart."""
        data.pop("recipients")
        return super().make(data)


class BatchQuerySchema(_BatchFields):
    """What all rows of a file have in common, in the query beside it. JSON has it in its body instead."""

    expires_in = Whole(
        minimum=5,
        maximum=10_799,
        from_text=True,
        load_default=None,
        metadata={"description": "Seconds after which it is not sent."},
    )
    max_segments = Whole(minimum=1, maximum=1000, from_text=True, load_default=None)
    smart_encoding = Truth(from_text=True, load_default=False)
    all_or_nothing = Truth(from_text=True, load_default=False, metadata={"description": _ALL_OR_NOTHING})
    dry_run = Truth(from_text=True, load_default=False, metadata={"description": _DRY_RUN})
    metadata = JsonText(  # type: ignore[assignment]  # the same in another form
        OrderSchema().fields["metadata"],
        load_default=dict,
        metadata={"type": "string", "description": "A JSON text: an object.", "example": '{"shop": "berlin"}'},
    )
    dlt = JsonText(  # type: ignore[assignment]  # the same in another form
        fields.Nested(DltSchema),
        load_default=None,
        metadata={"type": "string", "description": "A JSON text: an object with what India asks for."},
    )


class BesideJsonSchema(BatchQuerySchema):
    """The query beside JSON, which need say nothing."""

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Return what was given, and no more."""
        return data


_IN_QUERY: Final = {field.data_key or name: field for name, field in BatchQuerySchema().load_fields.items()}
_DEFAULTS: Final = {
    field.data_key or name: field.load_default() if callable(field.load_default) else field.load_default
    for name, field in BatchOrderSchema().load_fields.items()
}


def refuse_contradiction(body: Mapping[str, Any], given: Mapping[str, str]) -> None:
    """Hold the query beside the JSON of a batch against it; ``given`` is good by :class:`BesideJsonSchema`.

    Raises:
        InvalidInput: the query says another thing of a field than the body does, or than goes where it says nothing.

    """
    for name, text in given.items():
        field = _IN_QUERY[name]
        typed = isinstance(field, JsonText) or getattr(field, "from_text", False)
        said = orjson.loads(text) if typed else text
        # What is null is not given.
        default = _DEFAULTS[name]
        if (default if body.get(name) is None else body[name]) != (default if said is None else said):
            raise InvalidInput.at(f"/{name}", "The query says another thing of it than the body.")

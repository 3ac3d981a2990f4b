"""What each route says of itself, beside its view: who may call it, what it takes, what it answers.

The guard enforces it, the limiter counts by it, and ``openapi.yaml`` is made from it, so the three cannot differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from flask import Flask, current_app, request
from marshmallow import Schema
from werkzeug.exceptions import HTTPException

_View = TypeVar("_View", bound=Callable[..., Any])
# The schema of a JSON answer, the media type of another, or None for no body.
Kind = type[Schema] | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route.

    ``scope`` is what the caller needs (None: any valid credential); ``public`` says why no login is asked for.
    ``takes`` are the media types of a body that is no JSON, or that may be none.
    ``streams`` says that the view reads its body itself, as it comes, up to a limit of its own.
    ``answers`` maps a status to what its body is, or to all that it can be: the schema of its JSON, a media type where
    it is not JSON, or None for no body.
    ``sends`` says that it takes something to be sent, ``retargets`` that it may change the number that a stored message
    goes to: either spends the limits of the number.
    ``problems`` are the codes that this route adds to those that any route may answer.
    """

    summary: str
    scope: str | None = None
    public: str | None = None
    body: type[Schema] | None = None
    body_optional: bool = False
    form: type[Schema] | None = None
    takes: str | tuple[str, ...] | None = None
    streams: bool = False
    query: type[Schema] | None = None
    answers: Mapping[int, Kind | tuple[Kind, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    idempotent: bool = False
    sends: bool = False
    retargets: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def operation(**spec: Any) -> Callable[[_View], _View]:
    """Describe the view; see :class:`Operation` for the fields."""
    described = Operation(**spec)

    def mark(view: _View) -> _View:
        view.__dict__["operation"] = described
        return view

    return mark


def operation_of(view: Callable[..., Any] | None) -> Operation | None:
    """Return what a view says of itself, or None where it says nothing."""
    return cast("Operation | None", getattr(view, "operation", None))


def current_operation() -> Operation | None:
    """Return what the view of this request says of itself; None where no route matched."""
    return operation_of(current_app.view_functions.get(request.endpoint or ""))


def reads_its_body(app: Flask, environ: dict[str, Any]) -> bool:
    """Say whether the view that the app routes this request to (its WSGI environment) reads the body itself.

    The app's own routing answers, so that nobody else has an idea of his own of what a path means.
    """
    try:
        endpoint, _ = app.url_map.bind_to_environ(environ).match()
    except HTTPException:
        return False
    found = operation_of(app.view_functions[endpoint])
    return found is not None and found.streams

"""What belongs to the request at hand: its id and the outside world it runs in."""

import re
from collections.abc import Mapping
from typing import cast

from flask import current_app, g, request
from flask.wrappers import Response

from smsapi.deps import Deps
from smsapi.ids import new_id
from smsapi.web.answers import Answer

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,128}")


def deps() -> Deps:
    """Return the outside world that the app was made with."""
    return cast("Deps", current_app.extensions["smsapi"])


def request_id() -> str:
    """Return the caller's ``X-Request-Id`` where it is 1 to 128 visible ASCII characters, otherwise a fresh one."""
    if "request_id" not in g:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _VISIBLE_ASCII.fullmatch(given) else new_id().hex
    return cast("str", g.request_id)


def to_response(answer: Answer, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer as Flask sends it."""
    response = Response(answer.body, status=answer.status, content_type=answer.content_type)
    response.headers.update(answer.headers)
    response.headers.update(headers or {})
    return response

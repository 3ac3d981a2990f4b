"""Bringing a text that somebody sent us, as Plivo does."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from flask import Flask
from werkzeug.test import TestResponse

from smsapi.events.models import events
from smsapi.plivo.simulator.callbacks import signature_headers
from tests.conftest import AUTH_TOKEN
from tests.support.api import LANDLINE, TO
from tests.support.dispatching import world_of
from tests.support.plivo_calls import FORM, PUBLIC_URL

PATH = "/plivo/inbound"


def form(text: str = "Hello", *, sender: str = TO, to: str = LANDLINE, **others: str) -> dict[str, str]:
    """Return the fields of an inbound text; Plivo writes numbers without their plus sign."""
    numbers = {"From": sender.removeprefix("+"), "To": to.removeprefix("+")}
    return {"MessageUUID": str(uuid4()), **numbers, "Text": text, "Type": "sms", "Units": "1", **others}


def bring(app: Flask, fields: Mapping[str, str], *, token: str = AUTH_TOKEN, method: str = "POST") -> TestResponse:
    """Call us with these fields, signed with the token."""
    query = f"?{urlencode(fields)}" if method == "GET" else ""
    params = {} if query else {name: [value] for name, value in fields.items()}
    headers = signature_headers(method=method, url=f"{PUBLIC_URL}{PATH}{query}", token=token, params=params)
    sent: dict[str, Any] = {} if query else {"data": urlencode(fields), "content_type": FORM}
    return app.test_client().open(PATH + query, method=method, headers=headers, **sent)


def text_us(app: Flask, text: str, **others: str) -> TestResponse:
    """Bring a text from the usual number and see it taken."""
    answer = bring(app, form(text, **others))
    assert answer.status_code == 200, answer.text
    return answer


def told(app: Flask, kind: str) -> list[dict[str, Any]]:
    """Return what the events of this type say, in no order."""
    with world_of(app).database.read() as connection:
        return [row.data for row in connection.execute(events.select().where(events.c.type == kind))]

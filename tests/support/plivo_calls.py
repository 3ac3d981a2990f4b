"""Calling us as Plivo does: a signed form to a message's own URL."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Flask
from werkzeug.test import TestResponse

from smsapi.plivo.simulator.callbacks import signature_headers

PUBLIC_URL = "https://sms.example.com"
FORM = "application/x-www-form-urlencoded"


def path_of(message_id: str) -> str:
    return f"/plivo/status/{message_id}"


def signed(token: str, url: str, fields: Mapping[str, str]) -> dict[str, str]:
    return signature_headers(method="POST", url=url, token=token, params={name: [v] for name, v in fields.items()})


def report(
    app: Flask,
    message_id: str,
    fields: Mapping[str, str],
    *,
    token: str,
    public_url: str = PUBLIC_URL,
    headers: Mapping[str, str] | None = None,
    **environ: Any,
) -> TestResponse:
    """POST the delivery report; ``headers`` stand in the place of the signature's."""
    given = signed(token, public_url + path_of(message_id), fields) if headers is None else headers
    return app.test_client().open(
        path_of(message_id), method="POST", data=urlencode(fields), headers=dict(given), content_type=FORM, **environ
    )

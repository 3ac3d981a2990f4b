"""A caller of the service: in process or over a real socket, every answer checked against the specification."""

from dataclasses import dataclass, field
from typing import Any

import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.contract import check_answer

LANDLINE = "+14155550100"
TO = "+14155550123"
# Plivo takes what is sent there and never reports on it, so that an answer cannot be overtaken by a receipt.
UNREPORTED = "+14155550009"
# How a message stands that Plivo took and reports on: on a busy machine the receipt overtakes the answer.
SENT_OR_REPORTED = frozenset({"sent", "delivered"})


class CheckedClient(FlaskClient):
    """Flask's test client, whose every answer has to be in the specification."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        request = response.request
        check_answer(request.method, request.path, response.status_code, response.content_type or "", response.data)
        return response


@dataclass
class Caller:
    """One credential and the ways to use it in process."""

    app: Flask
    key: str
    client_id: str
    key_id: str
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, json: Any = None, **headers: str) -> TestResponse:
        """Call with the API key; ``headers`` with underscores for hyphens (``Idempotency_Key``)."""
        given = {"X-API-Key": self.key, **self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if json is not None:
            return self.app.test_client().open(path, method=method, json=json, headers=given)
        return self.app.test_client().open(path, method=method, headers=given)

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.request("GET", path, **headers)

    def post(self, path: str, json: Any = None, **headers: str) -> TestResponse:
        return self.request("POST", path, json, **headers)

    def send(
        self, to: str = TO, text: str = "Hello", *, headers: dict[str, str] | None = None, **body: Any
    ) -> TestResponse:
        """POST /v1/messages; ``sender`` stands for the field ``from``."""
        if "sender" in body:
            body["from"] = body.pop("sender")
        return self.post("/v1/messages", {"to": to, "text": text, **body}, **(headers or {}))

    def message(self, message_id: str) -> dict[str, Any]:
        return self.get(f"/v1/messages/{message_id}").get_json()

    def events(self, message_id: str) -> list[dict[str, Any]]:
        return self.get(f"/v1/messages/{message_id}/events").get_json()["data"]


@dataclass
class Remote:
    """One credential and a service at a URL."""

    url: str
    key: str

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        headers = {"X-API-Key": self.key, **kwargs.pop("headers", {})}
        response = requests.request(method, self.url + path, headers=headers, timeout=60, **kwargs)
        route = path.partition("?")[0]
        check_answer(method, route, response.status_code, response.headers.get("Content-Type", ""), response.content)
        return response

    def send(
        self, to: str = TO, text: str = "Hello", *, headers: dict[str, str] | None = None, **body: Any
    ) -> requests.Response:
        return self.request("POST", "/v1/messages", json={"to": to, "text": text, **body}, headers=headers or {})

    def message(self, message_id: str) -> dict[str, Any]:
        return self.request("GET", f"/v1/messages/{message_id}").json()

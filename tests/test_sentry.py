"""Sentry, played by a local HTTP server: errors arrive, and nothing of what the requests said."""

import gzip
import json
import sqlite3
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from smsapi.errors import NotFound
from smsapi.sentry import install_sentry, scrubbed
from smsapi.settings import read_settings
from tests.conftest import eventually
from tests.support.served import caller_of, environment, serving


class Sink(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        self.received = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def dsn(self):
        return f"http://key@127.0.0.1:{self.server_port}/1"

    def events(self):
        return [json.loads(line) for body in self.received for line in body.splitlines() if '"exception"' in line]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append(body.decode())
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_arguments):
        """Say nothing."""


@pytest.fixture
def sink():
    @contextmanager
    def running():
        server = Sink()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    with running() as server:
        yield server


def test_a_bug_in_a_request_arrives_at_sentry_without_what_the_request_said(sqlite_url, simulator, sink, tmp_path):
    environ = environment(sqlite_url, simulator.url, SENTRY_DSN=sink.dsn, SMSAPI_WORKERS=1, SENTRY_ENVIRONMENT="tests")
    environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "made" / "when it starts")
    with serving(environ) as served:
        caller = caller_of(served)
        break_the_messages(sqlite_url)
        headers = {"X-API-Key": caller.key, "X-Request-Id": "follow-me"}
        body = {"to": "+14155559876", "text": "the codeword is zanzibar", "reference": "zanzibar"}
        url = f"{served.url}/v1/messages"
        answer = requests.post(url, json=body, headers=headers, timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        (event,) = eventually(sink.events)
        assert served.stop() == 0
        logged = served.log.read_text()
    kinds = [exception["type"] for exception in event["exception"]["values"]]
    assert "IntegrityError" in kinds
    assert event["environment"] == "tests"
    assert event["exception"]["values"][-1]["stacktrace"]["frames"]
    sent = "".join(sink.received)
    for secret in ("zanzibar", "codeword", "4155559876", caller.key, caller.key[-30:]):
        assert secret not in sent
        assert secret not in logged
    assert '"vars"' not in sent


def break_the_messages(url):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'the codeword is zanzibar'); END"
        )
    connection.close()


def test_without_a_dsn_nothing_is_installed():
    assert install_sentry(read_settings({})) is None


def test_an_event_keeps_our_own_sentences_and_loses_everybody_elses():
    ours = {"type": "NotFound", "module": NotFound.__module__, "value": "There is no +14155550123."}
    theirs = {"type": "ValueError", "module": None, "value": "zanzibar"}
    event = {
        "exception": {"values": [ours, theirs]},
        "request": {"url": "http://x/zanzibar", "data": "zanzibar", "headers": {"A": "zanzibar"}, "method": "POST"},
        "extra": {"text": "zanzibar", "api_key": "zanzibar", "to": "+14155550123"},
    }
    clean = scrubbed()(event, {})
    assert "zanzibar" not in json.dumps(clean)
    assert [each.get("value") for each in clean["exception"]["values"]] == ["There is no +141******23.", None]
    assert clean["request"] == {"method": "POST"}
    assert clean["extra"]["to"] == "+141******23"

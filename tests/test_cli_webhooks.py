"""``smsapi webhooks listen`` against a real service: what it prints, what it refuses, and that it cleans up."""

import json
import signal
import socket
import subprocess
from contextlib import contextmanager

import pytest
import requests

from smsapi.errors import SmsapiError
from tests.conftest import eventually
from tests.support.command import SMSAPI, called, dev, environment

NUMBER = "+14155550123"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo: only there may a webhook go to this machine."""
    with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path_factory.mktemp("demo"))) as (_, shown):
        yield shown


def ask(demo, method, path, body=None):
    headers = {"X-API-Key": demo["key"]}
    return requests.request(method, demo["url"] + path, headers=headers, json=body, timeout=30)


@contextmanager
def started(demo, *arguments):
    """Start it on a free port."""
    with subprocess.Popen(
        [*SMSAPI, "webhooks", "listen", "--bind", "127.0.0.1:0", *arguments],
        env=environment(SMSAPI_URL=demo["url"], SMSAPI_TOKEN=demo["key"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=60)


@contextmanager
def listening(demo, *arguments):
    """Start it, and give the process and its URL once it listens."""
    with started(demo, *arguments) as process:
        line = process.stderr.readline()
        assert line.startswith("Listening at http://127.0.0.1:"), line + process.stderr.read()
        yield process, line.split()[2].rstrip(";")


def endpoints(demo):
    return ask(demo, "GET", "/v1/webhook-endpoints").json()["data"]


def test_each_event_is_printed_with_its_signature_checked_and_the_endpoint_is_deleted_at_the_end(demo):
    with listening(demo, "--event", "message.*", "--count", "3") as (process, url):
        assert [(each["url"], each["events"]) for each in endpoints(demo)] == [(url, ["message.*"])]
        sent = ask(demo, "POST", "/v1/messages", {"to": NUMBER, "text": "Hello"}).json()
        printed, complaints = process.communicate(timeout=60)
    lines = printed.splitlines()
    assert [line.split()[1] for line in lines] == ["message.queued", "message.sent", "message.delivered"]
    assert all("  signature ok  " in line and sent["id"] in line for line in lines)
    assert (process.returncode, complaints) == (0, "")
    assert endpoints(demo) == []


def test_what_nobody_signed_is_refused_and_ctrl_c_is_no_failure(demo):
    with listening(demo) as (process, url):
        forged = {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        for headers, reason in (
            ({}, "it is not signed"),
            (forged, "the signature is not that of the endpoint's secret"),
        ):
            assert requests.post(url, b"{}", headers=headers, timeout=30).status_code == 401
            assert process.stderr.readline() == f"smsapi webhooks listen: refused a request: {reason}.\n"
        assert requests.post(url, iter([b"{}"]), timeout=30).status_code == 411
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=60)
    assert (process.returncode, printed, complaints) == (0, "", "")
    assert endpoints(demo) == []


def test_what_a_killed_one_left_behind_is_deleted_by_the_next(demo):
    reached_at = "http://127.0.0.1:1/"
    for _ in range(2):
        with listening(demo, "--reached-at", reached_at) as (process, url):
            assert url == reached_at
            assert [each["url"] for each in endpoints(demo)] == [reached_at]
            process.kill()
            process.wait(timeout=60)
    (left,) = endpoints(demo)
    assert ask(demo, "DELETE", f"/v1/webhook-endpoints/{left['id']}").status_code == 204


def test_json_is_one_event_a_line(demo):
    with started(demo, "--json", "--count", "1", "--event", "message.queued") as process:
        # It says nothing of itself; its endpoint says that it is there.
        eventually(lambda: endpoints(demo))
        sent = ask(demo, "POST", "/v1/messages", {"to": NUMBER, "text": "Hello"}).json()
        printed, complaints = process.communicate(timeout=60)
    event = json.loads(printed)
    assert (event["type"], event["data"]["message_id"], complaints) == ("message.queued", sent["id"], "")


def test_a_service_that_refuses_is_said_in_its_words_with_an_exit_code(demo):
    calling = {"SMSAPI_URL": demo["url"], "SMSAPI_TOKEN": demo["key"]}
    refused = called("webhooks", "listen", "--bind", "127.0.0.1:0", "--reached-at", "http://10.0.0.1/", **calling)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "  /url: Must not lead to a private or special address." in refused.stderr
    unknown = called("webhooks", "listen", "--bind", "127.0.0.1:0", **{**calling, "SMSAPI_TOKEN": "smsk_live_x"})
    assert (unknown.exit_code, unknown.stdout) == (3, "")
    assert "401 unauthenticated" in unknown.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = called("webhooks", "listen", "--bind", address, **calling)
    assert isinstance(ended.exception, SmsapiError)
    assert ended.exception.detail.startswith(f"{address} cannot be listened on: ")

"""The metrics: what is counted, under which labels, and who may read them."""

import re
import subprocess
import sys
from datetime import UTC, datetime

from smsapi.clock import ManualClock
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken

LABELS = re.compile(r'(\w+)="([^"]*)"')
TOKEN = "the-metrics-token-of-the-tests"


def samples(caller):
    text = caller.get("/metrics").get_data(as_text=True)
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_requests_attempts_messages_and_receipts_are_counted(make_app):
    outcomes = (taken(), Rejected("message", "no", 400), Unknown("no answer"), Unavailable("busy", 429, 60.0))
    app = make_app({"provider": Scripted(*outcomes)}, public_url=PUBLIC_URL)
    caller = new_caller(app)
    answers = [caller.send(headers={"Prefer": "wait=1"}) for _ in outcomes]
    assert [answer.status_code for answer in answers] == [201, 422, 202, 202]
    message_id = answers[0].get_json()["id"]
    for status, token in (("delivered", AUTH_TOKEN), ("sent", AUTH_TOKEN), ("sent", "another")):
        report(app, message_id, {"Status": status}, token=token)
    report(app, "msg_" + "0" * 32, {"Status": "sent"}, token=AUTH_TOKEN)
    report(app, message_id, {"Status": "dreaming"}, token=AUTH_TOKEN)
    found = samples(caller)
    expected = {
        'smsapi_request_seconds_count{method="POST",route="/v1/messages",status="201"}': "1.0",
        'smsapi_request_seconds_count{method="POST",route="/v1/messages",status="202"}': "2.0",
        'smsapi_request_seconds_count{method="POST",route="/v1/messages",status="422"}': "1.0",
        'smsapi_request_seconds_count{method="POST",route="/plivo/status/<message_id>",status="403"}': "1.0",
        **{
            f'smsapi_attempts_total{{outcome="{outcome}",provider="plivo"}}': "1.0"
            for outcome in ("accepted", "rejected", "unknown", "unavailable")
        },
        'smsapi_attempt_seconds_count{provider="plivo"}': "4.0",
        'smsapi_messages_total{mode="live",status="queued"}': "4.0",
        **{
            f'smsapi_messages_total{{mode="live",status="{status}"}}': "1.0"
            for status in ("sent", "failed", "unknown", "delivered")
        },
        **{
            f'smsapi_receipts_total{{result="{result}"}}': "1.0"
            for result in ("applied", "repeated", "refused", "unknown_message", "not_understood")
        },
    }
    assert {name: found.get(name) for name in expected} == expected


def test_no_label_holds_a_number_an_id_or_what_a_caller_made_up(app, caller):
    message_id = caller.send(to="+14155559876", reference="zanzibar").get_json()["id"]
    for method in ("GET", "BREW", "ZANZIBAR"):
        for path in (
            f"/v1/messages/{message_id}",
            "/zanzibar",
            "/v1/messages?to=%2B14155559876",
            "/plivo/status/zanzibar",
        ):
            app.test_client().open(path, method=method, headers={"X-API-Key": caller.key})
    text = caller.get("/metrics").get_data(as_text=True)
    values = {value for name, value in LABELS.findall(text) if name != "le"}
    assert not any(re.search(r"[0-9a-f]{32}|\d{7}|zanzibar", value, re.IGNORECASE) for value in values)
    assert {"other", "(none)", "/v1/messages/<message_id>"} <= values


def test_the_metrics_ask_for_their_token_where_one_is_set(make_app):
    app = make_app(metrics_token=TOKEN)
    caller = new_caller(app)
    for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": TOKEN}, {"Authorization": "Bearer ÿ"}):
        refused = app.test_client().get("/metrics", headers=headers)
        assert (refused.status_code, refused.get_json()["code"]) == (401, "unauthenticated")
        assert "WWW-Authenticate" in refused.headers
    assert caller.get("/metrics").status_code == 401
    answer = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    assert b"smsapi_request_seconds_count" in answer.data


def test_an_open_breaker_shows_in_the_metrics(make_app):
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"clock": clock}, breaker_failures=1, breaker_open_seconds=10, plivo_url="http://127.0.0.1:9")
    caller = new_caller(app)
    assert samples(caller)["smsapi_breaker_open"] == "0.0"
    assert caller.send(headers={"Prefer": "wait=0"}).status_code == 202
    eventually(lambda: samples(caller)["smsapi_breaker_open"] == "1.0")


SHARING = """
import sys
from smsapi.metrics import Metrics
metrics, degraded = Metrics(), [True]
metrics.watch(limits_degraded=lambda: degraded[0], breaker_open=lambda: False)
metrics.observe_request("GET", "/v1/messages", 200, 0.01)
metrics.refresh()
print("counted", flush=True)
sys.stdin.readline()
degraded[0] = False
metrics.refresh()  # as the sweep of each process does
print("better", flush=True)
sys.stdin.readline()
print(metrics.expose().decode())
"""


def test_processes_that_share_a_directory_are_summed_and_their_gauges_are_not_stale(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARING],
            env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for said in ("counted\n", "better\n"):
        for process in processes:
            assert process.stdout.readline() == said
            if said == "counted\n":
                process.stdin.write("\n")
                process.stdin.flush()
    shown = processes[0].communicate("\n", timeout=30)[0]
    processes[1].communicate("\n", timeout=30)
    assert 'smsapi_request_seconds_count{method="GET",route="/v1/messages",status="200"} 2.0' in shown
    assert "smsapi_limits_degraded 0.0" in shown

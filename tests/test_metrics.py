"""The metrics: what is counted, under which labels, and who may read them."""

import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock
from smsapi.pacing.gates import PAUSE, close_gate, open_gate
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from smsapi.send.deliver import run
from tests.conftest import AUTH_TOKEN, new_caller
from tests.support.dispatching import ASYNC, claim, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken

LABELS = re.compile(r'(\w+)="([^"]*)"')
TOKEN = "the-metrics-token-of-the-tests"


@pytest.fixture
def database_url(sqlite_url):
    """Metrics are counted in the process, whatever the store."""
    return sqlite_url


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
            for result in ("applied", "repeated", "refused", "parked", "not_understood")
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


def stopped(app):
    """Return the gates that the metrics show as closed, as anybody may ask for them."""
    world_of(app).figures.forget()
    text = app.test_client().get("/metrics").get_data(as_text=True)
    shown = dict(re.findall(r'^smsapi_stopped\{gate="(\w+)"\} ([01])\.0$', text, re.MULTILINE))
    assert shown.keys() == {"account", "circuit", "pause"}
    return {gate for gate, value in shown.items() if value == "1"}


def test_what_stops_all_sending_shows_in_the_metrics_of_every_service(make_app):
    clock = ManualClock(datetime.now(UTC))
    no_credit = Rejected("account", "insufficient credit", 402)
    provider = Scripted(Unavailable("refused"), Unavailable("refused"), taken(), no_credit, taken())
    settings = {"breaker_failures": 2, "breaker_open_seconds": 10}
    app, other = (make_app({"clock": clock, "provider": provider}, **settings) for _ in range(2))
    caller = new_caller(app)
    world = world_of(app)

    def send_one():
        caller.send(headers=ASYNC)
        for begun in claim(world, limit=1):
            run(world, begun, wait_until=clock.now())
        return stopped(app), stopped(other)

    assert stopped(app) == stopped(other) == set()
    assert send_one() == (set(), set())  # one failure of two
    assert send_one() == ({"circuit"}, {"circuit"})
    clock.advance(9)
    assert send_one() == ({"circuit"}, {"circuit"})
    clock.advance(1)
    assert send_one() == (set(), set())
    assert send_one() == ({"account"}, {"account"})
    clock.advance(60)
    assert send_one() == (set(), set())


def test_an_operator_s_pause_of_all_or_of_a_lane_shows_in_the_metrics(app):
    world = world_of(app)
    for gate in (PAUSE, f"{PAUSE}:marketing"):
        with world.database.transaction() as connection:
            close_gate(world.database, connection, gate, {})
        assert stopped(app) == {"pause"}
        with world.database.transaction() as connection:
            open_gate(connection, gate)
        assert stopped(app) == set()


def test_without_the_store_the_metrics_tell_the_rest(make_app, tmp_path):
    app = make_app(database_url=f"sqlite:///{tmp_path}/there/is/no/such/folder.db")
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    assert b"smsapi_limits_degraded 0.0" in answer.data
    assert b"\nsmsapi_store_up 0.0\n" in answer.data
    assert b"smsapi_queue_depth" not in answer.data
    assert b"smsapi_stopped" not in answer.data


SHARING = """
import sys
from prometheus_client.core import GaugeMetricFamily
from smsapi.metrics import Metrics
metrics, degraded = Metrics(), [True]
metrics.watch(
    limits_degraded=lambda: degraded[0],
    of_store=lambda: [GaugeMetricFamily("smsapi_workers_alive", "Of the store.", value=3 if degraded[0] else 2)],
)
metrics.observe_request("GET", "/v1/messages", 200, 0.01)
metrics.expose()
print("counted", flush=True)
sys.stdin.readline()
degraded[0] = False
metrics.refresh()  # as the sweep of each process does
print("better", flush=True)
sys.stdin.readline()
print(metrics.expose().decode())
"""


def test_processes_that_share_a_directory_are_summed_and_their_gauges_are_not_stale(tmp_path):
    # As the file of a process is that has only just made it.
    (tmp_path / "counter_1.db").touch()
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
    # Of the store, which all see alike: what this one sees, and nothing of it is in the files.
    assert "\nsmsapi_workers_alive 2.0\n" in shown
    assert "\nsmsapi_store_up 1.0\n" in shown
    assert len(re.findall("^smsapi_(?:workers_alive|store_up) ", shown, re.MULTILINE)) == 2

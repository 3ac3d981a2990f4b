"""``smsapi doctor``: every check passed once, every failure seen, and nothing that it should not say."""

import json
import os
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import requests
from click.testing import CliRunner
from sqlalchemy import insert

from smsapi.cli import cli
from smsapi.cli.checks import CHECKS, seconds_apart
from smsapi.cli.examination import Patient
from smsapi.clock import ManualClock
from smsapi.pacing.models import gates
from smsapi.settings import read_settings
from tests.conftest import AUTH_ID, AUTH_TOKEN, JWT_SECRET, free_port, listening, new_caller
from tests.plivo.far_side import FarSide
from tests.support.auth import run_on_server
from tests.support.command import environment
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.heartbeats import beat

NAMES = ["settings", *(name for name, _, _ in CHECKS)]
NOWHERE = "http://127.0.0.1:1"
# What fails besides, wherever SMSAPI_PUBLIC_URL is not set.
UNREACHED = {"public_url"}

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Working(ManualClock):
    """Time in which a dispatcher works."""

    def __init__(self, start):
        super().__init__(start)
        self.world = None

    def sleep(self, seconds):
        super().sleep(seconds)
        run_due(self.world)


@pytest.fixture
def environ(database_url, simulator):
    """The settings of a service that Plivo has nowhere to report to, which is itself a failure."""
    return {
        "SMSAPI_DATABASE_URL": database_url,
        "SMSAPI_PLIVO_URL": simulator.url,
        "SMSAPI_JWT_SECRET": JWT_SECRET,
        "PLIVO_AUTH_ID": AUTH_ID,
        "PLIVO_AUTH_TOKEN": AUTH_TOKEN,
    }


@pytest.fixture
def doctor(environ):
    """Run the doctor with these settings changed (None: not set); return what it ended with."""

    def run(*words, clock=None, **changes):
        unset = dict.fromkeys(name for name in os.environ if name not in environment())
        return CliRunner().invoke(cli, ["doctor", *words], obj=clock, env={**unset, **environ, **changes})

    return run


@pytest.fixture
def examined(doctor):
    """Run the doctor and return its checks by name."""

    def run(**given):
        done = doctor("--json", **given)
        found = json.loads(done.stdout)
        assert [each["check"] for each in found["checks"]] == NAMES
        failed = [each for each in found["checks"] if each["state"] == "fail"]
        assert (done.exit_code, found["healthy"]) == (int(bool(failed)), not failed)
        assert all(each["detail"] for each in found["checks"])
        return {each["check"]: each for each in found["checks"]}

    return run


@pytest.fixture
def serve(make_app):
    """Serve an app on a real socket; return it with its URL."""
    with ExitStack() as stack:

        def start(**settings):
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            app = make_app(**{"public_url": url, **settings})
            stack.enter_context(listening(app, port))
            return app, url

        yield start


@pytest.fixture
def bare_postgres(postgres):
    """A PostgreSQL database of this test's own, without any table."""
    name = f"bare_{uuid4().hex}"
    run_on_server(postgres, f"CREATE DATABASE {name}")
    yield f"{postgres.rpartition('/')[0]}/{name}"
    run_on_server(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def states(found):
    by_state = defaultdict(set)
    for name, each in found.items():
        by_state[each["state"]].add(name)
    return by_state


def test_a_service_that_has_all_it_needs_is_healthy_and_nothing_is_changed_or_told(
    serve, doctor, examined, redis_url, simulator
):
    app, url = serve()
    new_caller(app).send(headers=ASYNC)
    beat(world_of(app))
    stores = {"SMSAPI_REDIS_URL": redis_url, "SMSAPI_BROKER_URL": f"{redis_url.rpartition('/')[0]}/1"}
    found = examined(SMSAPI_PUBLIC_URL=url, PLIVO_SENDER_ID="+14155550100", **stores)
    on_sqlite = not world_of(app).database.is_postgresql
    assert states(found)["fail"] == set()
    assert states(found)["skip"] == ({"database_clock"} if on_sqlite else set())
    assert found["plivo"]["detail"] == "Plivo takes the credentials; the balance is 100.00"
    assert found["dispatcher"]["detail"] == "1 waiting, none for long"
    told = doctor(SMSAPI_PUBLIC_URL=url, **stores)
    assert [line.split()[:2] for line in told.stdout.splitlines()] == [
        [each["state"], name] for name, each in found.items()
    ]
    for output in (told.output, json.dumps(found)):
        assert not [secret for secret in (AUTH_TOKEN, AUTH_ID, JWT_SECRET, "4155550") if secret in output]
    assert simulator.store.count() == 0
    assert run_due(world_of(app)) == 1
    assert examined()["dispatcher"]["detail"] == "nothing waits"


@only_sqlite
def test_all_bad_settings_are_named_and_the_rest_needs_them(doctor, examined):
    found = examined(SMSAPI_WORKERS="many", SMSAPI_REDIS_URL="http://u:HUSH@x", SMSAPI_JWT_SECRET=None)
    assert states(found) == {"fail": {"settings"}, "skip": {name for name, _, _ in CHECKS}}
    for name in ("SMSAPI_WORKERS must be", "SMSAPI_REDIS_URL must be", "SMSAPI_JWT_SECRET is missing"):
        assert name in found["settings"]["detail"]
    told = doctor(SMSAPI_REDIS_URL="http://u:HUSH@x")
    assert told.stdout.splitlines()[0].startswith("FAIL  settings")
    assert "HUSH" not in told.output


@only_sqlite
def test_where_settings_are_only_missing_all_else_is_looked_at(app, examined):
    found = examined(SMSAPI_JWT_SECRET=None, PLIVO_AUTH_ID=None, PLIVO_AUTH_TOKEN=None)
    assert states(found)["fail"] == {"settings"} | UNREACHED
    assert states(found)["ok"] == {"database", "migrations", "workers", "dispatcher", "stops", "unknown"}


@only_sqlite
def test_a_sqlite_file_that_is_not_there_is_not_made(examined, tmp_path):
    found = examined(SMSAPI_DATABASE_URL=f"sqlite:///{tmp_path}/none.db")
    assert (found["database"]["state"], found["database"]["advice"]) == ("fail", "Run: smsapi db upgrade")
    assert {found[name]["state"] for name in ("migrations", "database_clock", "workers", "stops")} == {"skip"}
    assert not (tmp_path / "none.db").exists()


@only_sqlite
def test_a_postgresql_that_does_not_answer_is_told_without_its_password(doctor, examined):
    url = "postgresql://smsapi:HUSH@127.0.0.1:1/smsapi"
    found = examined(SMSAPI_DATABASE_URL=url)
    assert found["database"]["state"] == "fail"
    assert "SMSAPI_DATABASE_URL cannot be used" in found["database"]["detail"]
    assert "HUSH" not in doctor(SMSAPI_DATABASE_URL=url).output


@only_sqlite
def test_a_postgresql_that_only_reads_and_one_without_the_schema_are_told_apart(bare_postgres, postgres, examined):
    found = examined(SMSAPI_DATABASE_URL=bare_postgres)
    assert (found["database"]["state"], found["migrations"]["advice"]) == ("ok", "Run: smsapi db upgrade")
    assert (found["workers"]["state"], found["workers"]["detail"]) == ("skip", "needs migrations")
    name = bare_postgres.rpartition("/")[2]
    run_on_server(postgres, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    found = examined(SMSAPI_DATABASE_URL=bare_postgres)
    assert (found["database"]["detail"], found["migrations"]["state"]) == ("PostgreSQL takes no writes.", "skip")


@only_sqlite
def test_a_redis_that_is_gone_is_told_for_the_limits_and_for_the_broker(app, redis_server, examined):
    urls = {"SMSAPI_REDIS_URL": redis_server.url, "SMSAPI_BROKER_URL": redis_server.url}
    assert {"redis", "broker"} <= states(examined(**urls))["ok"]
    redis_server.kill()
    found = examined(**urls)
    assert states(found)["fail"] == {"redis", "broker"} | UNREACHED
    assert "SMSAPI_REDIS_URL" in found["redis"]["advice"]
    assert "SMSAPI_BROKER_URL" in found["broker"]["advice"]


@only_sqlite
def test_a_rabbitmq_that_cannot_be_used_is_a_failure(app, doctor, examined):
    url = "amqp://smsapi:HUSH@127.0.0.1:1/"
    assert states(examined(SMSAPI_BROKER_URL=url))["fail"] == {"broker"} | UNREACHED
    assert "HUSH" not in doctor(SMSAPI_BROKER_URL=url).output


@pytest.mark.parametrize(("off", "side"), [(-30, "behind"), (30, "ahead of")])
def test_a_clock_that_is_off_is_measured_against_postgresql_and_plivo(app, examined, off, side):
    found = examined(clock=ManualClock(datetime.now(UTC) + timedelta(seconds=off)))
    measured = {"plivo_clock"} | ({"database_clock"} if world_of(app).database.is_postgresql else set())
    assert states(found)["fail"] == measured | UNREACHED
    for name in measured:
        assert f"s {side} that of P" in found[name]["detail"]
        assert "NTP" in found[name]["advice"]


def test_a_clock_that_is_off_by_little_is_let_be(app, examined):
    assert states(examined(clock=ManualClock(datetime.now(UTC) - timedelta(seconds=3))))["fail"] == UNREACHED


def test_clocks_that_cannot_be_told_apart_agree():
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def apart(asked, answered, earliest, latest):
        return seconds_apart(*(noon + timedelta(seconds=each) for each in (asked, answered, earliest, latest)))

    assert apart(0, 2, 1, 1) == 0
    assert apart(0.5, 0.6, 0, 1) == 0
    assert apart(3, 4, 0, 1) == 2
    assert apart(3, 4, 9, 10) == -5


@only_sqlite
@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"PLIVO_AUTH_TOKEN": "another-token"}, "Plivo refuses the credentials."),
        ({"SMSAPI_PLIVO_URL": NOWHERE}, "Plivo does not answer: the connection was refused."),
    ],
)
def test_a_plivo_that_refuses_or_does_not_answer_is_told(app, examined, changes, detail):
    found = examined(**changes)
    assert states(found)["fail"] == {"plivo"} | UNREACHED
    assert found["plivo"]["detail"] == detail
    assert found["plivo_clock"]["state"] == ("skip" if "SMSAPI_PLIVO_URL" in changes else "ok")


@only_sqlite
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, {"cash_credits": "0.00", "billing_mode": "prepaid"}), ("fail", "the account is out of credit (0.00).")),
        ((200, {"cash_credits": "-3.5"}), ("fail", "the account is out of credit (-3.50).")),
        ((200, {"cash_credits": "-3.5", "billing_mode": "postpaid"}), ("ok", "the balance is -3.50")),
        ((200, {"cash_credits": 12.344}), ("ok", "the balance is 12.34")),
        ((200, {}), ("ok", "names no balance")),
        ((200, {"cash_credits": "many"}), ("ok", "names no balance")),
        ((404, {"error": "not found"}), ("skip", "tells nothing of an account")),
        ((500, {"error": "oops"}), ("fail", "not that of Plivo's API (status 500)")),
        ((200, None), ("fail", "not that of Plivo's API (status 200)")),
    ],
)
def test_what_plivo_says_of_the_account_is_judged(app, examined, answer, expected):
    status, account = answer
    body = b"<html>Please sign in</html>" if account is None else json.dumps({"api_id": "a", **account}).encode()
    with FarSide(lambda wire, _: wire.answer(status, body)) as plivo:
        found = examined(SMSAPI_PLIVO_URL=plivo.origin)
    assert found["plivo"]["state"] == expected[0]
    assert expected[1] in found["plivo"]["detail"]
    assert found["plivo_clock"]["detail"] == "Plivo's answer has no date"
    (asked,) = plivo.requests
    assert (asked.method, asked.target) == ("GET", f"/v1/Account/{AUTH_ID}/")


def test_the_simulator_tells_of_the_account_what_plivo_does_and_only_to_its_owner(simulator):
    url = f"{simulator.url}/v1/Account/{AUTH_ID}/"
    told = requests.get(url, auth=(AUTH_ID, AUTH_TOKEN), timeout=5)
    assert (told.status_code, told.json()["auth_id"], told.json()["cash_credits"]) == (200, AUTH_ID, "100.00000")
    assert requests.get(url, auth=(AUTH_ID, "wrong"), timeout=5).status_code == 401
    assert requests.post(url, auth=(AUTH_ID, AUTH_TOKEN), timeout=5).status_code == 405


@only_sqlite
def test_a_public_url_that_leads_elsewhere_is_told_and_the_signature_is_not_tried(app, examined):
    with FarSide(lambda wire, _: wire.answer(200, b'{"hello": 1}')) as elsewhere:
        found = examined(SMSAPI_PUBLIC_URL=elsewhere.origin)
    assert "answers 200, and not as this service" in found["public_url"]["detail"]
    assert states(found)["fail"] == {"public_url"}
    assert found["signature"]["state"] == "skip"
    assert [request.target for request in elsewhere.requests] == ["/healthz"]
    found = examined(SMSAPI_PUBLIC_URL=NOWHERE)
    assert found["public_url"]["detail"] == f"{NOWHERE} does not answer: the connection was refused."


@only_sqlite
def test_a_redirect_of_the_public_url_is_not_followed(app, examined):
    moved = {"Location": "/healthz2"}
    with FarSide(lambda wire, _: wire.answer(302, b"", moved)) as elsewhere:
        found = examined(SMSAPI_PUBLIC_URL=elsewhere.origin)
    assert "answers 302" in found["public_url"]["detail"]
    assert len(elsewhere.requests) == 1


def test_a_public_url_without_tls_is_refused_where_plivo_is_the_real_one():
    (check,) = [check for name, _, check in CHECKS if name == "public_url"]
    verdict = check(Patient(read_settings({}, public_url=NOWHERE), ManualClock(datetime.now(UTC))))
    assert (verdict.state, "https" in verdict.detail) == ("fail", True)


@only_sqlite
def test_a_proxy_in_front_that_nobody_trusts_is_told(serve, examined):
    _, url = serve(metrics_token="x" * 32)
    given = {"SMSAPI_PUBLIC_URL": url, "SMSAPI_METRICS_TOKEN": "x" * 32}
    assert examined(SMSAPI_PUBLIC_URL=url)["proxies"]["state"] == "skip"
    assert examined(**given)["proxies"]["detail"] == "no request came with X-Forwarded-For"
    requests.get(f"{url}/healthz", headers={"X-Forwarded-For": "203.0.113.7"}, timeout=30)
    found = examined(**given)
    assert states(found)["fail"] == {"proxies"}
    assert "SMSAPI_TRUSTED_PROXIES" in found["proxies"]["advice"]
    assert examined(**given, SMSAPI_TRUSTED_PROXIES="1")["proxies"]["state"] == "ok"


@only_sqlite
@pytest.mark.parametrize("settings", [{"plivo_auth_token": "another-token"}, {"public_url": NOWHERE}])
def test_a_service_that_refuses_what_our_token_signed_is_told(serve, examined, settings):
    _, url = serve(**settings)
    found = examined(SMSAPI_PUBLIC_URL=url)
    assert states(found)["fail"] == {"signature"}
    assert "signed is answered 403" in found["signature"]["detail"]


@only_sqlite
def test_whatever_takes_receipts_that_nobody_signed_is_told(app, examined):
    with FarSide(lambda wire, _: wire.answer(200, b'{"status": "ok"}')) as credulous:
        found = examined(SMSAPI_PUBLIC_URL=credulous.origin)
    assert states(found)["fail"] == {"signature"}
    assert "nobody signed is answered 200" in found["signature"]["detail"]


def test_messages_that_are_due_for_long_while_none_goes_on_are_a_failure(make_app, examined):
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"clock": clock})
    new_caller(app).send(category="otp", headers=ASYNC)
    clock.advance(59)
    beat(world_of(app))
    assert examined(clock=clock)["dispatcher"]["state"] == "ok"
    clock.advance(2)
    found = examined(clock=clock)
    assert found["dispatcher"]["detail"] == "messages have been due for over 60 s (otp), and none goes on."
    assert "smsapi worker" in found["dispatcher"]["advice"]


def test_a_long_queue_that_goes_on_is_no_failure(make_app, examined):
    clock = Working(datetime.now(UTC))
    app = make_app({"clock": clock})
    clock.world = world_of(app)
    new_caller(app).send(headers=ASYNC)
    clock.advance(120)
    beat(world_of(app))
    found = examined(clock=clock)
    assert (found["dispatcher"]["state"], found["dispatcher"]["detail"]) == ("ok", "messages wait, and go on")


def test_what_is_stopped_is_a_failure_of_its_own_and_not_the_dispatchers(make_app, examined, database_url):
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"clock": clock})
    new_caller(app).send(category="marketing", headers=ASYNC)
    world = world_of(app)
    with world.database.transaction() as connection:
        detail = {"since": "2026-01-01T00:00:00.000Z", "by": "operator", "reason": "wrong text"}
        connection.execute(insert(gates).values(key="pause:marketing", opens_at=None, detail=detail))
    clock.advance(120)
    beat(world)
    found = examined(clock=clock)
    assert "stops" in states(found)["fail"]
    assert found["dispatcher"] == {
        "check": "dispatcher",
        "state": "ok",
        "detail": "1 waiting, some of them stopped",
        "advice": None,
    }
    assert "Paused: the lane marketing" in found["stops"]["detail"]
    assert "smsapi queue resume --lane marketing" in found["stops"]["detail"]
    new_caller(app, mode="test").send(headers=ASYNC)
    clock.advance(61)
    beat(world)
    assert "(test)" in examined(clock=clock)["dispatcher"]["detail"]


def test_a_check_that_breaks_is_a_failure_and_the_others_go_on(app, examined):
    with world_of(app).database.transaction() as connection:
        connection.execute(insert(gates).values(key="pause", opens_at=None, detail=["no object"]))
    found = examined()
    assert states(found)["fail"] == {"stops"} | UNREACHED
    assert found["stops"]["detail"].startswith("could not be checked (AttributeError")

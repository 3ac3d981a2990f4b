"""``smsapi queue``: what waits and why, holding it back, letting it go on, waiting until it is done."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from smsapi.cli.queue import drain, paces_of
from smsapi.clock import ManualClock, rfc3339
from smsapi.errors import SmsapiError
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from smsapi.settings import read_settings
from tests.conftest import eventually, new_caller
from tests.support.command import called
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.heartbeats import beat
from tests.support.providers import Scripted
from tests.support.staged import stage

LANES = ("otp", "transactional", "marketing")


@pytest.fixture
def database_url(sqlite_url):
    """What the commands show is the same on both stores, and is asked of both elsewhere."""
    return sqlite_url


@pytest.fixture
def run(database_url):
    """Run a command on this test's store; it has to succeed. Return what it printed."""

    def call(*words, **environ):
        done = called(*words, SMSAPI_DATABASE_URL=database_url, **environ)
        assert (done.exit_code, done.exception) == (0, None), done.output
        return done.stdout

    return call


@pytest.fixture
def status(run):
    return lambda: json.loads(run("queue", "status", "--json"))


def test_a_pause_holds_everything_but_test_messages_and_all_of_it_goes_once_when_resumed(
    make_app, dispatching, simulator, run
):
    app = make_app()
    caller, tester = new_caller(app), new_caller(app, mode="test")
    assert run("queue", "pause") == "Paused the queue. To go on: smsapi queue resume\n"
    dispatching(app)
    inline = caller.send(to="+14155556001", headers={"Prefer": "wait=5"})
    assert (inline.status_code, inline.get_json()["status"]) == (202, "queued")
    held = [caller.send(to=f"+1415555601{n}", category=lane, headers=ASYNC) for n, lane in enumerate(LANES)]
    # Taken after them, and sent by the same threads, which have then looked at what is held.
    free = tester.send(to="+14155550001", headers=ASYNC).get_json()
    eventually(lambda: tester.message(free["id"])["status"] == "delivered")
    assert simulator.store.count() == 0
    waiting = [inline, *held]
    assert {caller.message(each.get_json()["id"])["status"] for each in waiting} == {"queued"}
    assert {caller.message(each.get_json()["id"])["attempts"] for each in waiting} == {0}
    assert run("queue", "resume") == "Resumed the queue.\n"
    eventually(lambda: simulator.store.count() == 4)
    assert run("queue", "drain").startswith("Nothing is due")
    assert set(simulator.store.texts_by_number().values()) == {1}


def test_a_pause_of_one_lane_lets_the_others_pass(make_app, dispatching, simulator, run):
    app = make_app()
    caller = new_caller(app)
    assert "the lane marketing" in run("queue", "pause", "--lane", "marketing")
    dispatching(app)
    held = caller.send(category="marketing", headers=ASYNC).get_json()
    inline = caller.send(category="marketing", to="+14155556001", headers={"Prefer": "wait=5"})
    passing = [caller.send(category=lane, headers=ASYNC).get_json() for lane in ("otp", "transactional")]
    eventually(lambda: all(caller.message(each["id"])["sent_at"] for each in passing))
    assert caller.send(category="otp").status_code == 201
    assert (inline.status_code, caller.message(held["id"])["attempts"]) == (202, 0)
    assert simulator.store.count() == 3
    run("queue", "resume", "--lane", "marketing")
    eventually(lambda: caller.message(held["id"])["sent_at"])
    run("queue", "drain")
    assert simulator.store.count() == 5


def test_pausing_twice_is_once_and_a_later_reason_replaces_the_first(app, run, status):
    run("queue", "pause", "--reason", "a typo")
    (first,) = status()["stops"]
    assert run("queue", "pause") == f"The queue was paused already, since {first['since']}.\n"
    assert status()["stops"] == [first]
    run("queue", "pause", "--reason", "wrong text")
    (second,) = status()["stops"]
    assert second == {**first, "reason": "wrong text"}
    assert first == {"gate": "pause", "reason": "a typo", "since": first["since"], "opens_at": None}
    assert "Paused: the queue, since" in run("queue", "status")
    assert "by operator (wrong text). To go on: smsapi queue resume" in run("queue", "status")


def test_resuming_says_what_it_did_and_what_is_still_paused(app, run, status):
    assert run("queue", "resume") == "The queue was not paused.\n"
    run("queue", "pause", "--lane", "otp")
    run("queue", "pause")
    said = run("queue", "resume").splitlines()
    assert said[0] == "Resumed the queue."
    assert said[1].startswith("Paused: the lane otp")
    assert said[1].endswith("To go on: smsapi queue resume --lane otp")
    assert [stop["gate"] for stop in status()["stops"]] == ["pause:otp"]
    assert run("queue", "resume", "--lane", "otp") == "Resumed the lane otp.\n"
    assert run("queue", "resume", "--lane", "otp") == "The lane otp was not paused.\n"
    assert status()["stops"] == []


@pytest.mark.parametrize(
    "words",
    [
        ("pause", "--lane", "test"),
        ("resume", "--lane", "all"),
        ("pause", "--reason", ""),
        ("pause", "--reason", "two\nlines"),
        ("pause", "--reason", "x" * 201),
        ("drain", "--timeout", "-1"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_changes_nothing(app, database_url, status, words):
    assert called("queue", *words, SMSAPI_DATABASE_URL=database_url).exit_code == 2
    assert status()["stops"] == []


def test_the_status_shows_each_lane_what_is_under_way_and_the_paces(make_app, run, status):
    clock = ManualClock(datetime.now(UTC) - timedelta(seconds=90))
    app = make_app({"clock": clock, "provider": Scripted(Unknown("no answer"), Unknown("no answer"))})
    caller = new_caller(app)
    caller.send()
    caller.send(on_unknown="hold")
    caller.send(category="otp", headers=ASYNC)
    caller.send(category="otp", send_at=(clock.now() + timedelta(days=1)).isoformat())
    process = beat(world_of(app), seconds_ago=-90)
    found = status()
    otp = found["lanes"]["otp"]
    assert list(found["lanes"]) == [*LANES, "test"]
    assert (otp["waiting"], otp["later"]) == (1, 1)
    assert 90 <= otp["oldest_seconds"] < 120
    assert otp["oldest_due_at"] < found["at"]
    assert found["lanes"]["marketing"] == {"waiting": 0, "oldest_due_at": None, "oldest_seconds": 0.0, "later": 0}
    assert (found["sending"], found["unknown"], found["held"]) == (0, 2, 1)
    lines = run("queue", "status").splitlines()
    assert lines[1].split()[:2] == ["otp", "1"]
    assert lines[2].split() == ["transactional", "0", "-", "0"]
    assert lines[5] == "Being sent: 0. Unknown: 2 (1 to be looked into, 1 held for a person)."
    assert lines[6].startswith("The oldest unknown message is so since ")
    assert lines[7].startswith("Paces in segments a second: account 5, long code 1, ")
    assert lines[8].startswith("Process: worker 0.1.0 on there (pid 7, threads 4) sends, last heartbeat ")
    assert found["workers"] == [
        {
            **{name: getattr(process, name) for name in ("host", "pid", "version", "role", "threads")},
            "started_at": rfc3339(process.started_at),
            "last_beat_at": rfc3339(process.beat_at),
            "alive": True,
        }
    ]


def test_the_paces_are_those_of_the_settings():
    assert paces_of(read_settings({})) == {
        "account": 5,
        "long_code": 1,
        "toll_free": 25,
        "short_code": 100,
        "alphanumeric": 0,
        "requests": 56,
    }
    own = read_settings({}, pace_account=0, pace_alphanumeric=7, plivo_requests_per_5s=0, plivo_url="http://x")
    assert paces_of(own) == dict.fromkeys(paces_of(own), 0) | {"alphanumeric": 7}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Rejected("account", "no", 401), ("account", "the account at Plivo or its credentials are refused")),
        (Rejected("account", "no", 400, "900"), ("account", "the account at Plivo is out of credit")),
        (Unavailable("refused"), ("circuit", "Plivo fails (calls in a row: 1)")),
    ],
)
def test_what_stopped_by_itself_is_shown_with_its_reason_and_its_next_try(make_app, run, status, outcome, expected):
    app = make_app({"provider": Scripted(outcome)}, breaker_failures=1)
    new_caller(app).send(headers=ASYNC)
    assert run_due(world_of(app)) >= 1
    beat(world_of(app))
    (stop,) = status()["stops"]
    gate, sentence = expected
    assert stop["gate"] == gate
    assert stop["since"] < stop["opens_at"]
    assert f"Stopped: {sentence}, since {stop['since']}." in run("queue", "status")
    assert f"The next try is at {stop['opens_at']}" in run("queue", "status")


def test_failures_that_have_not_opened_the_circuit_are_no_stop(make_app, status):
    app = make_app({"provider": Scripted(Unavailable("refused"))}, breaker_failures=2)
    new_caller(app).send(headers=ASYNC)
    run_due(world_of(app))
    beat(world_of(app))
    assert status()["stops"] == []


def test_a_drain_ends_once_all_is_sent(make_app, dispatching, simulator, run):
    app = make_app()
    caller = new_caller(app)
    for number in range(20):
        caller.send(to=f"+141555560{number:02}", headers=ASYNC)
    dispatching(app)
    assert run("queue", "drain", "--timeout", "60") == "Nothing is due or being sent any more.\n"
    assert simulator.store.count() == 20


def test_a_drain_does_not_wait_for_what_is_scheduled_nor_for_a_person(make_app, run):
    app = make_app({"provider": Scripted(Unknown("no answer"))})
    caller = new_caller(app)
    caller.send(on_unknown="hold")
    caller.send(send_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert run("queue", "drain", "--timeout", "0").startswith("Nothing is due")


def test_a_drain_counts_the_rows_of_batches_that_are_not_messages_yet(make_app, database_url):
    caller = new_caller(make_app())
    stage(caller, 30, made=10)
    stage(caller, 7, send_at=datetime.now(UTC) + timedelta(hours=1))
    done = called("queue", "drain", "--timeout", "0", SMSAPI_DATABASE_URL=database_url)
    assert isinstance(done.exception, SmsapiError)
    assert "30 waiting" in done.exception.detail


def test_a_drain_that_takes_too_long_says_what_is_left_and_what_is_paused(make_app, database_url, run):
    app = make_app({"provider": Scripted(Unknown("no answer"))})
    caller = new_caller(app)
    caller.send()
    run("queue", "pause")
    caller.send(headers=ASYNC)
    done = called("queue", "drain", "--timeout", "0", SMSAPI_DATABASE_URL=database_url)
    assert isinstance(done.exception, SmsapiError)
    left, stop = done.exception.detail.splitlines()
    assert left == "After 0 s there is left: 1 waiting, 0 being sent, 1 unknown."
    assert stop.startswith("Paused: the queue")


def test_a_drain_waits_for_what_is_between_two_attempts_and_speaks_once_a_second(make_app):
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"clock": clock, "provider": Scripted(Unavailable("throttled", 429, retry_after_seconds=60))})
    world = world_of(app)
    new_caller(app).send(headers=ASYNC)
    assert run_due(world) == 1
    told = []
    left = drain(world.database, clock, timeout_seconds=3.5, tell=lambda found: told.append((clock.now(), found)))
    assert (left.remaining, left.waiting) == (1, 1)
    assert [(at - told[0][0]).total_seconds() for at, _ in told] == [0, 1, 2, 3]
    assert {found for _, found in told} == {left}


def test_a_database_without_the_schema_is_a_sentence(tmp_path):
    for words in (("status",), ("pause",), ("resume",), ("drain",)):
        refused = called("queue", *words, SMSAPI_DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
        assert isinstance(refused.exception, SmsapiError)
        assert "smsapi db upgrade" in refused.exception.detail

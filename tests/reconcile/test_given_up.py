"""Unknown messages that cannot be settled, however the list is of no use: held for a person, and not in silence."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, event, insert, update

from smsapi.cli import cli
from smsapi.clock import ManualClock
from smsapi.ids import new_id
from smsapi.messages.models import message_attempts, messages
from smsapi.pacing.health import read_list_trouble
from smsapi.pacing.models import gates
from smsapi.plivo.lookup import LookupFailed, Page, Record
from smsapi.plivo.outcomes import Unknown
from tests.conftest import AUTH_ID, AUTH_TOKEN, JWT_SECRET, new_caller
from tests.support.api import TO
from tests.support.command import environment
from tests.support.dispatching import row_of, run_due, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import NOTHING, Scripted, taken

LOST = Unknown("no answer in time")
HOURS = 3600
BOUND = 6 * HOURS


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def doubtful(make_app, clock):
    """An app with one unknown message whose list answers so."""

    def make(listed, **settings):
        provider = Scripted(LOST, taken(), listed=listed)
        settings = {"reconcile_give_up_seconds": BOUND, "public_url": PUBLIC_URL, **settings}
        app = make_app({"clock": clock, "provider": provider}, **settings)
        caller = new_caller(app)
        return app, provider, caller, caller.send().get_json()

    return make


def raising(_query):
    raise RuntimeError("a fault of ours")


def endless(query):
    """A list that ignores the number, the time's end, and its own."""
    strangers = [
        Record(f"{query.offset + n:08d}-1111-4111-8111-111111111111", "14155559999", "14155550100", query.since, "sent")
        for n in range(20)
    ]
    return Page(tuple(strangers), 10**6, query.offset + 20)


def circle(query):
    return Page((), 40, query.offset or 0)


UNUSABLE = {
    "errors": (LookupFailed("Plivo said 4155550100 failed", 500), "Plivo's list answers with status 500"),
    "credentials": (LookupFailed("MA secret words", 401), "refuses the account's credentials (status 401)"),
    "no list": (LookupFailed("not found", 404), "Plivo's list answers with status 404"),
    "no answer": (LookupFailed("the connection was refused"), "does not answer: the connection was refused"),
    "filter": (LookupFailed("the list holds a time that was not asked for", 200), "a time that was not asked for"),
    "throttled": (LookupFailed("slow down", 429, 10.0**9), "Plivo's list answers with status 429"),
    "raises": (raising, "asking raised an error"),
    "pages": (endless, "too many pages"),
    "circle": (circle, "goes in a circle"),
}


def pass_time(app, clock, hours, step=1800):
    """Let so many hours pass, with a look every half hour; what waits within a look takes time too."""
    until = clock.now() + timedelta(hours=hours)
    while clock.now() < until:
        run_due(world_of(app))
        clock.advance(max(0.0, min(step, (until - clock.now()).total_seconds())))


@pytest.mark.parametrize("way", UNUSABLE)
def test_one_that_the_list_cannot_settle_is_held_for_a_person_and_says_why(doubtful, clock, way):
    listed, why = UNUSABLE[way]
    app, provider, caller, message = doubtful([listed] if isinstance(listed, LookupFailed) else listed)
    world = world_of(app)
    clock.advance(61)
    run_due(world)
    with world.database.read() as connection:
        assert why in read_list_trouble(connection).reason
    pass_time(app, clock, 5)
    assert row_of(world, message).due_at is not None
    pass_time(app, clock, 2)
    assert (row_of(world, message).status, row_of(world, message).due_at) == ("unknown", None)
    asked = len(provider.queries)
    pass_time(app, clock, 2)
    assert len(provider.queries) == asked
    told = caller.events(message["id"])[-1]
    assert (told["type"], told["data"]["decision"], told["data"]["source"]) == ("message.unknown", "hold", "plivo_list")
    assert why in told["data"]["reason"]
    assert "4155550100" not in told["data"]["reason"]
    assert "secret" not in told["data"]["reason"]
    # A report still settles it.
    assert report(app, message["id"], {"Status": "delivered"}, token=AUTH_TOKEN).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"
    assert len(provider.asked) == 1


def test_one_that_never_has_its_turn_is_held_too(doubtful, clock):
    app, provider, caller, message = doubtful([NOTHING])
    world = world_of(app)
    clock.advance(61)
    with world.database.transaction() as connection:
        connection.execute(insert(gates), {"key": "pace:list", "opens_at": clock.now(), "detail": {}})
    for _ in range(int(BOUND / 1800) + 2):
        with world.database.transaction() as connection:
            later = clock.now() + timedelta(seconds=60)
            connection.execute(update(gates).where(gates.c.key == "pace:list").values(opens_at=later))
        run_due(world)
        clock.advance(1800)
    assert provider.queries == []
    assert row_of(world, message).due_at is None
    assert "not be asked more often" in caller.events(message["id"])[-1]["data"]["reason"]


def test_after_a_time_in_which_nobody_worked_the_list_is_asked_before_anything_is_given_up(doubtful, clock):
    app, provider, caller, message = doubtful([NOTHING])
    clock.advance(9 * BOUND)
    run_due(world_of(app))
    assert len(provider.queries) == 1
    # The horizon of what is tried again is over, and it is known that nothing was sent.
    assert caller.message(message["id"])["status"] == "failed"


def test_a_list_that_recovers_in_time_settles_it_and_the_trouble_is_forgotten(doubtful, clock):
    app, provider, caller, message = doubtful([LookupFailed("down", 503), NOTHING])
    clock.advance(61)
    run_due(world_of(app))
    clock.advance(31)
    run_due(world_of(app))
    assert caller.message(message["id"])["status"] == "queued"
    with world_of(app).database.read() as connection:
        assert read_list_trouble(connection) is None
    assert len(provider.queries) == 2


def test_one_without_an_attempt_to_look_for_is_held_at_once(doubtful, clock):
    app, provider, caller, message = doubtful([NOTHING])
    with world_of(app).database.transaction() as connection:
        connection.execute(delete(message_attempts))
    clock.advance(61)
    run_due(world_of(app))
    assert row_of(world_of(app), message).due_at is None
    assert caller.events(message["id"])[-1]["data"]["reason"] == "no attempt of the message is in doubt"
    assert provider.queries == []


def seen_from_outside(database_url, simulator):
    run = CliRunner()
    env = {
        **environment(),
        "SMSAPI_DATABASE_URL": database_url,
        "SMSAPI_PLIVO_URL": simulator.url,
        "SMSAPI_JWT_SECRET": JWT_SECRET,
        "PLIVO_AUTH_ID": AUTH_ID,
        "PLIVO_AUTH_TOKEN": AUTH_TOKEN,
    }
    told = run.invoke(cli, ["queue", "status"], env=env)
    status = json.loads(run.invoke(cli, ["queue", "status", "--json"], env=env).stdout)
    checks = json.loads(run.invoke(cli, ["doctor", "--json"], env=env).stdout)["checks"]
    return told.stdout, status["unknown_because"], {each["check"]: each for each in checks}["unknown"]


def test_metrics_queue_status_and_doctor_say_for_how_long_and_why(make_app, database_url, simulator):
    clock = ManualClock(datetime.now(UTC) - timedelta(hours=9))
    provider = Scripted(LOST, listed=[LookupFailed("no", 401)])
    app = make_app({"clock": clock, "provider": provider}, reconcile_give_up_seconds=BOUND)
    caller = new_caller(app)
    assert "\nsmsapi_unknown_oldest_seconds 0.0\n" in app.test_client().get("/metrics").text
    _, because, check = seen_from_outside(database_url, simulator)
    assert (because["oldest_seconds"], check["state"], check["detail"]) == (0, "ok", "no message is unknown")
    caller.send(on_unknown="hold")
    caller.send(to="+14155559002")
    clock.advance(HOURS)
    run_due(world_of(app))
    world_of(app).figures.forget()
    assert "\nsmsapi_unknown_oldest_seconds 3600.0\n" in app.test_client().get("/metrics").text
    told, because, check = seen_from_outside(database_url, simulator)
    assert because["oldest_seconds"] > 8 * HOURS
    assert "refuses the account's credentials" in because["list"]["reason"]
    assert because["held"] == {"its sender asked for that (on_unknown: hold)": 1}
    assert check["state"] == "fail"
    for said in (told, check["detail"]):
        assert "refuses the account's credentials" in said
        assert "Held for a person: 1 (its sender asked for that" in said
    pass_time(app, clock, 6)
    _, because, check = seen_from_outside(database_url, simulator)
    assert sorted(because["held"].values()) == [1, 1]
    assert any("status 401" in reason for reason in because["held"])
    assert TO[1:] not in told


def test_a_masked_list_is_compared_with_unnamed_messages_by_an_index(make_app, clock):
    lost = Scripted(LOST, listed=lambda query: Page((masked(query, clock),), 1, None))
    app = make_app({"clock": clock, "provider": lost}, receipt_after_seconds=0)
    world, caller = world_of(app), new_caller(app)
    message = caller.send().get_json()
    like = row_of(world, message)._asdict()
    bury(world, like, clock)
    seen = statements_of(world, lambda: (clock.advance(61), run_due(world)))
    plans = plans_of(world, [each for each in seen if "finished_at" in each[0] and "FROM messages" in each[0]])
    assert plans
    for plan in plans:
        assert "ix_message_attempts_unnamed" in plan, plan
        assert "Seq Scan" not in plan, plan
        assert "SCAN messages" not in plan, plan


def masked(query, clock):
    number = (query.to or TO)[1:-3] + "***"
    return Record("11111111-1111-4111-8111-111111111111", number, "14155550100", query.since, "sent")


def bury(world, like, clock, count=3000):
    old = clock.now() - timedelta(days=3)
    ids = [new_id() for _ in range(count)]
    settled = like | {"status": "delivered", "due_at": None, "sent_at": old, "provider_uuid": None}
    tried = {"number": 1, "epoch": 1, "started_at": old, "finished_at": old, "outcome": "accepted"}
    with world.database.transaction() as connection:
        connection.execute(insert(messages), [settled | {"id": each} for each in ids])
        connection.execute(insert(message_attempts), [tried | {"message_id": each} for each in ids])
        connection.exec_driver_sql("ANALYZE")


def statements_of(world, act):
    seen = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        seen.append((statement, parameters))

    event.listen(world.database.engine, "before_cursor_execute", note)
    act()
    event.remove(world.database.engine, "before_cursor_execute", note)
    return seen


def plans_of(world, statements):
    ask = "EXPLAIN " if world.database.is_postgresql else "EXPLAIN QUERY PLAN "
    with world.database.read() as connection:
        return [
            "\n".join(str(row) for row in connection.exec_driver_sql(ask + statement, given))
            for statement, given in statements
        ]

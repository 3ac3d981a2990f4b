"""Messages that were sent and whose end nobody reported: Plivo's list is asked once, within what it allows."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import event, func, insert, select, update

from smsapi.clock import ManualClock
from smsapi.dispatch.chores import ask_for_reports, run_chores
from smsapi.ids import new_id
from smsapi.messages.models import messages
from smsapi.plivo.lookup import LookupFailed, Page, Record
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.dispatching import row_of, uuid_of, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import NOTHING, Scripted, page, taken

HOURS = 3600


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def make(make_app, clock):
    def build(count=1, **settings):
        provider = Scripted(*(taken() for _ in range(count)))
        app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL, **settings)
        caller = new_caller(app)
        sent = [caller.send(to=f"+1415555{2000 + number}").get_json() for number in range(count)]
        for message in sent:
            await_report(app, message, 3)
        return app, caller, sent

    return build


def await_report(app, message, hours):
    """Let somebody look for the report after so many hours."""
    world = world_of(app)
    due = world.clock.now() + timedelta(hours=hours)
    with world.database.transaction() as connection:
        connection.execute(update(messages).where(messages.c.id == uuid_of(message)).values(due_at=due))


def record(app, message, state, **values):
    row = row_of(world_of(app), message)
    return Record(
        message_uuid=row.provider_uuid,
        to=row.to_number.removeprefix("+"),
        sender=row.sender.removeprefix("+"),
        taken_at=row.sent_at,
        state=state,
        **values,
    )


def look(app):
    world = world_of(app)
    run_chores(world, lambda: False)
    ask_for_reports(world, lambda: False)


def notes(caller, message):
    return [event["data"] for event in caller.events(message["id"]) if "note" in event["data"]]


def test_the_end_that_plivos_list_knows_is_taken_over_with_its_price(make, clock):
    app, caller, (message,) = make()
    world_of(app).provider.listed = [
        page(record(app, message, "undelivered", error_code="80", units=2, amount="0.011"))
    ]
    clock.advance(3 * HOURS)
    look(app)
    seen = caller.message(message["id"])
    assert (seen["status"], seen["provider"]["error_code"], seen["segments"]) == ("undelivered", "80", 2)
    assert seen["price"] == {"amount": "0.01100", "currency": "USD", "estimated": False}
    assert caller.events(message["id"])[-1]["data"]["source"] == "plivo_list"
    (query,) = world_of(app).provider.queries
    assert (query.sender, query.to) == (message["from"], message["to"])
    assert row_of(world_of(app), message).due_at is None


@pytest.mark.parametrize("state", ["sent", "queued", "something_new", None])
def test_where_plivo_knows_no_more_an_event_says_so_once_and_nobody_asks_again(make, clock, state):
    app, caller, (message,) = make()
    world_of(app).provider.listed = [NOTHING if state is None else page(record(app, message, state))]
    clock.advance(3 * HOURS)
    for _ in range(4):
        look(app)
        clock.advance(24 * HOURS)
    assert len(world_of(app).provider.queries) == 1
    (note,) = notes(caller, message)
    assert (note["note"], note["source"], note["plivo_state"]) == ("no_receipt", "plivo_list", state)
    assert caller.message(message["id"])["status"] == "sent"
    assert report(app, message["id"], {"Status": "delivered"}, token=AUTH_TOKEN).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"


def test_a_list_that_cannot_be_had_is_asked_again_later(make, clock):
    app, caller, (message,) = make()
    world_of(app).provider.listed = [LookupFailed("down", 503, 600.0), page(record(app, message, "delivered"))]
    clock.advance(3 * HOURS)
    look(app)
    clock.advance(599)
    look(app)
    assert len(world_of(app).provider.queries) == 1
    clock.advance(2)
    look(app)
    assert caller.message(message["id"])["status"] == "delivered"


def test_what_has_its_end_is_not_asked_for(make, clock):
    app, _, (message,) = make()
    assert report(app, message["id"], {"Status": "delivered"}, token=AUTH_TOKEN).status_code == 200
    clock.advance(9 * HOURS)
    look(app)
    assert world_of(app).provider.queries == []


def test_it_is_not_asked_before_the_time_of_the_setting_and_never_where_that_is_nothing(make, clock):
    app, _, (message,) = make(receipt_after_seconds=5 * HOURS)
    clock.advance(3 * HOURS)
    look(app)
    assert world_of(app).provider.queries == []
    assert row_of(world_of(app), message).due_at == row_of(world_of(app), message).sent_at + timedelta(hours=5)
    app, _, (message,) = make(receipt_after_seconds=0)
    clock.advance(9 * HOURS)
    look(app)
    assert (world_of(app).provider.queries, row_of(world_of(app), message).due_at) == ([], None)


def test_one_question_does_for_many_and_more_than_a_page_is_asked_for_in_parts(make, clock):
    app, caller, sent = make(30)
    records = [record(app, message, "delivered") for message in sent]

    def listed(query):
        found = [each for each in records if query.since <= each.taken_at <= query.until]
        found = [each for each in found if query.to in {None, f"+{each.to}"}]
        return Page(tuple(found[:20]), len(found), 20 if len(found) > 20 else None)

    world_of(app).provider.listed = listed
    clock.advance(3 * HOURS)
    for _ in range(40):
        look(app)
        clock.advance(10)
    assert {caller.message(message["id"])["status"] for message in sent} == {"delivered"}
    assert len(world_of(app).provider.queries) < 30


def test_the_list_is_asked_no_more_often_than_plivo_allows_however_many_are_overdue(make, clock):
    app, caller, sent = make(12, plivo_list_per_minute=2)

    def listed(query):
        # As where others send a great deal from this number: no question but that for one number is of use.
        found = [record(app, each, "delivered") for each in sent if each["to"] == query.to]
        return page(*found) if query.to else Page((), 500, 20)

    world_of(app).provider.listed = listed
    clock.advance(3 * HOURS)
    asked = 0
    for _ in range(40):
        before = len(world_of(app).provider.queries)
        look(app)
        asked = max(asked, len(world_of(app).provider.queries) - before)
        clock.advance(31)
    assert asked == 1
    assert {caller.message(message["id"])["status"] for message in sent} == {"delivered"}


def test_an_unknown_message_that_a_report_shows_to_be_sent_is_asked_for_like_any_other(make, clock):
    app, _, (message,) = make()
    with world_of(app).database.transaction() as connection:
        connection.execute(update(messages).values(status="unknown", due_at=None))
    assert report(app, message["id"], {"Status": "sent"}, token=AUTH_TOKEN).status_code == 200
    assert row_of(world_of(app), message).due_at == clock.now() + timedelta(hours=3)


def test_a_running_dispatcher_asks_for_what_nobody_reported(make_app, dispatching, clock):
    provider = Scripted(taken())
    app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL, dispatch_sweep_seconds=0.05)
    caller = new_caller(app)
    message = caller.send().get_json()
    provider.listed = [page(record(app, message, "undelivered", error_code="80"))]
    clock.advance(world_of(app).settings.receipt_after_seconds - 1)
    looks = []
    event.listen(
        world_of(app).database.engine,
        "before_cursor_execute",
        lambda *given: looks.append(given[2]) if given[2].startswith("WITH") else None,
    )
    dispatching(app)
    eventually(lambda: len(looks) > 3)
    assert provider.queries == []
    clock.advance(2)
    eventually(lambda: caller.message(message["id"])["status"] == "undelivered")


def test_of_a_great_backlog_each_look_takes_no_more_than_it_can_ask_for_within_its_lease(make, clock):
    app, _, (message,) = make()
    multiply_sent(app, message, 1500)
    world_of(app).provider.listed = lambda _query: Page((), 9000, 20)
    clock.advance(3 * HOURS)
    due = messages.c.due_at <= clock.now()
    with world_of(app).database.read() as connection:
        assert connection.execute(select(func.count()).where(due)).scalar_one() == 1501
    look(app)
    # These are not held while others are asked for.
    with world_of(app).database.read() as connection:
        assert connection.execute(select(func.count()).where(due)).scalar_one() == 501


def multiply_sent(app, message, count):
    like = row_of(world_of(app), message)._asdict()
    own = [{"id": new_id(), "provider_uuid": str(uuid4()), "to_number": f"+1415557{n:04}"} for n in range(count)]
    with world_of(app).database.transaction() as connection:
        connection.execute(insert(messages), [like | each for each in own])

"""Messages that were sent and whose end nobody reported: Plivo's list is asked once, within what it allows."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import event, func, insert, select, update

from smsapi.clock import ManualClock
from smsapi.dispatch.chores import ask_for_reports, run_chores
from smsapi.ids import new_id
from smsapi.messages.models import messages
from smsapi.pacing.models import gates
from smsapi.plivo.lookup import LookupFailed, Page, Record
from smsapi.plivo.outcomes import Unknown
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.dispatching import counts_by_status, row_of, run_due, uuid_of, world_of
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


def listing(records):
    """What answers every question from these records, page by page, as Plivo does."""

    def listed(query):
        found = [each for each in records if query.since <= each.taken_at <= query.until]
        found = [each for each in found if query.to in {None, f"+{each.to}"}]
        end = query.offset + 20
        return Page(tuple(found[query.offset : end]), len(found), end if end < len(found) else None)

    return listed


def records_of_all(app, state="sent"):
    with world_of(app).database.read() as connection:
        rows = connection.execute(select(messages)).all()
    return [
        Record(row.provider_uuid, row.to_number[1:], row.sender[1:], row.sent_at, state) for row in rows if row.sent_at
    ]


def look_until_quiet(app, clock, looks=60):
    for _ in range(looks):
        look(app)
        clock.advance(10)


def test_four_hundred_silent_messages_of_one_window_take_twenty_pages_and_no_more(make, clock):
    app, _, (message,) = make()
    multiply_sent(app, message, 399)
    world_of(app).provider.listed = listing(records_of_all(app))
    clock.advance(3 * HOURS)
    look_until_quiet(app, clock)
    with world_of(app).database.read() as connection:
        assert connection.execute(select(func.count()).where(messages.c.due_at.is_not(None))).scalar_one() == 0
    assert len(world_of(app).provider.queries) == 20


def test_what_a_list_that_breaks_off_has_told_is_not_asked_for_again(make, clock):
    app, _, (message,) = make()
    multiply_sent(app, message, 99)
    whole = listing(records_of_all(app, "delivered"))
    broken = [True]
    world_of(app).provider.listed = lambda query: (
        LookupFailed("down", 503) if query.offset == 40 and broken[0] else whole(query)
    )
    clock.advance(3 * HOURS)
    look(app)
    with world_of(app).database.read() as connection:
        assert connection.execute(select(func.count()).where(messages.c.status == "delivered")).scalar_one() == 40
    broken[0] = False
    look_until_quiet(app, clock)
    with world_of(app).database.read() as connection:
        assert connection.execute(select(func.count()).where(messages.c.status == "delivered")).scalar_one() == 100
    # Three that failed or were told, and then no more than what was left takes.
    assert len(world_of(app).provider.queries) <= 3 + 5


def test_without_a_public_url_nobody_is_ever_asked_for(make_app, clock):
    provider = Scripted(taken())
    app = make_app({"provider": provider, "clock": clock})
    message = new_caller(app).send().get_json()
    assert row_of(world_of(app), message).due_at is None
    await_report(app, message, 3)  # as one that was sent while there was one
    clock.advance(9 * HOURS)
    look(app)
    assert (provider.queries, row_of(world_of(app), message).due_at) == ([], None)


def test_an_unknown_message_has_the_list_before_any_missing_receipt(make_app, clock):
    provider = Scripted(taken(), Unknown("no answer in time"), taken())
    app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL, receipt_after_seconds=HOURS)
    caller = new_caller(app)
    silent = caller.send().get_json()
    clock.advance(HOURS - 30)
    unknown = caller.send(to="+14155559001").get_json()
    clock.advance(90)
    ask_for_reports(world_of(app), lambda: False)
    assert (provider.queries, row_of(world_of(app), silent).status) == ([], "sent")
    assert run_due(world_of(app)) >= 1
    assert [query.to for query in provider.queries] == ["+14155559001"]
    assert caller.message(unknown["id"])["status"] == "queued"
    clock.advance(120)
    ask_for_reports(world_of(app), lambda: False)
    assert [query.to for query in provider.queries][1:] == [silent["to"]]


def test_while_unknown_messages_wait_for_their_next_question_no_other_is_asked(make_app, clock):
    lost = Unknown("no answer in time")
    provider = Scripted(taken(), *[lost] * 30)
    app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL, receipt_after_seconds=HOURS)
    caller = new_caller(app)
    silent = caller.send().get_json()
    clock.advance(HOURS - 30)
    for place in range(30):
        caller.send(to=f"+1415559{1000 + place}")
    clock.advance(90)
    asked = []

    def listed(query):
        asked.append(query.to)
        ask_for_reports(world_of(app), lambda: False)  # another process, at the worst moment
        return Page((), 4000, 20) if query.to is None else NOTHING

    provider.listed = listed
    while counts_by_status(world_of(app)).get("unknown"):
        run_due(world_of(app))
        ask_for_reports(world_of(app), lambda: False)
        clock.advance(1)
    assert len(asked) == 31
    assert silent["to"] not in asked


@pytest.mark.parametrize("trouble", [LookupFailed("down", 503), LookupFailed("no", 401), "never its turn"])
def test_one_that_could_not_be_asked_for_in_time_stays_sent_and_an_event_says_that_nobody_asked(make, clock, trouble):
    app, caller, (message,) = make(receipt_give_up_seconds=6 * HOURS)
    world = world_of(app)
    world.provider.listed = [NOTHING if isinstance(trouble, str) else trouble]
    clock.advance(3 * HOURS)
    if isinstance(trouble, str):
        with world.database.transaction() as connection:
            connection.execute(insert(gates), {"key": "pace:list", "opens_at": far(clock), "detail": {}})
    for _ in range(8):
        look(app)
        clock.advance(HOURS)
        if isinstance(trouble, str):
            with world.database.transaction() as connection:
                connection.execute(update(gates).where(gates.c.key == "pace:list").values(opens_at=far(clock)))
    asked = len(world.provider.queries)
    for _ in range(3):
        look(app)
        clock.advance(24 * HOURS)
    assert len(world.provider.queries) == asked
    (note,) = notes(caller, message)
    assert (note["note"], note["source"], note["plivo_state"]) == ("no_receipt", "unasked", None)
    assert (caller.message(message["id"])["status"], row_of(world, message).due_at) == ("sent", None)


def far(clock):
    """A pace that is never free: always a minute ahead, which is as far as one is believed to be."""
    return clock.now() + timedelta(seconds=60)

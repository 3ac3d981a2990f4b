"""A row that cannot be handled is set aside and stops nobody else; nothing of it is lost, on both stores."""

import pytest
from sqlalchemy import text, update

from smsapi.dispatch.chores import ask_for_reports, reconcile_due, run_chores
from smsapi.dispatch.desk import Desk
from smsapi.messages.models import messages
from smsapi.plivo.outcomes import Unknown
from smsapi.send.deliver import run
from tests.conftest import eventually
from tests.support.dispatching import ASYNC, row_of, uuid_of
from tests.support.providers import NOTHING

LOST = Unknown("no answer in time")
OTHER = "+14155550999"
# Where Plivo has nowhere to report to, nothing is ever asked for.
REPORTED = {"public_url": "https://sms.example", "receipt_after_seconds": 60}
# A value that this release cannot handle, and one that it can.
UNKNOWN_VALUES = [
    pytest.param({"sender": "not a sender!"}, {"sender": "+14155550000"}, id="sender"),
    pytest.param({"lane": 7}, {"lane": 1}, id="lane"),
    pytest.param({"dlt": {"template_id": "1", "of_a_newer_release": "x"}}, {"dlt": None}, id="dlt"),
]


def change(world, message, **values):
    with world.database.transaction() as connection:
        connection.execute(update(messages).where(messages.c.id == uuid_of(message)).values(**values))


def queue(caller, count):
    return [caller.send(to=f"+1415555{3000 + n}", headers=ASYNC).get_json() for n in range(count)]


def send_all(world):
    """Do what a thread that sends does, until there is nothing to do."""
    desk = Desk(world, threads=4)
    while begun := desk.next():
        run(world, begun, wait_until=world.clock.now())
        desk.done(begun)


def deferred(caller, message):
    return [event["data"] for event in caller.events(message["id"]) if event["type"] == "message.deferred"]


def statuses(caller, several):
    return [caller.message(each["id"])["status"] for each in several]


@pytest.mark.parametrize(("strange", "plain"), UNKNOWN_VALUES)
@pytest.mark.parametrize("place", [0, 2])
def test_a_message_that_cannot_be_sent_is_set_aside_and_the_others_go_until_it_can(
    scripted, clock, strange, plain, place
):
    world, caller, provider = scripted()
    several = queue(caller, 4)
    poison = several.pop(place)
    change(world, poison, **strange)
    send_all(world)
    assert statuses(caller, several) == ["sent"] * 3
    (event,) = deferred(caller, poison)
    assert (event["reason"], event["what"]) == ("cannot_be_handled", "send")
    row = row_of(world, poison)
    assert (row.status, row.attempts) == ("queued", 0)
    assert row.due_at > clock.now()
    assert len(provider.asked) == 3
    # It is not forgotten, and not tried again and again: longer apart each time, and one event for all.
    waits = []
    for _ in range(12):
        waits.append((row_of(world, poison).due_at - clock.now()).total_seconds())
        clock.advance(waits[-1])
        send_all(world)
    assert waits == sorted(waits)
    assert 4 < waits[0] < 6
    assert waits[-1] == pytest.approx(600, abs=1)
    assert len(deferred(caller, poison)) == 1
    # Once its value is understood it is sent, once.
    change(world, poison, **plain)
    clock.advance(600)
    send_all(world)
    assert caller.message(poison["id"])["status"] == "sent"
    assert len(provider.asked) == 4


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("due_at", ["''", "'1 May'", "0"])
def test_a_due_time_that_sqlite_holds_and_nobody_can_read_keeps_no_other_from_being_found(scripted, due_at):
    world, caller, _ = scripted()
    several = queue(caller, 4)
    change(world, several[0], due_at=text(due_at))
    send_all(world)
    assert [row_of(world, each).status for each in several] == ["queued", *["sent"] * 3]
    (event,) = deferred(caller, several[0])
    assert (event["reason"], event["what"]) == ("cannot_be_handled", "send")


def test_a_category_that_is_not_known_here_is_sent_as_its_lane_says(scripted):
    world, caller, _ = scripted()
    several = queue(caller, 2)
    change(world, several[0], category="survey")
    send_all(world)
    assert [row_of(world, each).status for each in several] == ["sent"] * 2


def test_a_dispatcher_goes_on_beside_lanes_and_senders_that_it_does_not_know(make_app, dispatching, make_caller):
    app = make_app()
    world, caller = app.extensions["smsapi"], make_caller(app)
    several = queue(caller, 6)
    change(world, several[0], lane=7)
    change(world, several[2], sender="not a sender!")
    dispatching(app)
    good = [several[place] for place in (1, 3, 4, 5)]
    eventually(lambda: set(statuses(caller, good)) <= {"sent", "delivered"}, seconds=30)
    eventually(lambda: deferred(caller, several[0]) and deferred(caller, several[2]))
    assert statuses(caller, [several[0], several[2]]) == ["queued"] * 2
    assert world.metrics.expose().decode().count('smsapi_set_aside_total{what="send"}') == 1


def test_a_status_that_is_not_known_here_is_let_be_and_keeps_no_chore_from_being_done(scripted, clock):
    world, caller, _ = scripted()
    several = queue(caller, 3)
    for each in several:
        change(world, each, status="sending", attempts=1, due_at=clock.now())
    change(world, several[0], status="of_newer_release"[:16])
    run_chores(world, lambda: False)
    assert [row_of(world, each).status for each in several] == ["of_newer_release"[:16], "unknown", "unknown"]
    row = row_of(world, several[0])
    # It keeps a due time: who knows the status has to look at it.
    assert row.due_at is not None
    assert row.due_at > clock.now()
    assert len(deferred(caller, several[0])) == 1


def broken_for(sender):
    """Return a list of Plivo's at which a question about this sender breaks something of ours."""

    def answer(query):
        if query.sender == sender:
            raise RuntimeError("a bug of ours")
        return NOTHING

    return answer


def test_one_doubt_that_cannot_be_looked_into_keeps_no_other(scripted, clock):
    world, caller, provider = scripted(LOST, plivo_list_per_minute=6000)
    several = queue(caller, 5)
    send_all(world)
    assert statuses(caller, several) == ["unknown"] * 5
    change(world, several[0], sender=OTHER)
    provider.listed = broken_for(OTHER)
    clock.advance(61)
    assert reconcile_due(world, lambda: False) == 5
    assert [row_of(world, each).status for each in several] == ["unknown", *["queued"] * 4]
    # Asked for alone, it waits for a list that can be read.
    provider.listed = ()
    clock.advance(61)
    assert reconcile_due(world, lambda: False) == 1
    assert row_of(world, several[0]).status == "queued"


def test_one_report_that_cannot_be_asked_for_keeps_no_other(scripted, clock):
    world, caller, provider = scripted(**REPORTED, plivo_list_per_minute=6000)
    several = queue(caller, 5)
    send_all(world)
    change(world, several[0], sender=OTHER)
    provider.listed = broken_for(OTHER)
    clock.advance(61)
    ask_for_reports(world, lambda: False)
    assert [row_of(world, each).due_at is None for each in several] == [False, *[True] * 4]
    assert row_of(world, several[0]).due_at > clock.now()


def test_a_message_whose_sender_cannot_be_read_can_be_read_itself(scripted):
    world, caller, _ = scripted()
    (message,) = queue(caller, 1)
    change(world, message, sender="not a sender!", lane=7)
    assert caller.message(message["id"])["estimated_send_at"] is None

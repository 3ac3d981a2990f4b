"""Unknown outcomes, settled by Plivo's list: found, shown not to be there, or left for a person."""

from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock
from smsapi.plivo.lookup import LookupFailed, Page, Record
from smsapi.plivo.outcomes import Accepted, Rejected, Unknown
from smsapi.plivo.simulator.faults import Rule
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.api import LANDLINE, TO
from tests.support.dispatching import ASYNC, attempts_of, counts_by_status, row_of, run_due, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, page, taken

LOST = Unknown("no answer in time")


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def doubtful(make_app, clock):
    """Make an app whose provider gives these outcomes, and a caller of it."""

    def make(*outcomes, **settings):
        provider = Scripted(*outcomes)
        app = make_app({"clock": clock, "provider": provider}, **settings)
        return world_of(app), provider, new_caller(app)

    return make


def record(clock, to=TO, uuid="11111111-1111-4111-8111-111111111111", state="sent", **values):
    return Record(uuid, to.removeprefix("+"), LANDLINE.removeprefix("+"), clock.now(), state, **values)


def decisions(caller, message):
    return [event["data"].get("decision") for event in caller.events(message["id"])]


def test_a_message_that_plivos_list_has_is_sent_with_plivos_own_id_and_is_not_sent_again(doubtful, clock):
    world, provider, caller = doubtful(LOST)
    message = caller.send().get_json()
    provider.listed = [page(record(clock, state="delivered", units=1, amount="0.00550"))]
    clock.advance(61)
    assert run_due(world) == 1
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"]) == ("delivered", None)
    assert seen["provider"]["message_uuid"] == "11111111-1111-4111-8111-111111111111"
    assert seen["price"] == {"amount": "0.00550", "currency": "USD", "estimated": False}
    event = caller.events(message["id"])[-1]
    assert event["type"] == "message.delivered"
    assert {name: event["data"][name] for name in ("source", "decision", "records")} == {
        "source": "plivo_list",
        "decision": "sent",
        "records": 1,
    }
    clock.advance(86400)
    assert run_due(world) == 0
    assert len(provider.asked) == 1


def test_a_message_that_the_list_does_not_have_is_sent_again_once(doubtful, clock):
    world, provider, caller = doubtful(LOST, taken())
    message = caller.send().get_json()
    clock.advance(61)
    assert run_due(world) == 1
    assert decisions(caller, message) == [None, None, "resend"]
    assert run_due(world) == 1
    assert caller.message(message["id"])["status"] == "sent"
    assert [row.outcome for row in attempts_of(world, message)] == ["unknown", "accepted"]
    (query,) = provider.queries
    assert (query.sender, query.to) == (LANDLINE, TO)
    assert query.since < attempts_of(world, message)[0].started_at < query.until
    clock.advance(3600)
    assert run_due(world) == 0
    assert len(provider.asked) == 2


def test_what_is_held_waits_for_a_person_and_no_list_is_asked(doubtful, clock):
    world, provider, caller = doubtful(LOST)
    message = caller.send(on_unknown="hold").get_json()
    clock.advance(86400)
    assert run_due(world) == 0
    assert caller.message(message["id"])["status"] == "unknown"
    assert provider.queries == []


def test_what_is_to_be_resent_is_sent_again_at_once_and_the_caller_sees_it(doubtful):
    _, provider, caller = doubtful(LOST, taken())
    answer = caller.send(on_unknown="resend")
    assert (answer.status_code, answer.get_json()["status"], answer.get_json()["attempts"]) == (201, "sent", 2)
    assert decisions(caller, answer.get_json()) == [None, "resend", None]
    assert provider.queries == []


def test_a_list_that_cannot_be_had_says_nothing_and_is_asked_again_later(doubtful, clock):
    world, provider, caller = doubtful(LOST, taken())
    message = caller.send().get_json()
    provider.listed = [LookupFailed("server error", 500), LookupFailed("throttled", 429, 40.0), Page((), 0, None)]
    clock.advance(61)
    run_due(world)
    assert caller.message(message["id"])["status"] == "unknown"
    clock.advance(31)
    run_due(world)
    asked_again = row_of(world, message).due_at
    assert asked_again >= clock.now() + timedelta(seconds=40)
    assert len(provider.asked) == 1
    clock.advance(71)
    run_due(world)
    run_due(world)
    assert caller.message(message["id"])["status"] == "sent"
    assert len(provider.asked) == 2


def test_two_that_cannot_be_told_apart_are_left_for_a_person(doubtful, clock):
    world, provider, caller = doubtful(LOST)
    messages = [caller.send(text=text).get_json() for text in ("one", "two")]
    provider.listed = [page(record(clock))]
    clock.advance(61)
    assert run_due(world) == 2
    for message in messages:
        assert caller.message(message["id"])["status"] == "unknown"
        event = caller.events(message["id"])[-1]
        assert (event["type"], event["data"]["decision"]) == ("message.unknown", "hold")
        assert event["data"]["candidates"] == ["11111111-1111-4111-8111-111111111111"]
    clock.advance(86400)
    assert run_due(world) == 0
    assert len(provider.asked) == 2


def test_two_that_were_both_taken_are_both_sent(doubtful, clock):
    world, provider, caller = doubtful(LOST)
    for text in ("one", "two"):
        caller.send(text=text)
    uuids = [f"{digit * 8}-1111-4111-8111-111111111111" for digit in "12"]
    provider.listed = [page(*(record(clock, uuid=uuid) for uuid in uuids))]
    clock.advance(61)
    run_due(world)
    assert counts_by_status(world) == {"sent": 2}
    assert len(provider.asked) == 2


def test_a_record_that_belongs_to_another_message_of_ours_is_no_evidence(doubtful, clock):
    known = taken()
    world, provider, caller = doubtful(known, LOST, taken())
    caller.send()
    message = caller.send().get_json()
    provider.listed = [page(record(clock, uuid=known.message_uuid))]
    clock.advance(61)
    run_due(world)
    assert decisions(caller, message)[-1] == "resend"


def test_a_message_that_is_under_way_may_be_the_one_that_the_list_has(doubtful, clock, dispatching):
    world, provider, caller = doubtful(LOST, Unknown("later"))
    message = caller.send().get_json()
    clock.advance(50)
    other = caller.send(text="another").get_json()  # unknown as well, and not due yet
    provider.listed = [page(record(clock))]
    clock.advance(11)
    run_due(world)
    # The record is in the window of the second only: the first was not taken.
    assert decisions(caller, message)[-1] == "resend"
    assert caller.message(other["id"])["status"] == "unknown"


def test_one_question_settles_all_of_an_outage(doubtful, clock):
    world, provider, caller = doubtful(*[LOST] * 50, taken())
    for number in range(50):
        caller.send(to=f"+1415555{2000 + number}")
    clock.advance(61)
    assert run_due(world) == 50
    assert len(provider.queries) == 1
    assert provider.queries[0].to is None
    assert counts_by_status(world) == {"queued": 50}


def test_a_window_in_which_much_was_sent_is_asked_for_by_number(doubtful, clock):
    world, provider, caller = doubtful(LOST, LOST, taken())
    for number in range(2):
        caller.send(to=f"+1415555{2000 + number}")
    busy = Page(
        tuple(record(clock, to=f"+1415559{1000 + n}", uuid=f"{n:08d}-1111-4111-8111-111111111111") for n in range(20)),
        400,
        20,
    )
    provider.listed = lambda query: busy if query.to is None else Page((), 0, None)
    clock.advance(61)
    run_due(world)
    assert [query.to for query in provider.queries] == [None, "+14155552000", "+14155552001"]
    assert counts_by_status(world) == {"queued": 2}


def test_every_page_is_read_before_anything_is_concluded(doubtful, clock):
    world, provider, caller = doubtful(LOST, LOST)
    numbers = ["+14155552000", "+14155552001"]
    for number in numbers:
        caller.send(to=number)
    strangers = tuple(
        record(clock, to=f"+1415559{1000 + n}", uuid=f"{n:08d}-1111-4111-8111-111111111111") for n in range(20)
    )
    ours = tuple(record(clock, to=to, uuid=f"{to[-8:]}-2222-4222-8222-222222222222") for to in numbers)
    provider.listed = [Page(strangers, 22, 20), Page(ours, 22, None)]
    clock.advance(61)
    run_due(world)
    assert [query.offset for query in provider.queries] == [0, 20]
    assert counts_by_status(world) == {"sent": 2}


def test_the_list_is_asked_no_more_often_than_plivo_allows(doubtful, clock):
    asked_at = []

    def listed(query):
        asked_at.append(clock.now())
        # Much was taken, but not of ours: each number has to be asked for by itself.
        return Page((record(clock, to="+14155559999"),), 4000, 20) if query.to is None else Page((), 0, None)

    world, provider, caller = doubtful(LOST, plivo_list_per_minute=20, lease_seconds=3600)
    for number in range(60):
        caller.send(to=f"+1415555{2000 + number}")
    provider.listed = listed
    clock.advance(61)
    for _ in range(8):
        run_due(world)
        clock.advance(30)
    assert len(asked_at) > 60
    for start in asked_at:
        assert sum(start <= moment < start + timedelta(seconds=60) for moment in asked_at) <= 20


def test_a_list_that_takes_longer_than_a_lease_to_read_is_read_to_its_end(doubtful, clock):
    world, provider, caller = doubtful(LOST, lease_seconds=60.0)
    for number in range(30):
        caller.send(to=f"+1415555{2000 + number}")
        clock.advance(10)
    strangers = [
        record(clock, to=f"+1415559{1000 + n}", uuid=f"{n:08d}-1111-4111-8111-111111111111") for n in range(400)
    ]

    def listed(query):
        end = query.offset + 20
        return Page(tuple(strangers[query.offset : end]), 400, end if end < 400 else None)

    provider.listed = listed
    clock.advance(61)
    run_due(world)
    assert [query.offset for query in provider.queries] == list(range(0, 400, 20))
    assert counts_by_status(world) == {"queued": 30}


def test_a_list_that_goes_in_a_circle_says_nothing(doubtful, clock):
    world, provider, caller = doubtful(LOST)
    message = caller.send().get_json()
    provider.listed = lambda query: Page((record(clock, to="+14155559999"),), 40, 20)
    clock.advance(61)
    run_due(world)
    assert len(provider.queries) == 2
    assert caller.message(message["id"])["status"] == "unknown"


def test_a_receipt_has_the_first_word(live, simulator):
    remote = live(plivo_read_timeout_seconds=0.3, reconcile_after_seconds=30)
    sent = remote.send(to="+14155550007")  # taken, and the answer is lost
    # Where the receipt overtakes the answer to the caller, that one knows it already.
    assert (sent.status_code, sent.json()["status"]) in {(202, "unknown"), (201, "sent"), (201, "delivered")}
    eventually(lambda: remote.message(sent.json()["id"])["status"] == "delivered")
    assert simulator.store.count() == 1


@pytest.mark.parametrize(
    ("kind", "takes"),
    [("reset_before", False), ("reset_after", True), ("html_200", False), ("wrong_json", True), ("500", False)],
)
def test_whatever_plivo_did_the_message_is_there_once_without_any_receipt(
    make_app, dispatching, simulator, kind, takes
):
    app = make_app(reconcile_after_seconds=0.2, plivo_list_per_minute=6000)  # no public URL, so no receipts
    caller = new_caller(app)
    simulator.faults.replace([Rule(kind, count=1)])
    dispatching(app)
    message = caller.send(headers=ASYNC).get_json()
    eventually(lambda: caller.message(message["id"])["status"] in {"sent", "delivered"})
    seen = caller.message(message["id"])
    assert simulator.store.count() == 1
    assert seen["attempts"] == (1 if takes else 2)
    assert seen["provider"]["message_uuid"] is not None


def test_a_message_that_expired_meanwhile_is_expired_and_not_sent_again(doubtful, clock):
    world, provider, caller = doubtful(LOST)
    message = caller.send(expires_in=30).get_json()
    clock.advance(61)
    run_due(world)
    run_due(world)
    assert caller.message(message["id"])["status"] == "expired"
    assert len(provider.asked) == 1


def test_a_message_that_is_never_answered_is_given_up_at_the_end_of_the_horizon(doubtful, clock):
    world, _, caller = doubtful(LOST, retry_horizon_seconds=200)
    message = caller.send().get_json()
    for _ in range(8):
        clock.advance(61)
        run_due(world)
        run_due(world)
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"]["code"]) == ("failed", "provider_unavailable")


def test_the_message_that_was_resent_and_refused_is_failed(doubtful, clock):
    world, _, caller = doubtful(LOST, Rejected("message", "no such number", 400))
    message = caller.send().get_json()
    clock.advance(61)
    run_due(world)
    run_due(world)
    assert caller.message(message["id"])["status"] == "failed"


def test_a_record_that_only_an_attempt_or_a_report_of_another_message_bears_is_not_taken_for_it(make_app, clock):
    first, second = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "12")
    provider = Scripted(LOST, Accepted(second), LOST, taken())
    app = make_app({"clock": clock, "provider": provider}, public_url=PUBLIC_URL)
    world, caller = world_of(app), new_caller(app)
    # Twice in one: both were taken, and the message shows the second.
    twice = caller.send(on_unknown="resend").get_json()
    clock.advance(5)
    run_due(world)
    records = [record(clock, uuid=first), record(clock, uuid=second)]
    report(app, twice["id"], {"Status": "delivered", "MessageUUID": first}, token=AUTH_TOKEN)
    other = caller.send().get_json()
    provider.listed = [page(*records)]
    clock.advance(61)
    run_due(world)
    run_due(world)
    assert decisions(caller, other) == [None, None, "resend", None]
    assert caller.message(other["id"])["provider"]["message_uuid"] not in {first, second}

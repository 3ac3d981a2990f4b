"""What delivery reports make of a message: forward only, however early, late, repeated or out of order they come."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import permutations
from threading import Barrier
from uuid import uuid4

import pytest

from smsapi.clock import ManualClock
from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from smsapi.plivo.simulator.faults import Rule
from smsapi.receipts.service import apply_waiting
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.dispatching import ASYNC, row_of, run_due, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Died, Scripted, taken

UUID_OF_PLIVO = "5b40a428-bfc7-4daf-9d06-726c558bf3b8"


def fields(status, **others):
    return {"Status": status, "MessageUUID": UUID_OF_PLIVO, "From": "14155550100", "To": "14155550123", **others}


@pytest.fixture
def scripted(make_app):
    """Make an app whose provider gives these outcomes, and a caller of it."""

    def make(*outcomes, before=lambda _: None, **replacements):
        provider = Scripted(*(outcomes or (taken(),)), before=before)
        app = make_app({"provider": provider, **replacements}, public_url=PUBLIC_URL)
        return app, new_caller(app)

    return make


def tell(app, message, *statuses, **others):
    for status in statuses:
        answer = report(app, message["id"], fields(status, **others), token=AUTH_TOKEN)
        assert (answer.status_code, answer.data) == (200, b"ok\n")


def types_of(caller, message):
    return [event["type"].removeprefix("message.") for event in caller.events(message["id"])]


def test_a_report_moves_the_message_forward_and_says_when(scripted):
    app, caller = scripted()
    message = caller.send().get_json()
    tell(app, message, "sent", "delivered")
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"]) == ("delivered", None)
    assert seen["sent_at"] <= seen["delivered_at"]
    assert seen["sent_at"] == message["sent_at"]
    assert seen["provider"]["message_uuid"] == message["provider"]["message_uuid"]
    assert types_of(caller, message) == ["queued", "sent", "delivered"]


def test_reports_in_any_order_come_to_the_same_end(scripted):
    app, caller = scripted()
    for order in sorted(set(permutations(["queued", "sent", "delivered", "sent"]))):
        message = caller.send().get_json()
        tell(app, message, *order, *order)
        assert caller.message(message["id"])["status"] == "delivered", order
        assert types_of(caller, message) == ["queued", "sent", "delivered"], order


SAID = {
    "30": "spam",
    "200": "The recipient has opted out of this sender",
    "10": "invalid",
    "420": "expired in Plivo's queue",
    # One that nobody has told us of.
    "31415": "Plivo could not send the message.",
}


def test_a_bad_end_is_told_with_plivos_code_and_is_never_left(scripted):
    app, caller = scripted()
    for number, (status, code, end) in enumerate(
        (
            ("undelivered", "30", "undelivered"),
            ("failed", "200", "failed"),
            ("rejected", "10", "failed"),
            ("failed", "420", "expired"),
            ("failed", "31415", "failed"),
        )
    ):
        # To another number each time: with 200 its owner has opted out.
        message = caller.send(to=f"+1415555{3000 + number}").get_json()
        tell(app, message, status, ErrorCode=code)
        tell(app, message, "sent", "delivered", "undelivered", "failed")
        seen = caller.message(message["id"])
        assert (seen["status"], seen["error"]["code"], seen["provider"]["error_code"]) == (end, end, code)
        assert SAID[code] in seen["error"]["message"]
        assert seen["delivered_at"] is None
        event = caller.events(message["id"])[-1]
        assert event["data"]["error"]["message"] == seen["error"]["message"]
        assert (event["type"], event["data"]["error"]["provider_code"]) == (f"message.{end}", code)
        assert types_of(caller, message) == ["queued", "sent", end]


def test_a_late_failure_does_not_undo_a_delivery(scripted):
    app, caller = scripted()
    message = caller.send().get_json()
    tell(app, message, "delivered")
    before = caller.message(message["id"])
    tell(app, message, "undelivered", "failed", ErrorCode="30")
    assert caller.message(message["id"]) == before


def test_a_report_may_come_before_we_know_that_plivo_took_the_message(scripted):
    def come_early(outgoing):
        tell(app, {"id": outgoing.message_id}, "sent", "delivered")

    app, caller = scripted(before=come_early)
    answer = caller.send()
    assert (answer.status_code, answer.get_json()["status"]) == (201, "delivered")
    assert types_of(caller, answer.get_json()) == ["queued", "sent", "delivered"]
    assert row_of(world_of(app), answer.get_json()).due_at is None


@pytest.mark.parametrize(
    "outcome", [Unknown("server error", 500), Unavailable("throttled", 429), Rejected("message", "no", 400)]
)
def test_an_early_report_outweighs_whatever_our_own_call_then_seems_to_say(scripted, outcome):
    app, caller = scripted(outcome, before=lambda outgoing: tell(app, {"id": outgoing.message_id}, "sent"))
    answer = caller.send(headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.get_json()["status"]) == (201, "sent")
    assert answer.get_json()["provider"]["message_uuid"] == UUID_OF_PLIVO
    assert run_due(world_of(app)) == 0
    assert len(world_of(app).provider.asked) == 1


def test_a_report_settles_an_unknown_outcome(scripted):
    app, caller = scripted(Unknown("no answer"))
    message = caller.send().get_json()
    assert (message["status"], message["error"]["code"]) == ("unknown", "outcome_unknown")
    tell(app, message, "sent")
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"]) == ("sent", None)
    assert seen["provider"] == {"name": "plivo", "message_uuid": UUID_OF_PLIVO, "error_code": None}
    tell(app, message, "delivered")
    assert types_of(caller, message) == ["queued", "unknown", "sent", "delivered"]


def test_a_report_settles_what_was_left_by_a_sender_that_died(scripted):
    def die(_):
        raise Died

    clock = ManualClock(datetime.now(UTC))
    app, caller = scripted(before=die, clock=clock)
    message = caller.send(headers=ASYNC).get_json()
    with pytest.raises(Died):
        run_due(world_of(app))
    tell(app, message, "delivered")
    clock.advance(3600)
    assert run_due(world_of(app)) == 0
    seen = caller.message(message["id"])
    assert (seen["status"], seen["error"], seen["provider"]["name"]) == ("delivered", None, "plivo")


def test_price_and_segments_settle_as_plivo_counts_them(scripted):
    app, caller = scripted()
    message = caller.send(text="Hello").get_json()
    assert (message["price"], message["segments"]) == (None, 1)
    tell(app, message, "sent", TotalAmount="0.01100", Units="2")
    seen = caller.message(message["id"])
    assert seen["price"] == {"amount": "0.01100", "currency": "USD", "estimated": False}
    assert seen["segments"] == 2
    tell(app, message, "delivered", TotalAmount="0.01650", Units="3")
    assert caller.message(message["id"])["price"]["amount"] == "0.01650"
    assert caller.message(message["id"])["segments"] == 3


def test_the_price_may_come_after_the_end(scripted):
    app, caller = scripted()
    message = caller.send().get_json()
    tell(app, message, "delivered")
    tell(app, message, "delivered", TotalAmount="0.00550", Units="1")
    assert caller.message(message["id"])["price"]["amount"] == "0.00550"
    assert types_of(caller, message) == ["queued", "sent", "delivered"]


def test_twenty_reports_at_once_are_told_once(scripted):
    app, caller = scripted()
    message = caller.send().get_json()
    together = Barrier(20)

    def call(number):
        together.wait()
        tell(app, message, "delivered" if number % 2 else "sent", TotalAmount="0.00550", Units="1")

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(call, range(20)))
    # Of so many at once some are stored only, and applied in a dispatcher's time.
    apply_waiting(world_of(app), lambda: False)
    assert types_of(caller, message) == ["queued", "sent", "delivered"]


def test_a_report_of_a_message_that_is_not_ours_is_200_and_does_nothing(scripted):
    app, caller = scripted()
    message = caller.send().get_json()
    for unknown in (f"msg_{uuid4().hex}", message["id"].upper(), "msg_0", "bat_" + uuid4().hex, "%2e%2e", "😀"):
        answer = report(app, unknown, fields("delivered"), token=AUTH_TOKEN)
        # A path that is not plain ASCII is signed otherwise than we see it; all that counts is that nothing breaks.
        assert answer.status_code in {200, 403}
    assert report(app, f"msg_{uuid4().hex}", fields("delivered"), token=AUTH_TOKEN).status_code == 200
    assert caller.message(message["id"]) == message


def test_a_lost_answer_is_made_good_by_the_report_through_the_wire(live, simulator):
    caller = live()
    simulator.faults.replace([Rule("reset_after", count=1)])
    message = caller.send(to="+14155550001").json()
    assert message["status"] in {"unknown", "sent", "delivered"}
    # The answer was lost, and the report finds its message all the same, by the message's own URL.
    seen = eventually(lambda: (found := caller.message(message["id"]))["status"] == "delivered" and found)
    assert seen["error"] is None
    assert simulator.store.count() == 1

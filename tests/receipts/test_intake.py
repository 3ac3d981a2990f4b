"""Delivery reports are stored first and applied as soon as they can be: early ones, strange ones, of two texts."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from smsapi.clock import ManualClock
from smsapi.messages.models import messages
from smsapi.plivo.outcomes import Rejected, Unknown
from smsapi.plivo.signature import MA_V3, V3, V3_NONCE, sign_v3
from smsapi.receipts.service import apply_waiting
from smsapi.receipts.store import receipts
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.dispatching import ASYNC, row_of, run_due, uuid_of, world_of
from tests.support.plivo_calls import PUBLIC_URL, path_of, report
from tests.support.providers import Scripted, taken

pytestmark = pytest.mark.both_stores

ONE = "5b40a428-bfc7-4daf-9d06-726c558bf3b8"


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def make(make_app, clock):
    """Make an app whose provider gives these outcomes, and a caller of it."""

    def build(*outcomes, **settings):
        provider = Scripted(*(outcomes or (taken(),)))
        app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL, **settings)
        return app, new_caller(app)

    return build


def tell(app, message_id, status, **others):
    answer = report(app, message_id, {"Status": status, **others}, token=AUTH_TOKEN)
    assert (answer.status_code, answer.data) == (200, b"ok\n")


def kept(app):
    with world_of(app).database.read() as connection:
        return connection.execute(select(receipts).order_by(receipts.c.received_at, receipts.c.id)).all()


def types_of(caller, message):
    return [event["type"].removeprefix("message.") for event in caller.events(message["id"])]


def look(app):
    return apply_waiting(world_of(app), lambda: False)


def test_each_distinct_report_is_kept_once_with_all_that_it_says(make):
    app, caller = make()
    message = caller.send().get_json()
    said = {"MessageUUID": ONE, "Sequence": "2", "ErrorCode": "9999", "Units": "2", "TotalAmount": "0.011"}
    said |= {"MCC": "310", "MNC": "260", "SentTime": "2026-11-20 10:00:00.5", "From": "14155550100"}
    for _ in range(3):
        tell(app, message["id"], "undelivered", **said)
    (row,) = kept(app)
    assert (row.state, row.applied_at is None, row.look_at) == ("applied", False, None)
    assert (row.provider_uuid, row.sequence, row.error_code, row.units) == (ONE, 2, "9999", 2)
    assert (row.amount_micros, row.mcc, row.mnc, row.sent_time) == (11000, "310", "260", "2026-11-20 10:00:00.500000")
    tell(app, message["id"], "undelivered", **said | {"Sequence": "3"})
    assert len(kept(app)) == 2
    seen = caller.message(message["id"])
    assert (seen["status"], seen["provider"]["error_code"]) == ("undelivered", "9999")


def test_a_report_may_come_by_get_with_its_fields_in_the_signed_query(make):
    app, caller = make()
    message = caller.send().get_json()
    query = urlencode({"Status": "delivered", "MessageUUID": ONE, "To": "14155550123", "Text": "Grüße 😀"})
    url = f"{PUBLIC_URL}{path_of(message['id'])}?{query}"
    good = sign_v3(method="GET", url=url, nonce="1", token=AUTH_TOKEN, params={})
    for signature, status in ((good[::-1], 403), (f"AAAA, {good}", 200)):
        headers = {MA_V3: signature, V3: "of-another-token", V3_NONCE: "1"}
        answer = app.test_client().get(f"{path_of(message['id'])}?{query}", headers=headers)
        assert answer.status_code == status
    changed = query.replace("delivered", "failed")
    answer = app.test_client().get(f"{path_of(message['id'])}?{changed}", headers=headers)
    assert answer.status_code == 403
    assert caller.message(message["id"])["status"] == "delivered"


def test_a_report_before_the_messages_own_commit_waits_and_is_applied_when_it_appears(make, clock):
    app, caller = make()
    message = caller.send(headers=ASYNC).get_json()
    hidden, own = uuid4(), uuid_of(message)
    tell(app, f"msg_{hidden.hex}", "delivered", MessageUUID=ONE)
    clock.advance(5)
    assert look(app) == 1
    assert [row.state for row in kept(app)] == ["waiting"]
    # It appears: as if the message had had this id from the start.
    with world_of(app).database.transaction() as connection:
        connection.execute(update(receipts).values(message_id=own))
    assert look(app) == 0  # looked at later each time
    clock.advance(60)
    assert look(app) == 1
    assert caller.message(message["id"])["status"] == "delivered"
    assert [row.state for row in kept(app)] == ["applied"]


def test_reports_of_what_never_appears_are_dropped_after_a_day(make, clock):
    app, _ = make()
    tell(app, f"msg_{uuid4().hex}", "delivered")
    looks = 0
    for _ in range(24 * 6 - 1):
        clock.advance(600)
        looks += look(app)
    assert len(kept(app)) == 1
    assert looks > 100
    clock.advance(1200)
    look(app)
    assert kept(app) == []


def test_a_report_with_the_id_of_another_message_is_kept_apart_and_moves_nothing(make):
    mine, other = taken(), taken()
    app, caller = make(mine, other)
    one, two = caller.send().get_json(), caller.send().get_json()
    tell(app, one["id"], "undelivered", MessageUUID=two["provider"]["message_uuid"], ErrorCode="30")
    assert (caller.message(one["id"]), caller.message(two["id"])) == (one, two)
    assert [row.state for row in kept(app)] == ["mismatched"]
    tell(app, one["id"], "delivered", MessageUUID=one["provider"]["message_uuid"])
    assert caller.message(one["id"])["status"] == "delivered"
    assert 'smsapi_receipts_total{result="mismatched"} 1.0' in app.test_client().get("/metrics").text


def test_of_a_message_that_was_taken_twice_both_ids_are_kept_and_the_better_end_counts(make):
    second = taken()
    app, caller = make(Unknown("no answer"), second)
    message = caller.send(on_unknown="resend").get_json()
    assert (message["status"], message["attempts"]) == ("sent", 2)
    tell(app, message["id"], "failed", MessageUUID=ONE, ErrorCode="300")
    assert caller.message(message["id"])["status"] == "sent"
    tell(app, message["id"], "delivered", MessageUUID=second.message_uuid, TotalAmount="0.0055")
    seen = caller.message(message["id"])
    assert (seen["status"], seen["provider"]["message_uuid"]) == ("delivered", second.message_uuid)
    assert [row.provider_uuid for row in kept(app)] == [ONE, second.message_uuid]


def test_both_texts_may_end_badly(make):
    second = taken()
    app, caller = make(Unknown("no answer"), second)
    message = caller.send(on_unknown="resend").get_json()
    tell(app, message["id"], "undelivered", MessageUUID=second.message_uuid, ErrorCode="80")
    assert caller.message(message["id"])["status"] == "undelivered"


def test_another_end_than_the_one_that_stands_is_kept_and_counted_and_changes_nothing(make):
    app, caller = make()
    message = caller.send().get_json()
    tell(app, message["id"], "delivered", Sequence="3")
    before = caller.message(message["id"])
    tell(app, message["id"], "undelivered", Sequence="2", ErrorCode="30")
    assert caller.message(message["id"]) == before
    assert types_of(caller, message) == ["queued", "sent", "delivered"]
    assert 'smsapi_receipts_total{result="contradicts"} 1.0' in app.test_client().get("/metrics").text


def test_reports_that_waited_together_are_weighed_by_their_sequence(make, clock):
    app, caller = make()
    message = caller.send(headers=ASYNC).get_json()
    stranger = f"msg_{uuid4().hex}"
    tell(app, stranger, "delivered", Sequence="3")
    tell(app, stranger, "undelivered", Sequence="2", ErrorCode="30")
    tell(app, stranger, "sent", Sequence="1")
    with world_of(app).database.transaction() as connection:
        connection.execute(update(receipts).values(message_id=uuid_of(message)))
    clock.advance(1)
    look(app)
    assert caller.message(message["id"])["status"] == "undelivered"
    assert types_of(caller, message) == ["queued", "undelivered"]


def test_a_bad_end_of_an_earlier_attempt_waits_while_another_is_under_way(make, clock):
    app, caller = make(Unknown("no answer"), Rejected("message", "no", 400))

    def interrupt(outgoing):
        if outgoing.attempt == 2:
            tell(app, outgoing.message_id, "failed", MessageUUID=ONE, ErrorCode="10")

    world_of(app).provider._before = interrupt
    message = caller.send(on_unknown="resend", headers=ASYNC).get_json()
    run_due(world_of(app))
    clock.advance(60)
    run_due(world_of(app))
    assert row_of(world_of(app), message).attempts == 2
    clock.advance(60)
    look(app)
    assert caller.message(message["id"])["status"] == "failed"
    assert [row.state for row in kept(app)] == ["applied"]


def test_a_running_dispatcher_applies_what_waits(make_app, dispatching):
    app = make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL)
    caller = new_caller(app)
    message = caller.send().get_json()
    stranger = uuid4()
    tell(app, f"msg_{stranger.hex}", "delivered")
    with world_of(app).database.transaction() as connection:
        past = datetime.now(UTC) - timedelta(seconds=5)
        connection.execute(update(receipts).values(message_id=uuid_of(message), look_at=past))
    dispatching(app)
    eventually(lambda: caller.message(message["id"])["status"] == "delivered")


def test_no_number_is_kept_with_a_report(make):
    app, caller = make()
    message = caller.send(to="+14155550123").get_json()
    tell(app, message["id"], "sent", From="14155550100", To="14155550123")
    assert not any("5550123" in str(value) for row in kept(app) for value in row)
    assert isinstance(kept(app)[0].message_id, UUID)
    with world_of(app).database.read() as connection:
        assert connection.execute(select(messages.c.status)).scalar_one() == "sent"

"""Delivery reports on the URL of a call that many messages shared: whose they are, and what they then tell."""

from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from sqlalchemy import update

from smsapi.clock import ManualClock
from smsapi.dispatch.chores import ask_for_reports
from smsapi.ids import new_id, read_id
from smsapi.messages.models import messages
from smsapi.plivo.lookup import Record
from smsapi.plivo.outcomes import Unknown
from smsapi.plivo.simulator.callbacks import signature_headers
from tests.conftest import AUTH_TOKEN, new_caller
from tests.support.batching import chunks_of, queue_batch, rows_of, statuses_of
from tests.support.dispatching import run_due, world_of
from tests.support.plivo_calls import FORM, PUBLIC_URL, signed
from tests.support.providers import Scripted, page, taken

NUMBERS = [f"+1415556{1000 + place}" for place in range(4)]
UUIDS = [str(uuid4()) for _ in NUMBERS]


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def app(make_app, clock):
    return make_app({"provider": Scripted(taken()), "clock": clock}, public_url=PUBLIC_URL)


@pytest.fixture
def sent(app):
    """A batch that was sent in one call: the app, its caller, the batch, its messages, and the call's id."""
    return _sent(app)


def _sent(app, numbers=NUMBERS):
    caller = new_caller(app)
    batch, ids = queue_batch(caller, numbers)
    run_due(world_of(app))
    call = world_of(app).provider.asked[-1]
    assert call.callback_url == f"{PUBLIC_URL}/plivo/status/batch/{call.chunk_id}"
    return caller, batch, ids, call.chunk_id


def tell(app, chunk, to, uuid, *statuses, token=AUTH_TOKEN, **others):
    path = f"/plivo/status/batch/{chunk}"
    for status in statuses:
        fields = {"Status": status, "To": to, "MessageUUID": uuid, "From": "14155550100", **others}
        headers = signed(token, PUBLIC_URL + path, fields)
        answer = app.test_client().post(path, data=urlencode(fields), headers=headers, content_type=FORM)
        if token == AUTH_TOKEN:
            assert (answer.status_code, answer.data) == (200, b"ok\n")
    return answer.status_code


def counted(app, result):
    found = [
        line.rpartition(" ")[2]
        for line in app.test_client().get("/metrics").text.splitlines()
        if line.startswith(f'smsapi_receipts_total{{result="{result}"}}')
    ]
    return float(found[0]) if found else 0.0


def test_a_report_is_that_of_the_message_to_its_number_and_tells_plivos_id(app, sent):
    caller, batch, ids, chunk = sent
    tell(app, chunk, NUMBERS[1].removeprefix("+"), UUIDS[1], "sent", "delivered")
    tell(app, chunk, NUMBERS[2], UUIDS[2], "sent")
    seen = [caller.message(each) for each in ids]
    assert [each["status"] for each in seen] == ["sent", "delivered", "sent", "sent"]
    assert [each["provider"]["message_uuid"] for each in seen] == [None, UUIDS[1], UUIDS[2], None]
    (rows,) = chunks_of(world_of(app), batch).values()
    assert {row.to_number: row.provider_uuid for row in rows} == dict(
        zip(NUMBERS, (None, UUIDS[1], UUIDS[2], None), strict=True)
    )
    assert [event["type"] for event in caller.events(ids[1])][-1] == "message.delivered"


def test_a_bad_end_is_that_of_one_and_not_of_the_others(app, sent):
    caller, batch, ids, chunk = sent
    tell(app, chunk, NUMBERS[0], UUIDS[0], "undelivered", ErrorCode="30")
    assert statuses_of(world_of(app), batch) == {"undelivered": 1, "sent": 3}
    assert caller.message(ids[0])["provider"]["error_code"] == "30"


def test_a_report_by_get_is_taken_as_well(app, sent):
    caller, _, ids, chunk = sent
    query = urlencode({"Status": "delivered", "To": NUMBERS[3], "MessageUUID": UUIDS[3]})
    url = f"/plivo/status/batch/{chunk}?{query}"
    headers = signature_headers(method="GET", url=PUBLIC_URL + url, token=AUTH_TOKEN, params={})
    assert app.test_client().get(url, headers=headers).status_code == 200
    assert caller.message(ids[3])["status"] == "delivered"


def test_without_plivos_signature_nothing_is_looked_at(app, sent):
    _, batch, _, chunk = sent
    assert tell(app, chunk, NUMBERS[0], UUIDS[0], "delivered", token="somebody-else-s-token") == 403
    assert statuses_of(world_of(app), batch) == {"sent": 4}


def test_what_is_of_none_of_the_recipients_is_answered_and_counted(app, sent):
    _, batch, _, chunk = sent
    unknown = counted(app, "unknown_message")
    tell(app, chunk, "14155569999", UUIDS[0], "delivered")
    tell(app, chunk, "", UUIDS[0], "delivered")
    tell(app, f"chk_{new_id().hex}", NUMBERS[0], UUIDS[0], "delivered")
    tell(app, "chk_none", NUMBERS[0], UUIDS[0], "delivered")
    tell(app, chunk.replace("chk", "msg"), NUMBERS[0], UUIDS[0], "delivered")
    assert counted(app, "unknown_message") == unknown + 5
    tell(app, chunk, NUMBERS[0], UUIDS[0], "as if")
    assert counted(app, "not_understood") == 1
    assert statuses_of(world_of(app), batch) == {"sent": 4}


def test_a_number_that_plivo_corrects_is_found_by_the_id_once_that_is_known(app, sent):
    caller, batch, ids, chunk = sent
    tell(app, chunk, "14155569999", UUIDS[0], "delivered")
    assert statuses_of(world_of(app), batch) == {"sent": 4}
    tell(app, chunk, NUMBERS[0], UUIDS[0], "sent")
    tell(app, chunk, "14155569999", UUIDS[0].upper(), "delivered")
    assert caller.message(ids[0])["status"] == "delivered"


def test_a_masked_number_tells_only_where_no_other_of_the_call_begins_so(app):
    caller, batch, ids, chunk = _sent(app, ["+14155561000", "+14155561001", "+447700900123"])
    tell(app, chunk, "14155561***", UUIDS[0], "delivered")
    assert statuses_of(world_of(app), batch) == {"sent": 3}
    tell(app, chunk, "447700900***", UUIDS[2], "delivered")
    assert caller.message(ids[2])["status"] == "delivered"
    # The id tells where it was learnt.
    tell(app, chunk, "14155561001", UUIDS[1], "sent")
    tell(app, chunk, "14155561***", UUIDS[1], "delivered")
    assert [caller.message(each)["status"] for each in ids] == ["sent", "delivered", "delivered"]
    tell(app, chunk, "***", str(uuid4()), "delivered")
    assert caller.message(ids[0])["status"] == "sent"


@pytest.mark.parametrize("shown", ["5215512345678", "+525512345678", "52155123***", "525512345***"])
def test_a_mexican_number_is_told_in_both_of_its_forms_and_with_any_case_of_its_id(app, shown):
    caller, _, ids, chunk = _sent(app, ["+525512345678", "+14155561000"])
    tell(app, chunk, shown, UUIDS[0].upper(), "sent")
    tell(app, chunk, shown, UUIDS[0], "delivered")
    assert [caller.message(each)["status"] for each in ids] == ["delivered", "sent"]


def test_of_an_erased_message_only_a_known_id_tells(app, sent):
    caller, _, ids, chunk = sent
    tell(app, chunk, NUMBERS[0], UUIDS[0], "sent")
    for each in ids[:2]:
        with world_of(app).database.transaction() as connection:
            erased = update(messages).where(messages.c.id == read_id("msg", each))
            connection.execute(erased.values(to_number="", text="", erased_at=world_of(app).clock.now()))
    tell(app, chunk, NUMBERS[0], UUIDS[0], "delivered")
    tell(app, chunk, NUMBERS[1], UUIDS[1], "delivered")
    # What is erased may have been any number, so that a mask tells nothing either.
    tell(app, chunk, NUMBERS[2][:-3] + "***", UUIDS[2], "delivered")
    assert [caller.message(each)["status"] for each in ids] == ["delivered", "sent", "sent", "sent"]


def test_one_id_for_two_numbers_moves_only_the_first(app, sent):
    caller, _, ids, chunk = sent
    tell(app, chunk, NUMBERS[0], UUIDS[0], "delivered")
    tell(app, chunk, NUMBERS[1], UUIDS[0], "delivered")
    assert [caller.message(each)["status"] for each in ids[:2]] == ["delivered", "sent"]
    assert counted(app, "mismatched") == 1
    tell(app, chunk, NUMBERS[1], UUIDS[1], "delivered")
    assert caller.message(ids[1])["status"] == "delivered"


def test_reports_may_come_before_we_know_that_plivo_took_them(make_app, clock):
    def report(call):
        tell(app, call.chunk_id, NUMBERS[0], UUIDS[0], "sent")
        tell(app, call.chunk_id, NUMBERS[1], UUIDS[1], "delivered")

    for outcome in (taken(), Unknown("no answer")):
        provider = Scripted(outcome, before=report)
        app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL)
        caller = new_caller(app)
        batch, ids = queue_batch(caller, NUMBERS)
        run_due(world_of(app))
        rest = "unknown" if isinstance(outcome, Unknown) else "sent"
        seen = [caller.message(each) for each in ids]
        assert [each["status"] for each in seen] == ["sent", "delivered", rest, rest]
        assert [each["provider"]["message_uuid"] for each in seen] == [UUIDS[0], UUIDS[1], None, None]
        assert rows_of(world_of(app), batch)[NUMBERS[1]].due_at is None
        UUIDS[:2] = [str(uuid4()), str(uuid4())]


def test_a_bad_end_of_one_text_waits_for_the_other_whose_id_is_not_known_yet(make_app, clock):
    provider = Scripted(Unknown("no answer"), taken())
    app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL, lease_seconds=30)
    caller = new_caller(app)
    # Enough for a tenth of them to share the next call.
    _, ids = queue_batch(caller, [*NUMBERS, *(f"+1415557{1000 + place}" for place in range(36))])
    run_due(world_of(app))
    clock.advance(61)
    run_due(world_of(app))  # the list has none of them
    run_due(world_of(app))
    first, second = (call.chunk_id for call in provider.asked[:2])
    assert len(provider.asked) == 11
    # The first call was taken after all.
    tell(app, first, NUMBERS[0], UUIDS[0], "undelivered", ErrorCode="30")
    assert caller.message(ids[0])["status"] == "sent"
    other = str(uuid4())
    tell(app, second, NUMBERS[0], other, "sent", "delivered")
    assert caller.message(ids[0])["status"] == "delivered"
    tell(app, second, NUMBERS[1], UUIDS[1], "undelivered", ErrorCode="30")
    assert caller.message(ids[1])["status"] == "undelivered"


def record(number, uuid, at, state="delivered"):
    return Record(uuid, number.removeprefix("+"), "14155550100", at, state, None, 1, "0.00550")


def test_those_that_nobody_reported_are_found_in_the_list_by_number_and_time(app, sent, clock):
    caller, batch, ids, _ = sent
    at = clock.now()
    strange = record("+14155569999", str(uuid4()), at)
    found = [record(number, uuid, at) for number, uuid in zip(NUMBERS[:2], UUIDS[:2], strict=True)]
    world_of(app).provider.listed = lambda query: page(
        *[each for each in (*found, strange) if query.to in {None, f"+{each.to}"}]
    )
    clock.advance(world_of(app).settings.receipt_after_seconds + 1)
    _ask_for_overdue(world_of(app))
    seen = [caller.message(each) for each in ids]
    assert [each["status"] for each in seen] == ["delivered", "delivered", "sent", "sent"]
    assert [each["provider"]["message_uuid"] for each in seen] == [*UUIDS[:2], None, None]
    assert caller.events(ids[2])[-1]["data"]["note"] == "no_receipt"
    assert {row.due_at for row in rows_of(world_of(app), batch).values()} == {None}


def test_a_record_that_may_be_another_message_s_is_nobody_s(app, clock):
    caller, _, ids, _ = _sent(app)
    other, _, theirs, _ = _sent(app, NUMBERS[:2])
    at = clock.now()
    # One of the two to the first number, at another time, and one of the two to the second, at the same.
    found = [record(NUMBERS[0], UUIDS[0], at), record(NUMBERS[1], UUIDS[1], at), record(NUMBERS[2], UUIDS[2], at)]
    world_of(app).provider.listed = lambda query: page(*[each for each in found if query.to in {None, f"+{each.to}"}])
    clock.advance(world_of(app).settings.receipt_after_seconds + 1)
    _ask_for_overdue(world_of(app))
    assert [caller.message(each)["status"] for each in ids] == ["sent", "sent", "delivered", "sent"]
    assert [other.message(each)["status"] for each in theirs] == ["sent", "sent"]


def _ask_for_overdue(world):
    for _ in range(30):
        if not ask_for_reports(world, lambda: False):
            return
        world.clock.advance(60)

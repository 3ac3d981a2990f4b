"""The standing of a message by all that Plivo said of it: the order, repetitions and gaps make no difference."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.messages.statuses import DELIVERED, EXPIRED, FAILED, FINAL, QUEUED, SENT, UNDELIVERED, UNKNOWN, advance
from smsapi.receipts.facts import Receipt, read_receipt, settle

ENDS = sorted(FINAL - {"canceled"})
ONE, OTHER = "5b40a428-bfc7-4daf-9d06-726c558bf3b8", "f6f0a5b6-2a29-4a35-8a3a-2c28bb8a7d3c"

nothing = st.none()
times = st.none() | st.integers(0, 59).map("2026-11-20 10:00:{:02d}.000000".format)
amounts = st.none() | st.integers(0, 5).map(lambda cents: cents * 5500)


def receipts(facts, uuids=nothing):
    return st.builds(
        Receipt,
        said=st.just("said"),
        fact=facts,
        provider_uuid=uuids,
        sequence=st.none() | st.integers(1, 4),
        units=st.none() | st.integers(0, 3),
        amount_micros=amounts,
        report_time=times,
    )


anything = st.lists(receipts(st.sampled_from([SENT, *ENDS])), max_size=7)
of_two_texts = st.lists(receipts(st.sampled_from([SENT, *ENDS]), st.sampled_from([None, ONE, OTHER])), max_size=7)
# What Plivo says where it does not contradict itself: under way, and one end.
history = st.sampled_from(ENDS).flatmap(lambda end: st.lists(receipts(st.sampled_from([SENT, end])), min_size=1))


def heard_one_by_one(heard, start):
    """Move a status as each receipt comes in, by all that were heard so far."""
    status = start
    for count in range(1, len(heard) + 1):
        status = advance(status, settle(heard[:count]).status)
    return status


@given(anything, st.randoms())
def test_neither_order_nor_repetition_makes_a_difference_even_where_plivo_contradicts_itself(heard, chance):
    again = [*heard, *chance.choices(heard, k=5)] if heard else []
    chance.shuffle(again)
    assert settle(again) == settle(heard)


@given(of_two_texts, st.sets(st.sampled_from([ONE, OTHER])), st.randoms())
def test_nor_where_two_texts_were_taken(heard, texts, chance):
    again = [*heard, *heard]
    chance.shuffle(again)
    assert settle(again, texts=texts) == settle(heard, texts=texts)


@given(history, st.sampled_from([QUEUED, UNKNOWN, SENT]), st.randoms(), st.data())
def test_receipts_one_by_one_in_any_order_and_with_gaps_come_to_the_end_that_plivo_told(heard, start, chance, data):
    kept = [each for each in heard if each.fact in FINAL or data.draw(st.booleans())]
    again = [*kept, *kept]
    chance.shuffle(again)
    ends = {each.fact for each in heard} & FINAL
    if ends:
        assert {heard_one_by_one(again, start)} == ends
    elif again:
        assert heard_one_by_one(again, start) == SENT


@given(anything, st.sampled_from(ENDS))
def test_no_receipt_takes_a_message_out_of_its_end(heard, end):
    assert heard_one_by_one(heard, end) == end


def receipt(fact, **values):
    return Receipt(said=fact, fact=fact, **values)


@pytest.mark.parametrize(
    ("one", "other", "end"),
    [
        ({"sequence": 3}, {"sequence": 2}, UNDELIVERED),
        ({"sequence": 2}, {"sequence": 3}, DELIVERED),
        ({"sequence": 2, "report_time": "2026-11-20 10:00:09"}, {"sequence": 3, "report_time": "2026"}, DELIVERED),
        ({"report_time": "2026-11-20 10:00:09"}, {"report_time": "2026-11-20 10:00:08"}, UNDELIVERED),
        ({"sequence": 9, "report_time": "2026-11-20 10:00:09"}, {"report_time": "2026-11-20 10:00:08"}, UNDELIVERED),
        ({"sequence": 2}, {}, DELIVERED),
        ({}, {"sequence": 2}, DELIVERED),
        ({}, {}, DELIVERED),
    ],
)
def test_of_two_ends_the_one_stands_that_plivo_came_to_first(one, other, end):
    standing = settle([receipt(DELIVERED, **one), receipt(UNDELIVERED, error_code="30", **other)])
    assert (standing.status, standing.decisive.error_code) == (end, "30" if end == UNDELIVERED else None)


def test_of_ends_that_nothing_tells_apart_the_better_one_stands():
    ends = [DELIVERED, UNDELIVERED, FAILED, EXPIRED]
    for place, end in enumerate(ends):
        assert settle([receipt(each) for each in reversed(ends[place:])]).status == end


def test_the_price_is_the_last_that_plivo_says_and_nothing_is_a_price_only_at_the_end():
    early = receipt(SENT, sequence=1, amount_micros=0)
    sent = receipt(SENT, sequence=2, amount_micros=11_000, units=2)
    late = receipt(DELIVERED, sequence=3, amount_micros=16_500, units=3)
    assert settle([early]).amount_micros is None
    assert (settle([late, early, sent]).amount_micros, settle([late, sent]).units) == (16_500, 3)
    assert settle([early, sent]).amount_micros == 11_000
    assert settle([receipt(FAILED, amount_micros=0)]).amount_micros == 0


def test_of_two_texts_one_that_is_under_way_or_delivered_outweighs_the_other():
    bad = receipt(FAILED, provider_uuid=ONE, amount_micros=0)
    good = receipt(DELIVERED, provider_uuid=OTHER.upper(), amount_micros=5500)
    assert settle([bad], texts={ONE}).status == FAILED
    assert settle([bad], texts={ONE, OTHER}).status == SENT
    assert settle([bad, replace(good, fact=SENT)], texts={ONE, OTHER}).status == SENT
    assert settle([bad, good], texts={ONE, OTHER}).status == DELIVERED
    assert settle([replace(bad, amount_micros=5500), good], texts={ONE, OTHER}).amount_micros == 11_000
    worse = replace(bad, provider_uuid=OTHER, fact=UNDELIVERED)
    assert settle([bad, worse], texts={ONE, OTHER}).status == UNDELIVERED


def test_all_that_plivo_says_is_read_and_what_cannot_be_is_left_out():
    fields = {
        "Status": "Delivered",
        "MessageUUID": ONE,
        "Sequence": "3",
        "MCC": "310",
        "MNC": "004",
        "MessageTime": "2026-11-20 10:00:00.000001",
        "QueuedTime": "2026-11-20 10:00:01.5",
        "SentTime": "2026-11-20T10:00:02",
        "DeliveryReportTime": "a moment ago",
    }
    read = read_receipt(fields)
    assert (read.said, read.fact, read.sequence, read.mcc, read.mnc) == ("delivered", DELIVERED, 3, "310", "004")
    assert (read.message_time, read.queued_time) == ("2026-11-20 10:00:00.000001", "2026-11-20 10:00:01.500000")
    assert (read.time, read.report_time) == ("2026-11-20 10:00:02.000000", None)
    assert read_receipt({"Status": "enqueued"}) is None


def test_an_error_code_that_nobody_knows_is_kept_as_it_is():
    assert read_receipt({"Status": "failed", "ErrorCode": "9999"}).error_code == "9999"
    assert read_receipt({"Status": "failed", "ErrorCode": "420"}).fact == EXPIRED
    assert read_receipt({"Status": "delivered", "ErrorCode": "000"}).error_code is None

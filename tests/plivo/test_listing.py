"""What Plivo's message list is taken to say, and when it is not believed."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.plivo.answers import Answer
from smsapi.plivo.listing import read_listing
from smsapi.plivo.lookup import LookupFailed, Page, Query, Record

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
UUID = "0b5c1c3e-7f1d-4a86-9a3e-5c0f0f3b9d21"
QUERY = Query("+14155550100", "+14155552671", since=NOW - timedelta(hours=1), until=NOW)
NEXT = "/v1/Account/MAXXXXXXXXXXXXXXXXXX/Message/?limit=20&offset=20"


def shown(**changes: Any) -> dict[str, Any]:
    """A record as Plivo's samples have it, with these members changed."""
    return {
        "message_uuid": UUID,
        "from_number": "14155550100",
        "to_number": "14155552671",
        "message_time": "2026-01-01 17:15:00.250000+05:30",
        "message_direction": "outbound",
        "message_state": "delivered",
        "message_type": "sms",
        "error_code": "000",
        "units": 2,
        "total_rate": "0.00550",
        "total_amount": "0.01100",
        **changes,
    }


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in shown().items() if key != name}


def listed(*objects: Any, total: Any = None, offset: Any = 0, onward: Any = None, **more: Any) -> dict[str, Any]:
    count = len(objects) if total is None else total
    meta = {"limit": 20, "offset": offset, "total_count": count, "next": onward, "previous": None}
    return {"api_id": UUID, "meta": meta, "objects": list(objects), **more}


def read(body: object, status: int = 200, *, query: Query = QUERY, **keywords: Any) -> Page | LookupFailed:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_listing(Answer(status, raw, keywords.pop("retry_after", None)), query, now=NOW, **keywords)


def at(offset: int) -> Query:
    return Query(QUERY.sender, QUERY.to, QUERY.since, QUERY.until, offset)


def test_a_record_is_read_with_its_time_in_utc():
    taken_at = datetime(2026, 1, 1, 11, 45, 0, 250_000, tzinfo=UTC)
    record = Record(UUID, "14155552671", "14155550100", taken_at, "delivered", None, 2, "0.01100")
    found = read(listed(shown()))
    assert found == Page((record,), 1, None)
    assert isinstance(found, Page)
    assert found.records[0].taken_at.tzinfo is UTC


def test_an_empty_list_is_an_empty_page():
    assert read(listed()) == Page((), 0, None)


@pytest.mark.parametrize(
    ("said", "microsecond"),
    [
        ("2026-01-01 17:15:00+05:30", 0),
        ("2026-01-01 11:45:00.5+00:00", 500_000),
        ("2026-01-01 17:15:00.94772+05:30", 947_720),
        ("2026-01-01T11:45:00Z", 0),
        ("2026-01-01 06:45:00-05:00", 0),
    ],
)
def test_a_time_is_read_in_whatever_zone_it_is_given(said, microsecond):
    found = read(listed(shown(message_time=said)))
    assert isinstance(found, Page)
    assert found.records[0].taken_at == datetime(2026, 1, 1, 11, 45, 0, microsecond, tzinfo=UTC)


@pytest.mark.parametrize("to", ["14155552***", "+14155552671", "1415555****"])
def test_a_number_stays_as_it_came(to):
    found = read(listed(shown(to_number=to)))
    assert isinstance(found, Page)
    assert found.records[0].to == to


@pytest.mark.parametrize(
    ("changes", "error_code", "units", "amount"),
    [
        ({"error_code": "30"}, "30", 2, "0.01100"),
        ({"error_code": 30}, "30", 2, "0.01100"),
        ({"error_code": None}, None, 2, "0.01100"),
        ({"error_code": ""}, None, 2, "0.01100"),
        ({"error_code": "see below"}, None, 2, "0.01100"),
        ({"units": None}, None, None, "0.01100"),
        ({"units": "2"}, None, None, "0.01100"),
        ({"units": True}, None, None, "0.01100"),
        ({"units": -1}, None, None, "0.01100"),
        ({"units": 10**30}, None, None, "0.01100"),
        ({"total_amount": None}, None, 2, None),
        ({"total_amount": 0.011}, None, 2, None),
        ({"total_amount": "free"}, None, 2, None),
        ({"total_amount": "9" * 40}, None, 2, None),
    ],
)
def test_what_only_describes_a_record_may_be_missing(changes, error_code, units, amount):
    found = read(listed(shown(**changes)))
    assert isinstance(found, Page)
    (record,) = found.records
    assert (record.error_code, record.units, record.amount) == (error_code, units, amount)


@pytest.mark.parametrize("name", ["message_uuid", "from_number", "to_number", "message_time", "message_state"])
@pytest.mark.parametrize("value", [None, "", 7, [], {}, "\x00", "é", "x" * 100])
def test_a_record_that_is_not_understood_spoils_the_whole_list(name, value):
    for broken in (shown(**{name: value}), without(name)):
        found = read(listed(shown(), broken, shown()))
        assert found == LookupFailed(f"a record has no readable {name}", 200)


@pytest.mark.parametrize(
    "changes",
    [
        {"message_uuid": "../../x"},
        {"message_uuid": UUID + "\n"},
        {"to_number": "***"},
        {"to_number": "14155552671<14155552672"},
        {"from_number": "+"},
        {"message_time": "2026-01-01 11:45:00"},  # of which zone?
        {"message_time": "2026-01-01"},
        {"message_time": "yesterday"},
        {"message_time": "0001-01-01 00:00:00+14:00"},
        {"message_time": 1_767_267_900},
        {"message_state": "Delivered\n"},
    ],
)
def test_a_record_that_is_only_half_understood_does_too(changes):
    assert isinstance(read(listed(shown(**changes))), LookupFailed)


@pytest.mark.parametrize("record", [None, "x", 7, [], [shown()]])
def test_a_record_that_is_no_object_spoils_the_list(record):
    assert read(listed(record)) == LookupFailed("a record is not an object", 200)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Please sign in</html>",
        b"null",
        b"[]",
        b"[" * 60_000,
        b"\xff\xfe\x00",
        json.dumps(listed(shown())).encode()[:-2],
        {},
        {"api_id": UUID, "message": "async api spawned"},
        {"objects": []},
        {"meta": {"total_count": 0, "offset": 0}},
        {"meta": [], "objects": []},
        {"meta": {"total_count": 0, "offset": 0}, "objects": None},
        {"meta": {"total_count": 0, "offset": 0}, "objects": {}},
        listed(error="a shard did not answer"),
    ],
)
def test_a_success_without_a_list_is_a_failure(body):
    assert read(body) == LookupFailed("the answer holds no list", 200)


@pytest.mark.parametrize("total", [-1, "0", True, 1.0, [], 10**12])
def test_a_list_without_a_total_is_a_failure(total):
    assert read(listed(total=total)) == LookupFailed("the list has no total", 200)


def test_where_no_total_is_counted_the_list_ends_where_plivo_says_that_nothing_follows():
    last, more = listed(*[shown()] * 3, offset=20), listed(*[shown()] * 20, onward=NEXT)
    nothing = listed()
    for each in (last, more, nothing):
        del each["meta"]["total_count"]
    assert read(last, query=at(20)) == Page(_records(3), 23, None)
    assert read(more) == Page(_records(20), 21, 20)
    assert read(nothing) == Page((), 0, None)
    del nothing["meta"]["next"]
    assert read(nothing) == LookupFailed("the list has no total", 200)


@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 400, 401, 403, 404, 408, 429, 500, 502, 503])
def test_every_status_but_200_is_a_failure_whatever_it_holds(status):
    found = read(listed(), status, retry_after="17")
    assert found == LookupFailed(f"status {status} without a readable error", status, 17)


def test_plivos_own_words_are_kept_without_secrets_and_numbers():
    said = "too many requests by MAXXXXXXXXXXXXXXXXXX for +14155552671"
    found = read({"error": said}, 429, secrets=("MAXXXXXXXXXXXXXXXXXX",))
    assert found == LookupFailed("too many requests by [hidden] for [number]", 429)


def test_a_list_goes_on_until_its_total_is_reached():
    assert read(listed(*[shown()] * 20, total=45, onward=NEXT)) == Page(_records(20), 45, 20)
    assert read(listed(*[shown()] * 20, total=45, offset=20, onward=NEXT), query=at(20)) == Page(_records(20), 45, 40)
    assert read(listed(*[shown()] * 5, total=45, offset=40), query=at(40)) == Page(_records(5), 45, None)


def test_a_short_page_does_not_end_the_list():
    assert read(listed(*[shown()] * 7, total=45)) == Page(_records(7), 45, 7)


def test_a_list_that_names_a_next_page_goes_on_even_past_its_total():
    # Plivo's own sample: 20 of 20, and yet a next page.
    assert read(listed(*[shown()] * 20, total=20, onward=NEXT)) == Page(_records(20), 20, 20)
    assert read(listed(total=20, offset=20, onward=NEXT), query=at(20)) == Page((), 20, None)


def test_a_page_with_nothing_on_it_before_the_end_is_a_failure():
    assert read(listed(total=3)) == LookupFailed("the list breaks off", 200)
    assert read(listed(total=45, offset=40), query=at(40)) == LookupFailed("the list breaks off", 200)


@pytest.mark.parametrize("place", [0, 19, 40, None, "20", True])
def test_a_page_from_another_place_of_the_list_is_a_failure(place):
    found = read(listed(shown(), total=45, offset=place), query=at(20))
    assert found == LookupFailed("the list is not at the place that was asked for", 200)


def test_the_first_page_may_leave_its_place_out():
    assert read(listed(offset=None)) == Page((), 0, None)
    assert isinstance(read(listed(shown(), offset=20)), LookupFailed)


@pytest.mark.parametrize("onward", ["/v1/Account/MA/Message/?limit=20&cursor=abc", "/?cursor=x&offset=20", 20, {}])
def test_a_list_that_goes_on_otherwise_than_by_offset_is_a_failure(onward):
    found = read(listed(*[shown()] * 20, total=20, onward=onward))
    assert found == LookupFailed("the list goes on in a way that is not known", 200)


@pytest.mark.parametrize(
    "beyond", [QUERY.since - timedelta(seconds=1, microseconds=1), QUERY.until + timedelta(microseconds=1)]
)
def test_a_time_outside_of_the_question_shows_that_it_was_misunderstood(beyond):
    found = read(listed(shown(message_time=beyond.isoformat(sep=" "))))
    assert found == LookupFailed("the list holds a time that was not asked for", 200)


@pytest.mark.parametrize("edge", [QUERY.since, QUERY.since - timedelta(seconds=1), QUERY.until])
def test_the_edges_of_the_question_belong_to_it_and_a_cut_off_second_does_too(edge):
    assert isinstance(read(listed(shown(message_time=edge.isoformat(sep=" ")))), Page)


@given(st.integers(100, 999), st.binary(max_size=200), st.none() | st.text(max_size=20))
def test_no_bytes_are_taken_for_a_list(status, body, retry_after):
    found = read(body, status, retry_after=retry_after)
    assert isinstance(found, LookupFailed)
    assert found.status == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*shown(), "offset"]), JSON, min_size=1), JSON)
def test_whatever_stands_in_a_record_or_a_place_the_answer_is_read_or_refused(changes, onward):
    found = read(listed(shown(**changes), onward=onward))
    assert isinstance(found, Page | LookupFailed)
    if isinstance(found, Page):
        assert [record.message_uuid for record in found.records] == [shown(**changes)["message_uuid"]]


def _records(count: int) -> tuple[Record, ...]:
    found = read(listed(shown()))
    assert isinstance(found, Page)
    return found.records * count

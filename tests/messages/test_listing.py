"""The list of messages: newest first, filtered, in pages that inserts do not move."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from smsapi.clock import ManualClock, rfc3339
from tests.support.api import LANDLINE
from tests.support.far_side import ScriptedProvider

pytestmark = pytest.mark.both_stores

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def app(make_app, clock):
    lots = dict.fromkeys(("limit_send", "limit_key", "limit_number", "limit_api"), "9999 per minute")
    return make_app({"clock": clock, "provider": ScriptedProvider()}, **lots)


def _ids(caller, query=""):
    return [message["id"] for message in caller.get(f"/v1/messages?{query}").get_json()["data"]]


def _send(caller, **fields):
    return caller.send(headers=ASYNC, **fields).get_json()["id"]


def _bad(caller, query):
    answer = caller.get(f"/v1/messages?{query}")
    assert (answer.status_code, answer.get_json()["code"]) == (422, "validation_failed"), query
    return [each["pointer"] for each in answer.get_json()["errors"]]


def test_messages_are_listed_newest_first_and_each_as_it_is(caller):
    sent = [_send(caller) for _ in range(3)]
    page = caller.get("/v1/messages").get_json()
    assert [message["id"] for message in page["data"]] == sent[::-1]
    assert page["next_cursor"] is None
    read = caller.message(sent[-1])
    assert read.pop("estimated_send_at") is not None
    assert page["data"][0] == read


def test_each_filter_narrows_the_list(app, make_caller, clock):
    caller = make_caller(app, allowed_senders=[LANDLINE, "12345"])
    first = _send(caller, to="+14155550101", reference="a")
    clock.advance(60)
    second = _send(caller, to="+14155550102", sender="12345", reference="b")
    clock.advance(60)
    third = caller.send(to="+14155550101", reference="b").get_json()["id"]
    moments = [quote(rfc3339(START + timedelta(seconds=after))) for after in (0, 60, 120)]
    expected = {
        "": [third, second, first],
        "status=queued": [second, first],
        "status=sent": [third],
        "status=delivered": [],
        "to=%2B14155550101": [third, first],
        "to=%2B14155550199": [],
        "from=12345": [second],
        f"from={quote(LANDLINE)}": [third, first],
        "reference=b": [third, second],
        "reference=B": [],
        "reference=%25": [],
        f"created_after={moments[1]}": [third],
        f"created_before={moments[1]}": [first],
        f"created_after={moments[0]}&created_before={moments[2]}": [second],
        f"created_after={quote('2026-03-01T13:00:30+01:00')}": [third, second],
        "reference=b&status=queued&to=%2B14155550102&from=12345": [second],
        "reference=b&to=%2B14155550101&status=queued": [],
        "to=%2B14155550101&limit=1": [third],
    }
    assert {query: _ids(caller, query) for query in expected} == expected


def test_pages_follow_each_other_without_gaps_or_repeats(caller):
    sent = [_send(caller) for _ in range(23)][::-1]
    assert _ids(caller) == sent[:20]
    for limit in (1, 7, 22, 23, 100):
        seen, cursor = [], None
        while True:
            page = caller.get(f"/v1/messages?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).get_json()
            assert 0 < len(page["data"]) <= limit
            seen += [message["id"] for message in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == sent


def test_what_is_sent_meanwhile_moves_no_page(caller):
    sent = [_send(caller, reference="r") for _ in range(6)][::-1]
    first = caller.get("/v1/messages?limit=3&reference=r").get_json()
    meanwhile = [_send(caller, reference="r") for _ in range(4)]
    second = caller.get(f"/v1/messages?limit=3&reference=r&cursor={first['next_cursor']}").get_json()
    pages = [[message["id"] for message in page["data"]] for page in (first, second)]
    assert pages == [sent[:3], sent[3:]]
    assert second["next_cursor"] is None
    assert _ids(caller, "limit=4") == meanwhile[::-1]


def test_a_cursor_of_another_client_shows_nothing_of_theirs(app, make_caller, caller):
    other = make_caller(app)
    theirs = [_send(other) for _ in range(3)]
    cursor = other.get("/v1/messages?limit=1").get_json()["next_cursor"]
    assert caller.get(f"/v1/messages?cursor={cursor}").get_json()["data"] == []
    mine = _send(caller)
    assert _ids(caller, f"cursor={cursor}") == []
    assert _ids(caller) == [mine]
    assert _ids(other) == theirs[::-1]


def test_a_limit_or_a_cursor_that_is_none_is_named(caller):
    for limit in ("0", "101", "-1", "", "1.0", "1e1", "ten", "%2B5", "%D9%A3", "0x1", "9" * 400, "1,2", "true"):
        assert _bad(caller, f"limit={limit}") == ["/limit"]
    _send(caller)
    _send(caller)
    cursor = caller.get("/v1/messages?limit=1").get_json()["next_cursor"]
    broken = ("", "x", cursor[:-1], cursor + "A", cursor + "=", f"%20{cursor}", cursor.swapcase(), "é", "%00", "A" * 24)
    for value in (*broken, "A" * 50_000, f"{cursor}%0A"):
        assert _bad(caller, f"cursor={value}") == ["/cursor"]
    assert len(_ids(caller, f"cursor={cursor}")) == 1


def test_a_filter_that_cannot_match_anything_is_named(caller):
    for query, pointer in (
        ("status=Sent", "/status"),
        ("status=scheduled_", "/status"),
        ("to=4155550123", "/to"),
        ("to=+14155550123", "/to"),
        ("to=%2B1415555%00", "/to"),
        ("to=%2B1415555%0A0123", "/to"),
        ("from=", "/from"),
        (f"from={'x' * 17}", "/from"),
        ("reference=", "/reference"),
        (f"reference={'x' * 256}", "/reference"),
        ("created_after=yesterday", "/created_after"),
        ("created_before=2026-03-01T12:00:00", "/created_before"),
    ):
        assert _bad(caller, query) == [pointer], query


def test_what_is_not_known_or_given_twice_is_refused(caller):
    assert _bad(caller, "batch_id=bat_0") == ["/batch_id"]
    assert _bad(caller, "sort=asc&offset=3") == ["/offset", "/sort"]
    assert _bad(caller, "status=sent&status=sent") == ["/status"]
    assert _bad(caller, "limit=1&limit=2") == ["/limit"]
    assert _bad(caller, "a~b/c=1&a~b/c=2") == ["/a~0b~1c"]
    assert _bad(caller, "sender=x") == ["/sender"]
    assert _bad(caller, "from_=x") == ["/from_"]

"""The share of one destination number: once for repetitions, whoever tries to get round it."""

from datetime import UTC, datetime

import pytest
import redis

from smsapi.clock import ManualClock
from smsapi.limits.redis import PREFIX
from tests.support.api import Caller
from tests.support.limits import left, send

NUMBER = "+14155550123"


@pytest.fixture
def database_url(sqlite_url):
    return sqlite_url


@pytest.fixture
def limited(make_app, redis_url):
    """Make an app with these limits, kept in Redis."""
    return lambda **settings: make_app(redis_url=redis_url, **settings)


@pytest.fixture
def keys_held(redis_url):
    """Say which keys Redis, emptied before, holds for limits."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield lambda: set(client.scan_iter(f"{PREFIX}*"))


def test_repetitions_with_one_idempotency_key_spend_the_number_once_and_text_once(limited, make_caller):
    caller = make_caller(limited(limit_number="2 per minute; 5 per day", limit_send="100 per day"))
    answers = [send(caller, Idempotency_Key="a") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202] * 5
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert [(left(answer)["number"], left(answer)["number-day"]) for answer in answers] == [(1, 4)] * 5
    assert [left(answer)["send"] for answer in answers] == [99, 98, 97, 96, 95]
    assert send(caller, Idempotency_Key="b").status_code == 202
    assert send(caller, Idempotency_Key="c").status_code == 429
    replayed = send(caller, Idempotency_Key="a")
    assert (replayed.status_code, replayed.headers["Idempotent-Replayed"]) == (202, "true")


def test_quotes_round_a_key_make_no_other_key_free(limited, make_caller):
    caller = make_caller(limited(limit_number="3 per day"))
    bare, quoted = send(caller, Idempotency_Key="k"), send(caller, Idempotency_Key='"k"')
    assert bare.get_json()["id"] == quoted.get_json()["id"]
    assert left(quoted)["number"] == 2
    others = [send(caller, Idempotency_Key='"' * (extra + 1) + "k" + '"' * extra) for extra in (1, 2, 3)]
    assert [answer.status_code for answer in others] == [202, 202, 429]


def test_a_key_that_is_none_makes_no_request_free(limited, make_caller):
    caller = make_caller(limited(limit_number="9 per day"))
    answers = [send(caller, Idempotency_Key=key) for key in ("x" * 256, "x" * 256, "a b")]
    assert [(answer.status_code, left(answer)["number"]) for answer in answers] == [(400, 8), (400, 7), (400, 6)]


def test_one_key_for_another_body_or_number_buys_nothing(limited, make_caller):
    caller = make_caller(limited(limit_number="1 per day"))
    assert send(caller, Idempotency_Key="k").status_code == 202
    other_text = caller.send(NUMBER, "Another text", headers={"Idempotency-Key": "k"})
    other_number = send(caller, "+14155550124", Idempotency_Key="k")
    for answer in (other_text, other_number):
        assert (answer.status_code, answer.get_json()["code"]) == (422, "idempotency_key_reused")
    assert left(other_number)["number"] == 0
    assert send(caller).status_code == 429
    assert len(caller.get("/v1/messages").get_json()["data"]) == 1


def test_the_same_key_of_another_client_is_another_request(limited, make_caller):
    app = limited(limit_number="1 per day")
    first, second = make_caller(app), make_caller(app)
    for caller in (first, second):
        assert send(caller, Idempotency_Key="k").status_code == 202
        assert send(caller, Idempotency_Key="other").status_code == 429


def test_a_key_whose_answer_is_forgotten_sends_anew_and_is_charged_anew(make_app, make_caller):
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    app = make_app({"clock": clock}, limit_number="3 per day", idempotency_ttl_seconds=60)
    caller = make_caller(app)
    made = []
    for _ in range(4):
        answer = send(caller, Idempotency_Key="k")
        made.append(answer.status_code == 202 and answer.get_json()["id"])
        assert send(caller, Idempotency_Key="k").get_json().get("id", False) == made[-1]
        clock.advance(60)
    assert len(set(made)) == 4
    assert made[-1] is False


def test_a_replay_after_the_window_is_answered_and_spends_one_of_the_new_window(make_app, make_caller):
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    caller = make_caller(make_app({"clock": clock}, limit_number="5 per minute; 5 per day"))
    first = send(caller, Idempotency_Key="k")
    clock.advance(3_600)
    again = [send(caller, Idempotency_Key="k") for _ in range(2)]
    assert [answer.get_json()["id"] for answer in again] == [first.get_json()["id"]] * 2
    assert [(left(answer)["number"], left(answer)["number-day"]) for answer in again] == [(4, 4)] * 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"to": "+14155550123", "text": "x"}',
        b'{"text": "x", "to": "\\u002b1415555\\u0030123"}',
        b' {\n"to":\t"\\u002B14155550123" , "text" : "y"} ',
    ],
)
def test_a_number_is_the_same_however_the_json_spells_it(limited, make_caller, body):
    caller = make_caller(limited(limit_number="1 per day"))
    assert send(caller).status_code == 202
    assert post_raw(caller, body).status_code == 429


def test_spellings_that_are_refused_share_nothing_with_the_number_and_send_nothing(limited, make_caller):
    caller = make_caller(limited(limit_number="1 per day"))
    spellings = ["+1415 5550123", "+1415555\n0123", "+1 415 555 0123", "14155550123", "0014155550123", "+١٤١٥٥٥٥٠١٢٣"]
    answers = [send(caller, spelling) for spelling in spellings]
    assert [answer.status_code for answer in answers] == [422] * len(spellings)
    assert not any("number" in left(answer) for answer in answers)
    assert send(caller).status_code == 202


def test_what_is_no_number_takes_no_room_in_redis(limited, make_caller, keys_held):
    caller = make_caller(limited())
    send(caller)
    before = keys_held()
    assert before
    for number in range(20):
        send(caller, f"nobody {number}", Idempotency_Key=f"k{number}")
        send(caller, f"+1415555{number:08}", Idempotency_Key=f"k{number}")
    send(caller, "+" + "1" * 100_000)
    assert keys_held() <= before


def test_a_refused_send_spends_nothing_and_leaves_nothing(limited, make_caller, keys_held):
    caller = make_caller(limited(limit_send="1 per day", limit_number="5 per day"))
    send(caller)
    before = keys_held()
    assert before
    refused = [send(caller, f"+1415555{number:04}", Idempotency_Key=str(number)) for number in range(10)]
    assert {answer.status_code for answer in refused} == {429}
    assert {left(answer)["number"] for answer in refused} == {5}
    assert keys_held() <= before


def post_raw(caller: Caller, data: bytes):
    return caller.app.test_client().post(
        "/v1/messages", data=data, content_type="application/json", headers={"X-API-Key": caller.key}
    )

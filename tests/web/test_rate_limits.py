"""The limits of a caller through the front door, with and without Redis: what counts, what does not, what is said."""

import json
from datetime import UTC, datetime

import pytest

from smsapi.clock import ManualClock
from tests.support.api import Caller
from tests.support.limits import left, policies, send, standings

DAY = 86_400


@pytest.fixture
def database_url(sqlite_url):
    return sqlite_url


@pytest.fixture(params=["memory", "redis"])
def where(request):
    """The setting for where limits are kept."""
    return {} if request.param == "memory" else {"redis_url": request.getfixturevalue("redis_url")}


@pytest.fixture
def limited(make_app, where):
    """Make an app whose limits are these settings."""
    return lambda **settings: make_app(**where, **settings)


def test_the_answer_to_a_send_names_every_limit_it_spent_and_where_it_stands(limited, make_caller):
    app = limited(
        limit_send="600 per minute; 9000 per day",
        limit_key="500 per minute",
        limit_number="60 per minute; 500 per hour; 2000 per day",
    )
    answer = send(make_caller(app))
    assert answer.headers["RateLimit-Policy"] == (
        '"send";q=600;w=60, "send-day";q=9000;w=86400, "key";q=500;w=60, '
        '"number";q=60;w=60, "number-hour";q=500;w=3600, "number-day";q=2000;w=86400'
    )
    assert answer.headers["RateLimit"] == (
        '"send";r=599;t=60, "send-day";r=8999;t=86391, "key";r=499;t=60, '
        '"number";r=59;t=59, "number-hour";r=499;t=3593, "number-day";r=1999;t=86357'
    )
    assert "Retry-After" not in answer.headers


def test_reads_spend_the_share_of_requests_and_sends_do_not(limited, make_caller):
    caller = make_caller(limited(limit_api="9 per day", limit_send="5 per day"))
    sent = send(caller)
    assert "api" not in policies(sent)
    reads = [
        caller.get("/v1/auth/whoami"),
        caller.get("/v1/messages"),
        caller.get("/v1/limits"),
        caller.post("/v1/messages/preview", {"to": "+14155550123", "text": "x"}),
        caller.request("OPTIONS", "/v1/messages"),
    ]
    assert [left(answer) for answer in reads] == [{"api": 8 - number} for number in range(5)]
    assert left(send(caller))["send"] == 3


def test_refusals_of_every_kind_say_where_the_limits_stand_and_spend_them(limited, make_caller):
    caller = make_caller(limited(limit_send="9 per day", limit_api="9 per day", limit_key="9 per day"))
    large = json.dumps({"to": "+14155550123", "text": "x" * 1_100_000})
    typed = {"content_type": "application/json"}
    answers = [
        caller.post("/v1/messages", {"to": "+14155550123"}),
        caller.post("/v1/messages", {"to": "nobody", "text": "x"}),
        caller.post("/v1/messages", ["+14155550123"]),
        post_raw(caller, b"{", **typed),
        post_raw(caller, b"{}", content_type="text/plain"),
        post_raw(caller, large, **typed),
        caller.send(max_segments=1, text="x" * 400),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 422, 400, 415, 413, 422]
    assert [left(answer)["send"] for answer in answers] == [8, 7, 6, 5, 4, 3, 2]
    missing = [caller.get("/v1/messages/msg_0"), caller.get("/v1/messages?limit=0")]
    assert [(answer.status_code, left(answer)) for answer in missing] == [(404, {"api": 8}), (422, {"api": 7})]


def post_raw(caller: Caller, data, **how):
    return caller.app.test_client().post("/v1/messages", data=data, headers={"X-API-Key": caller.key}, **how)


def test_a_spent_limit_is_429_and_says_truly_which_how_much_and_for_how_long(limited, make_caller):
    caller = make_caller(limited(limit_send="2 per hour", limit_key="3 per day"))
    assert [send(caller).status_code for _ in range(2)] == [202, 202]
    for _ in range(3):
        refused = send(caller)
        assert refused.status_code == 429
        assert refused.content_type == "application/problem+json"
        problem = refused.get_json()
        assert (problem["code"], problem["type"], problem["status"]) == ("rate_limited", "/problems/rate_limited", 429)
        wait = int(refused.headers["Retry-After"])
        assert 1790 < wait <= 1800
        assert problem["detail"] == f'Spent: "send" (2 in 3600 s). Try again in {wait} s.'
        assert standings(refused)["send"] == (0, wait)
        assert left(refused)["key"] == 1
    assert len(caller.get("/v1/messages").get_json()["data"]) == 2


def test_all_limits_that_are_spent_are_named_and_the_longest_wait_counts(limited, make_caller):
    caller = make_caller(limited(limit_send="1 per minute", limit_key="1 per hour", limit_number="9 per day"))
    send(caller)
    refused = send(caller)
    assert refused.get_json()["detail"].startswith('Spent: "send" (1 in 60 s), "key" (1 in 3600 s). Try again in ')
    assert int(refused.headers["Retry-After"]) > 3_500
    assert left(refused)["number"] == 8


def test_a_wait_is_never_less_than_a_second(make_app, make_caller):
    app = make_app({"clock": ManualClock(datetime(2026, 3, 1, tzinfo=UTC))}, limit_api="3 per second")
    caller = make_caller(app)
    answers = [caller.get("/v1/auth/whoami") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "1"
    assert [standings(answer)["api"] for answer in answers] == [(2, 1), (1, 1), (0, 1), (0, 1)]


def test_one_number_has_a_share_of_its_own_for_each_client(limited, make_caller):
    app = limited(limit_number="2 per day", limit_send="100 per day")
    first, second = make_caller(app), make_caller(app)
    assert [send(first, "+14155550101").status_code for _ in range(3)] == [202, 202, 429]
    assert send(first, "+14155550102").status_code == 202
    assert send(second, "+14155550101").status_code == 202
    assert left(send(second, "+14155550101"))["send"] == 98


def test_one_client_does_not_touch_the_share_of_another(limited, make_caller):
    app = limited(limit_send="1 per day", limit_api="1 per day")
    first, second = make_caller(app), make_caller(app)
    assert [send(first).status_code for _ in range(2)] == [202, 429]
    assert [first.get("/v1/limits").status_code for _ in range(2)] == [200, 429]
    assert (left(send(second))["send"], left(second.get("/v1/limits"))["api"]) == (0, 0)


def test_the_keys_of_a_client_share_its_limit_and_each_has_its_own(limited, make_caller):
    app = limited(limit_send="3 per day", limit_key="2 per day")
    first = make_caller(app)
    second = second_key(first, "live")
    assert [send(first).status_code for _ in range(3)] == [202, 202, 429]
    answers = [send(second), send(second)]
    assert [answer.status_code for answer in answers] == [202, 429]
    assert '"send"' in answers[1].get_json()["detail"]
    assert left(answers[1])["key"] == 1


def test_a_token_spends_the_share_of_the_key_it_was_made_from(limited, make_caller):
    caller = make_caller(limited(limit_key="2 per day"))
    tokens = [caller.post("/v1/auth/token", {"api_key": caller.key}).get_json()["access_token"] for _ in range(2)]
    assert left(send(caller))["key"] == 1
    answers = [
        caller.app.test_client().post(
            "/v1/messages",
            json={"to": "+14155550123", "text": "x"},
            headers={"Authorization": f"Bearer {token}", "Prefer": "respond-async"},
        )
        for token in tokens
    ]
    assert [answer.status_code for answer in answers] == [202, 429]


def test_a_rehearsal_with_a_test_key_leaves_the_share_of_the_live_one(limited, make_caller):
    app = limited(limit_send="2 per day", limit_number="1 per day", limit_api="9 per day")
    live = make_caller(app)
    test = second_key(live, "test")
    assert [send(test).status_code for _ in range(2)] == [202, 429]
    assert left(send(live)) == {"send": 1, "key": 599, "number": 0}
    assert left(test.get("/v1/limits")) == {"api": 8}


def second_key(caller: Caller, mode: str) -> Caller:
    made = caller.post("/v1/api-keys", {"name": "second", "mode": mode, "scopes": ["messages:send", "messages:read"]})
    return Caller(caller.app, made.get_json()["key"], caller.client_id, made.get_json()["id"])


def test_changed_limits_hold_from_the_next_request_on_and_keep_what_is_spent(limited, make_caller):
    app = limited(limit_send="100 per day")
    caller, admin = make_caller(app), make_caller(app)
    for _ in range(3):
        send(caller)
    change(admin, caller, {"send": "5 per day; 50 per hour"})
    answer = send(caller)
    assert policies(answer)["send"] == (5, DAY)
    assert left(answer)["send"] == 1
    assert (policies(answer)["send-hour"], left(answer)["send-hour"]) == ((50, 3600), 49)
    change(admin, caller, {"send": "2 per day"})
    assert send(caller).status_code == 429
    change(admin, caller, {})
    assert left(send(caller))["send"] == 95


def change(admin: Caller, caller: Caller, limits: dict[str, str]) -> None:
    answer = admin.request("PATCH", f"/v1/clients/{caller.client_id}", {"limits": limits})
    assert answer.status_code == 200, answer.text


def test_a_limit_of_zero_allows_nothing_and_does_not_promise_otherwise(limited, make_caller):
    app = limited()
    caller, admin = make_caller(app), make_caller(app)
    change(admin, caller, {"send": "0 per minute"})
    refused = send(caller)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    assert refused.get_json()["detail"] == 'A limit allows nothing at all: "send" (0 in 60 s).'
    assert (policies(refused)["send"], standings(refused)["send"]) == ((0, 60), (0, 60))
    assert left(refused)["number"] == 60
    assert caller.get("/v1/limits").status_code == 200


HOSTILE = [
    "",
    " ",
    "1e9 per second",
    "-1 per minute",
    "1.5 per minute",
    "many per minute",
    "5 per minute;",
    "5 per minute, junk",
    "٣ per minute",
    "5 per fortnight",
    "9999999999999999999999 per second",
    "9" * 5_000 + " per second",
    "1 per 99999999999 year",
    "; ".join(["5 per minute"] * 1_000),
    None,
    5,
    ["5 per minute"],
]


def test_limits_that_cannot_be_counted_are_refused_and_change_nothing(make_app, make_caller):
    app = make_app()
    caller, admin = make_caller(app, limits={"send": "7 per day"}), make_caller(app)
    for limits in HOSTILE:
        answer = admin.request("PATCH", f"/v1/clients/{caller.client_id}", {"limits": {"send": limits}})
        assert answer.status_code == 422, limits
        assert [error["pointer"] for error in answer.get_json()["errors"]] == ["/limits/send"], limits
    assert policies(send(caller))["send"] == (7, DAY)


def test_the_widest_limits_that_are_taken_are_counted(limited, make_caller):
    app = limited()
    caller, admin = make_caller(app), make_caller(app)
    for limits, (quota, window) in {
        "1000000000 per second": (1_000_000_000, 1),
        "1000000000 per 366 day": (1_000_000_000, 366 * DAY),
        "1 per 365 day": (1, 365 * DAY),
    }.items():
        change(admin, caller, {"api": limits})
        answer = caller.get("/v1/limits")
        assert answer.status_code == 200
        assert policies(answer) == {"api": (quota, window)}
        assert 0 <= quota - left(answer)["api"] <= 3
    assert caller.get("/v1/limits").status_code == 429
    assert app.test_client().get("/metrics").text.count("smsapi_limits_degraded 0.0") == 1


def test_as_many_windows_as_can_be_written_are_one_decision(limited, make_caller):
    app = limited()
    admin = make_caller(app)
    many = "; ".join(f"{number} per {number} day" for number in range(10, 24))
    caller = make_caller(app, limits=dict.fromkeys(("send", "key", "number"), many))
    answer = send(caller)
    assert answer.status_code == 202
    assert len(policies(answer)) == len(standings(answer)) == 42
    assert admin.get("/v1/limits").status_code == 200


def test_what_is_public_and_what_is_nobodys_has_no_limits(limited):
    app = limited()
    for path in ("/healthz", "/metrics", "/v1/nowhere"):
        assert "RateLimit" not in app.test_client().get(path).headers

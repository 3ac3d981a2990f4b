"""Failed attempts are limited by address: exactly, behind proxies too, and with Redis gone the login stays shut."""

import http.client
from collections import Counter
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from tests.conftest import eventually, free_port, listening
from tests.support.auth import (
    ask_for_token,
    at_once,
    bearer,
    call,
    clock_at_present,
    forge,
    token_of,
    whoami,
    with_key,
)

WRONG = "smsk_live_wrong"
once_a_day = {"limit_login": "1 per day"}


@pytest.fixture
def database_url(sqlite_url):
    """What is asked here is the edge; the stores have suites of their own."""
    return sqlite_url


def spend_share(app, quota, **how):
    for _ in range(quota):
        assert with_key(app, WRONG, **how).status_code == 401


def assert_shut(answer):
    assert (answer.status_code, answer.get_json()["code"]) == (429, "too_many_failed_logins")
    assert int(answer.headers["Retry-After"]) >= 1
    assert '"login"' in answer.headers["RateLimit"]
    assert "WWW-Authenticate" not in answer.headers


def test_wrong_keys_tokens_and_logins_share_one_limit_and_time_opens_it_again(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock}, limit_login="3 per minute")
    good = make_caller(app)
    token = token_of(good)
    assert with_key(app, WRONG).status_code == 401
    assert whoami(app, forge(token, "x" * 32)).status_code == 401
    assert ask_for_token(app, WRONG).status_code == 401
    for shut in (with_key(app, WRONG), whoami(app, "a.b.c"), ask_for_token(app, WRONG)):
        assert_shut(shut)
    # Who has the right key is let in, however often others have failed from there.
    assert ask_for_token(app, good.key).status_code == 200
    assert with_key(app, good.key).status_code == 200
    assert whoami(app, token).status_code == 200
    clock.advance(int(ask_for_token(app, WRONG).headers["Retry-After"]))
    assert ask_for_token(app, WRONG).status_code == 401


def test_another_address_has_a_share_of_its_own(make_app, make_caller):
    app = make_app(**once_a_day)
    spend_share(app, 1, address="192.0.2.1")
    assert_shut(with_key(app, WRONG, address="192.0.2.1"))
    assert with_key(app, WRONG, address="192.0.2.2").status_code == 401
    assert ask_for_token(app, make_caller(app).key, address="192.0.2.3").status_code == 200


def test_right_credentials_and_missing_ones_spend_nothing(make_app, make_caller):
    app = make_app(**once_a_day)
    good = make_caller(app, scopes=("messages:read",))
    for _ in range(5):
        assert call(app, "GET", "/v1/auth/whoami").status_code == 401
        assert with_key(app, good.key).status_code == 200
        assert good.get("/v1/clients").status_code == 403
        assert ask_for_token(app, good.key, "admin").status_code == 400
        assert call(app, "POST", "/v1/auth/token", json={}).status_code == 422
    spend_share(app, 1)
    assert_shut(with_key(app, WRONG))


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_an_ipv6_caller_is_counted_by_its_network_for_it_has_all_of_that(make_app, first, second, shared):
    app = make_app(**once_a_day)
    spend_share(app, 1, address=first)
    assert with_key(app, WRONG, address=second).status_code == (429 if shared else 401)


def test_a_forwarded_address_is_not_believed_without_trusted_proxies(make_app):
    app = make_app(**once_a_day)
    for number, status in enumerate((401, 429, 429)):
        forwarded = {"X-API-Key": WRONG, "X-Forwarded-For": f"198.51.100.{number}", "X-Real-IP": f"198.51.100.{number}"}
        assert call(app, "GET", "/v1/auth/whoami", forwarded).status_code == status


@pytest.mark.parametrize("proxies", [1, 2])
def test_behind_trusted_proxies_the_address_that_they_saw_is_counted(make_app, proxies):
    app = make_app(trusted_proxies=proxies, **once_a_day)
    behind = "" if proxies == 1 else ", 10.0.0.9"

    def attempt(forwarded):
        return call(app, "GET", "/v1/auth/whoami", {"X-API-Key": WRONG, "X-Forwarded-For": forwarded}).status_code

    assert attempt(f"198.51.100.1{behind}") == 401
    # What the caller itself wrote in front changes nothing.
    assert attempt(f"203.0.113.7, 198.51.100.1{behind}") == 429
    assert attempt(f"not an address, 198.51.100.1{behind}") == 429
    assert attempt(f"198.51.100.2{behind}") == 401
    assert attempt(f"2001:db8::1{behind}") == 401
    assert attempt(f"2001:db8::2{behind}") == 429
    assert attempt(f"unknown{behind}") == 401


def test_the_limit_is_exact_under_fifty_threads(make_app, make_caller):
    app = make_app({"clock": clock_at_present()}, limit_login="20 per minute")
    key = make_caller(app).key
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    attempts = (lambda: with_key(app, wrong), lambda: ask_for_token(app, wrong), lambda: whoami(app, "a.b.c"))
    found = Counter(at_once(lambda number: attempts[number % 3]().status_code, 50))
    assert found == {401: 20, 429: 30}


def test_the_limit_is_exact_over_two_instances_that_share_a_redis(make_app, redis_url):
    apps = [make_app(redis_url=redis_url, limit_login="20 per day") for _ in range(2)]
    address = f"client-{uuid4()}"
    found = Counter(at_once(lambda number: with_key(apps[number % 2], WRONG, address=address).status_code, 50))
    assert found == {401: 20, 429: 30}


def test_with_redis_gone_no_login_is_tried_while_keys_and_tokens_go_on(make_app, make_caller, redis_server):
    app = make_app(redis_url=redis_server.url)
    good = make_caller(app)
    token = token_of(good)
    redis_server.kill()
    for key in (good.key, WRONG):
        refused = ask_for_token(app, key)
        assert (refused.status_code, refused.get_json()["code"]) == (503, "limiter_unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        assert "access_token" not in refused.text
    form = {"data": "grant_type=client_credentials", "content_type": "application/x-www-form-urlencoded"}
    assert call(app, "POST", "/v1/auth/token", **form).status_code == 503
    assert with_key(app, good.key).status_code == 200
    assert whoami(app, token).status_code == 200
    assert call(app, "POST", "/v1/auth/revoke", bearer(token), json={"token": token}).status_code == 200
    assert whoami(app, token).status_code == 401
    assert with_key(app, WRONG).status_code == 401
    redis_server.start()
    eventually(lambda: ask_for_token(app, good.key).status_code == 200)


def test_the_limit_holds_on_a_real_socket_for_the_address_of_the_connection(make_app):
    app, port = make_app(**once_a_day), free_port()
    with listening(app, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        statuses = []
        for forwarded in ("198.51.100.1", "198.51.100.2"):
            connection.request("GET", "/v1/auth/whoami", headers={"X-API-Key": WRONG, "X-Forwarded-For": forwarded})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()
    assert statuses == [401, 429]


def test_a_proxy_that_nobody_trusts_is_told_of_once_and_counted(make_app):
    app = make_app()
    forwarded = {"X-API-Key": WRONG, "X-Forwarded-For": "198.51.100.1"}
    with capture_logs() as logs:
        for _ in range(3):
            call(app, "GET", "/v1/auth/whoami", forwarded)
    assert [line["event"] for line in logs].count("forwarded_for_not_trusted") == 1
    assert "smsapi_untrusted_forwarded_total 3.0" in call(app, "GET", "/metrics").text
    trusting = make_app(trusted_proxies=1)
    call(trusting, "GET", "/v1/auth/whoami", forwarded)
    assert "smsapi_untrusted_forwarded_total 0.0" in call(trusting, "GET", "/metrics").text


def test_the_processes_without_a_shared_store_let_no_more_than_the_limit_through_together(make_app, make_caller):
    apps = [make_app(workers=2, limit_login="20 per day", limit_api="100 per day") for _ in range(2)]
    found = Counter(with_key(app, WRONG).status_code for app in apps for _ in range(20))
    assert found == {401: 20, 429: 20}
    key = make_caller(apps[0]).key
    answers = [with_key(app, key) for app in apps for _ in range(100)]
    assert Counter(answer.status_code for answer in answers) == {200: 100, 429: 100}
    assert '"api";q=100' in answers[0].headers["RateLimit-Policy"]

"""The bridge to flask-limiter, through a small application."""

import threading

import flask
import pytest
from flask_limiter import Limit

from smsapi.errors import RateLimited
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.memory import MemoryStore
from smsapi.limits.store import LimitStoreDown
from smsapi.web.limiter import Once, OnceLimit, OneStepLimiter, limit_headers


class Counted:
    """A store that counts how often it is asked."""

    def __init__(self, store):
        self.store = store
        self.asked = []

    def spend(self, charges, *, once=None):
        self.asked.append((list(charges), once))
        return self.store.spend(charges, once=once)

    def peek(self, charges):
        return self.store.peek(charges)


def client_key():
    return flask.request.headers.get("X-Client", "")


def address():
    return flask.request.remote_addr


def token():
    given = flask.request.headers.get("Idempotency-Key")
    return None if given is None else Once(given, 3_600)


@pytest.fixture
def plans():
    return {"cli_1": "3/minute; 100 per day"}


@pytest.fixture
def counted(store):
    return Counted(store)


def make_app(store, *limits):
    app = flask.Flask("tiny")
    limiter = OneStepLimiter(store, limits=limits, once=token)
    views = flask.Blueprint("v1", "v1", url_prefix="/v1")

    @views.route("/messages", methods=["GET", "POST"])
    def messages():
        return {"ok": True}

    @views.get("/usage")
    def usage():
        return {"ok": True}

    @app.get("/healthz")
    @limiter.exempt
    def health():
        return {"ok": True}

    @app.after_request
    def add_limits(response):
        response.headers.update(limit_headers())
        return response

    @app.errorhandler(RateLimited)
    def too_many(error):
        return {"code": "rate_limited", "detail": error.detail}, 429

    app.register_blueprint(views)
    limiter.init_app(app)
    app.limiter = limiter
    return app


@pytest.fixture
def plan_limit(plans):
    return Limit(lambda: plans.get(client_key(), "3/minute; 100 per day"), client_key, scope="send", shared=True)


@pytest.fixture
def caller(counted, plan_limit):
    return make_app(counted, plan_limit, Limit("50/second", address, scope="address", shared=True)).test_client()


AS_CLIENT = {"X-Client": "cli_1"}


def test_all_policies_are_in_the_headers_and_are_one_decision(caller, counted):
    answer = caller.get("/v1/messages", headers=AS_CLIENT)
    assert answer.status_code == 200
    assert answer.headers["RateLimit-Policy"] == '"send";q=3;w=60, "send-day";q=100;w=86400, "address";q=50;w=1'
    assert answer.headers["RateLimit"] == '"send";r=2;t=40, "send-day";r=99;t=85536, "address";r=49;t=1'
    assert "Retry-After" not in answer.headers
    assert not [name for name, _ in answer.headers if name.startswith("X-RateLimit")]
    assert len(counted.asked) == 1


def test_a_spent_limit_is_429_with_retry_after_and_spends_nothing_else(caller, clock):
    for _ in range(3):
        assert caller.get("/v1/messages", headers=AS_CLIENT).status_code == 200
    for _ in range(3):
        answer = caller.get("/v1/messages", headers=AS_CLIENT)
        assert answer.status_code == 429
        assert answer.json == {"code": "rate_limited", "detail": 'Spent: "send" (3 in 60 s). Try again in 20 s.'}
        assert answer.headers["Retry-After"] == "20"
        assert answer.headers["RateLimit"].startswith('"send";r=0;t=20, "send-day";r=97;')
    clock.advance(20)
    assert caller.get("/v1/messages", headers=AS_CLIENT).headers["RateLimit"].startswith('"send";r=0;t=20')


def test_retry_after_is_never_less_than_a_second(counted):
    caller = make_app(counted, Limit("1000/second", address, scope="fast", cost=1000)).test_client()
    caller.get("/v1/usage")
    assert caller.get("/v1/usage").headers["Retry-After"] == "1"


def test_callers_do_not_spend_each_others_limits(caller):
    for _ in range(4):
        caller.get("/v1/messages", headers=AS_CLIENT)
    assert caller.get("/v1/messages", headers={"X-Client": "cli_2"}).status_code == 200


def test_a_changed_limit_holds_from_the_next_request_on(caller, plans):
    for _ in range(4):
        caller.get("/v1/messages", headers=AS_CLIENT)
    plans["cli_1"] = "10/minute"
    answer = caller.get("/v1/messages", headers=AS_CLIENT)
    assert answer.headers["RateLimit-Policy"] == '"send";q=10;w=60, "address";q=50;w=1'
    assert answer.headers["RateLimit"].startswith('"send";r=6;')
    plans["cli_1"] = "2/minute"
    assert caller.get("/v1/messages", headers=AS_CLIENT).status_code == 429
    plans["cli_1"] = "0/minute"
    assert caller.get("/v1/messages", headers=AS_CLIENT).headers["Retry-After"] == "60"
    plans["cli_1"] = ""
    answer = caller.get("/v1/messages", headers=AS_CLIENT)
    assert answer.headers["RateLimit-Policy"] == '"address";q=50;w=1'


def test_a_limit_without_a_key_does_not_count(caller, counted):
    answer = caller.get("/v1/messages")
    assert answer.headers["RateLimit-Policy"] == '"address";q=50;w=1'
    assert [[charge.policy for charge in charges] for charges, _ in counted.asked] == [["address"]]


def test_an_exempt_route_and_an_unknown_one_ask_nothing_and_say_nothing(caller, counted):
    for path in ("/healthz", "/nowhere"):
        answer = caller.get(path, headers=AS_CLIENT)
        assert "RateLimit" not in answer.headers
        assert "RateLimit-Policy" not in answer.headers
    assert counted.asked == []


def test_a_shared_limit_is_one_for_all_endpoints_and_another_is_one_for_each(counted):
    shared = Limit("5/minute", address, scope="all", shared=True)
    each = Limit("5/minute", address, scope="each")
    caller = make_app(counted, shared, each).test_client()
    caller.get("/v1/messages")
    assert caller.get("/v1/usage").headers["RateLimit"] == '"all";r=3;t=36, "each";r=4;t=48'


def test_windows_of_several_units_have_names_of_their_own(counted):
    limits = "1 per second; 10 per minute; 20 per 5 minute; 30 per 2 hour; 40/day"
    answer = make_app(counted, Limit(limits, address, scope="send")).test_client().get("/v1/usage")
    names = [item.split(";")[0] for item in answer.headers["RateLimit-Policy"].split(", ")]
    assert names == ['"send"', '"send-minute"', '"send-5-minute"', '"send-2-hour"', '"send-day"']


def test_of_two_quotas_for_one_window_the_smaller_decides(counted):
    limits = "9/minute; 4 per minute; 6 per 60 second"
    answer = make_app(counted, Limit(limits, address, scope="send")).test_client().get("/v1/usage")
    assert answer.headers["RateLimit-Policy"] == '"send";q=4;w=60'
    assert answer.headers["RateLimit"] == '"send";r=3;t=45'


@pytest.mark.parametrize(("cost", "left"), [(None, 9), (4, 6), (0, 10), (lambda: 7, 3)])
def test_a_limit_may_cost_more_than_one_or_nothing(counted, cost, left):
    limit = Limit("10/minute", address, scope="segments", cost=cost)
    answer = make_app(counted, limit).test_client().get("/v1/usage")
    assert f"r={left};" in answer.headers["RateLimit"]


def test_methods_and_exempt_when_are_honoured(counted):
    posts = Limit("5/minute", address, scope="posts", methods=["POST"])
    strangers = Limit("5/minute", address, scope="strangers", exempt_when=lambda: client_key() != "")
    caller = make_app(counted, posts, strangers).test_client()
    assert caller.post("/v1/messages").headers["RateLimit"] == '"posts";r=4;t=48, "strangers";r=4;t=48'
    assert caller.get("/v1/messages").headers["RateLimit"] == '"strangers";r=3;t=36'
    assert "RateLimit" not in caller.get("/v1/messages", headers=AS_CLIENT).headers


def test_requests_with_one_idempotency_key_spend_a_once_limit_once(counted):
    number = OnceLimit("2/minute", client_key, scope="number", shared=True)
    plain = Limit("10/minute", client_key, scope="send", shared=True)
    caller = make_app(counted, number, plain).test_client()
    for left in (9, 8, 7):
        answer = caller.post("/v1/messages", headers=AS_CLIENT | {"Idempotency-Key": "a"})
        assert answer.headers["RateLimit"].startswith(f'"number";r=1;t=30, "send";r={left};')
    assert caller.post("/v1/messages", headers=AS_CLIENT).status_code == 200
    assert caller.post("/v1/messages", headers=AS_CLIENT | {"Idempotency-Key": "b"}).status_code == 429
    assert caller.post("/v1/messages", headers=AS_CLIENT | {"Idempotency-Key": "a"}).status_code == 200


def test_a_limit_on_a_view_counts_beside_the_defaults_and_only_there(counted, plan_limit):
    app = make_app(counted, plan_limit)
    decorate = app.limiter.limit("1/hour", key_func=client_key, scope="export", override_defaults=False)

    @app.get("/export")
    @decorate
    def export():
        return {"ok": True}

    caller = app.test_client()
    answer = caller.get("/export", headers=AS_CLIENT)
    assert sorted(item.split(";q")[0] for item in answer.headers["RateLimit-Policy"].split(", ")) == [
        '"export"',
        '"send"',
        '"send-day"',
    ]
    assert caller.get("/export", headers=AS_CLIENT).status_code == 429
    answer = caller.get("/v1/usage", headers=AS_CLIENT)
    assert answer.headers["RateLimit"].startswith('"send";r=1;')


def test_a_limit_on_a_blueprint_counts_there_alone(counted):
    app = flask.Flask("tiny")
    limiter = OneStepLimiter(counted, limits=[], once=token)
    views = flask.Blueprint("verify", "verify")
    views.add_url_rule("/verify", view_func=lambda: {"ok": True}, endpoint="make")
    app.add_url_rule("/other", view_func=lambda: {"ok": True}, endpoint="other")
    limiter.limit("1/hour", key_func=address, scope="verify")(views)
    app.register_error_handler(RateLimited, lambda error: (error.detail, 429))
    app.register_blueprint(views)
    limiter.init_app(app)
    caller = app.test_client()
    assert [caller.get("/verify").status_code for _ in range(2)] == [200, 429]
    assert [caller.get("/other").status_code for _ in range(2)] == [200, 200]


def test_what_would_need_a_second_decision_is_refused_not_ignored(counted):
    for extra in ({"deduct_when": lambda _: True}, {"on_breach": lambda _: None}, {"meta_limits": ["1/day"]}):
        with pytest.raises(ValueError, match="one step"):
            make_app(counted, Limit("1/minute", address, scope="send", **extra))
    with pytest.raises(ValueError, match="literal scope"):
        make_app(counted, OnceLimit("1/minute", address, scope=lambda _: "send"))
    with pytest.raises(ValueError, match="key function"):
        make_app(counted, Limit("1/minute", scope="send"))


def test_a_limit_string_that_cannot_be_read_is_an_error_not_a_free_pass(counted):
    app = make_app(counted, Limit(lambda: "many/minute", address, scope="send"))
    app.testing = True
    with pytest.raises(ValueError, match="must be limits"):
        app.test_client().get("/v1/usage")


def test_a_store_that_is_down_is_the_applications_to_answer(counted, plan_limit):
    class Down:
        def spend(self, charges, *, once=None):
            raise LimitStoreDown("gone")

    app = make_app(Down(), plan_limit)
    app.register_error_handler(LimitStoreDown, lambda _: ({"code": "unavailable"}, 503))
    answer = app.test_client().get("/v1/usage", headers=AS_CLIENT)
    assert answer.status_code == 503
    assert "RateLimit" not in answer.headers


def test_a_limit_that_was_spent_elsewhere_is_met_by_the_request(caller, store):
    caller.get("/v1/messages", headers=AS_CLIENT)
    assert store.spend([Charge("unrelated", Window(1, 60), "other")]).allowed
    assert caller.get("/v1/messages", headers=AS_CLIENT).headers["RateLimit"].startswith('"send";r=1;')


def test_an_application_may_be_made_and_dropped_many_times(clock):
    before = threading.active_count()
    for _ in range(5):
        make_app(MemoryStore(clock), Limit("1/minute", address, scope="send"))
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(5)
    assert threading.active_count() <= before


def test_requests_in_many_threads_get_the_quota_and_not_one_more(counted):
    app = make_app(counted, Limit("20/minute", address, scope="send", shared=True))
    codes = []

    def ask():
        caller = app.test_client()
        codes.extend(caller.get("/v1/usage").status_code for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (codes.count(200), codes.count(429)) == (20, 60)

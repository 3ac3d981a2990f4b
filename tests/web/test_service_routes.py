"""Who is let in where, and the routes about the service itself: health, specification, docs page, problem pages."""

import re
from datetime import UTC, datetime

import pytest
import requests
import yaml

from smsapi.clock import ManualClock
from smsapi.logsink import read_log_trouble
from smsapi.plivo.outcomes import Rejected
from smsapi.web.operations import operation_of
from smsapi.web.problems import PROBLEMS
from tests.conftest import eventually, new_caller
from tests.support.dispatching import ASYNC, world_of
from tests.support.heartbeats import beat
from tests.support.providers import Scripted

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# What may be called without a login, written here once more so that nobody adds to it by the way.
OPEN = {
    "GET /docs",
    "GET /docs/assets/<name>",
    "GET /healthz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /openapi.yaml",
    "GET /problems/<code>",
    "GET /readyz",
    "GET /plivo/inbound",
    "GET /plivo/status/<message_id>",
    "GET /plivo/status/batch/<chunk_id>",
    "POST /plivo/inbound",
    "POST /plivo/status/<message_id>",
    "POST /plivo/status/batch/<chunk_id>",
    "POST /v1/auth/token",
}


@pytest.fixture
def database_url(sqlite_url):
    """Nothing here depends on the store."""
    return sqlite_url


def routes(app):
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            yield f"{method} {rule.rule}", re.sub(r"<[^>]+>", "msg_" + "0" * 32, rule.rule), method, operation


def test_only_these_routes_are_open_and_each_says_why(app):
    public = {name: operation.public for name, _, _, operation in routes(app) if operation.public is not None}
    assert public.keys() == OPEN
    assert all(len(reason) > 5 for reason in public.values())


def test_every_guarded_route_refuses_whoever_brings_no_credential(app):
    client = app.test_client()
    called = 0
    for name, path, method, operation in routes(app):
        if operation.public is None:
            for each in (method, "OPTIONS", "HEAD") if method == "GET" else (method, "OPTIONS"):
                answer = client.open(path, method=each)
                assert answer.status_code == 401, f"{each} {name}"
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                called += 1
    assert called > 30


def test_every_route_with_a_scope_refuses_a_credential_without_it(make_app):
    app = make_app(limit_api="100000 per minute")
    for name, path, method, operation in routes(app):
        if operation.public is None and operation.scope is not None:
            scopes = tuple({"messages:send", "messages:read", "keys", "admin"} - {operation.scope})
            answer = new_caller(app, scopes=scopes).request(method, path, json={} if operation.body else None)
            assert answer.status_code == 403, name
            assert answer.get_json()["code"] == "insufficient_scope"
            assert operation.scope in answer.get_json()["detail"]


def test_a_plivo_route_without_a_signature_changes_nothing(app):
    answer = app.test_client().post("/plivo/status/msg_" + "0" * 32, data={"Status": "delivered"})
    assert answer.status_code == 403


def test_no_path_and_no_method_answers_with_anything_but_a_problem(app):
    client = app.test_client()
    for path in (
        "/",
        "/v1",
        "/v1/",
        "/v1/messages/",
        "/healthz/",
        "/docs/",
        "/static/x",
        "/docs/assets/",
    ):
        for method in METHODS:
            answer = client.open(path, method=method)
            assert answer.status_code in {401, 404, 405}, f"{method} {path}"
            assert answer.content_type == "application/problem+json"
            assert answer.headers["X-Request-Id"]


def test_a_method_that_a_path_does_not_take_is_405_with_allow(app):
    for name, path, _, _ in routes(app):
        taken = {method for other, same, method, _ in routes(app) if same == path}
        answer = app.test_client().open(path, method="TRACE")
        assert answer.status_code == 405, name
        assert taken <= set(answer.headers["Allow"].split(", "))
        assert answer.get_json()["code"] == "method_not_allowed"


def test_health_needs_nothing_and_readiness_names_what_is_down(app):
    assert app.test_client().get("/healthz").get_json() == {"status": "ok"}
    ready = app.test_client().get("/readyz")
    assert (ready.status_code, ready.get_json()["down"]) == (200, [])
    app.extensions["smsapi"].health.register("sender", lambda: False)
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json() == {
        "status": "not_ready",
        "checks": {"database": "ok", "queue": "ok", "sender": "down"},
        "down": ["sender"],
        "degraded": {},
        "log": {"status": "ok", "reason": None, "dropped_lines": read_log_trouble().dropped},
        "stops": [],
    }
    assert answer.headers["Retry-After"] == "2"


def test_messages_that_nobody_sends_are_told_and_do_not_turn_requests_away(make_app):
    clock = ManualClock(datetime.now(UTC))
    app = make_app({"clock": clock})
    world = world_of(app)

    def look(seconds):
        clock.advance(seconds)
        world.figures.forget()
        answer = app.test_client().get("/readyz")
        return answer.status_code, answer.get_json()["status"], answer.get_json()["degraded"]

    assert look(0) == (200, "ready", {})
    new_caller(app).send(headers=ASYNC)
    # What is being started again takes a moment.
    assert look(4) == (200, "ready", {})
    said = {"queue": "1 due, the first for 6 s, and no process that sends is alive"}
    assert look(2) == (200, "degraded", said)
    assert app.test_client().get("/healthz").status_code == 200
    beat(world)
    assert look(10) == (200, "ready", {})
    assert look(1)[1] == "degraded"
    # A caller who waits is served all the same.
    assert new_caller(app).send().status_code == 201


def test_the_worst_that_is_found_of_a_name_counts(app):
    health = world_of(app).health
    health.register("queue", lambda: False, of="dispatcher")
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.get_json()["down"], answer.get_json()["degraded"]) == (503, ["queue"], {})


def test_without_the_store_it_is_the_database_that_is_down(make_app, tmp_path):
    app = make_app(database_url=f"sqlite:///{tmp_path}/there/is/no/such/folder.db")
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.get_json()["down"]) == (503, ["database"])
    assert answer.get_json()["degraded"] == {"queue": "the database does not say how the queue stands"}


def test_what_keeps_messages_waiting_is_shown_and_does_not_turn_requests_away(make_app):
    app = make_app({"provider": Scripted(Rejected("account", "insufficient credit", 400, "900"))})
    assert new_caller(app).send().status_code == 502
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "ready")
    (stop,) = answer.get_json()["stops"]
    assert (stop["gate"], stop["reason"]) == ("account", "credit")
    assert stop["since"] < stop["opens_at"]
    assert b'smsapi_stopped{gate="account"} 1.0' in app.test_client().get("/metrics").data


def test_a_redis_that_is_gone_is_named_and_health_stays(make_app, redis_server):
    app = make_app(redis_url=redis_server.url)
    assert app.test_client().get("/readyz").get_json()["checks"] == {"database": "ok", "queue": "ok", "redis": "ok"}
    redis_server.kill()
    answer = eventually(lambda: (a := app.test_client().get("/readyz")).status_code == 503 and a)
    assert answer.get_json()["down"] == ["redis"]
    assert app.test_client().get("/healthz").status_code == 200


def test_metrics_are_open_until_they_have_a_token(make_app):
    assert b"smsapi_request_seconds" in make_app().test_client().get("/metrics").data
    client = make_app(metrics_token="t" * 16).test_client()
    for given in ({}, {"Authorization": "Bearer " + "u" * 16}, {"Authorization": "t" * 16}, {"X-API-Key": "t" * 16}):
        assert client.get("/metrics", headers=given).status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer " + "t" * 16}).status_code == 200


def test_both_forms_of_the_specification_are_the_same(app):
    client = app.test_client()
    as_yaml, as_json = client.get("/openapi.yaml"), client.get("/openapi.json")
    assert as_yaml.content_type == "application/yaml; charset=utf-8"
    assert as_json.content_type == "application/json"
    assert yaml.safe_load(as_yaml.text) == as_json.get_json()
    assert client.get("/openapi.yaml").data == as_yaml.data


@pytest.mark.parametrize("code", PROBLEMS)
def test_each_problem_page_says_what_to_do(app, code):
    client = app.test_client()
    page = client.get(f"/problems/{code}")
    assert page.status_code == 200
    problem = PROBLEMS[code]
    assert page.get_json() == {
        "code": code,
        "status": problem.status,
        "title": problem.title,
        "advice": problem.advice,
    }
    shown = client.get(f"/problems/{code}", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert shown.content_type == "text/html; charset=utf-8"
    assert f"{problem.status} {code}" in shown.text
    assert "default-src 'none'" in shown.headers["Content-Security-Policy"]


def test_the_type_of_a_problem_leads_to_its_page(app):
    problem = app.test_client().get("/v1/messages").get_json()
    assert problem["type"] == "/problems/unauthenticated"
    assert app.test_client().get(problem["type"]).get_json()["code"] == problem["code"]


@pytest.mark.parametrize("code", ["no_such", "<script>alert(1)</script>", "..%2f..%2fetc%2fpasswd"])
def test_no_page_is_made_of_a_code_that_does_not_exist(app, code):
    answer = app.test_client().get(f"/problems/{code}", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
    assert "<script>" not in answer.text


def test_the_docs_page_loads_only_what_this_service_serves_under_a_strict_policy(live):
    url = live().url
    page = requests.get(f"{url}/docs", timeout=10)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(loaded) == 5
    assert not re.search(r"<script(?! src=)|<style|\son\w+=|style=", page.text)
    for path in loaded:
        assert path.startswith(("/docs/", "/openapi.yaml", "data:")), path
        if path.startswith("/docs/"):
            asset = requests.get(url + path, timeout=10)
            assert asset.status_code == 200
            assert asset.headers["X-Content-Type-Options"] == "nosniff"
            assert asset.headers["Content-Type"].startswith("text/css" if path.endswith("css") else "text/javascript")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert page.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_fills_in_no_idempotency_key_so_that_a_second_try_is_not_refused(app):
    paths = app.test_client().get("/openapi.json").json["paths"]
    found = [
        parameter
        for operations in paths.values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "Idempotency-Key"
    ]
    assert len(found) > 5
    for parameter in found:
        # What Swagger UI fills a field with.
        assert not {"example", "examples", "default"} & (parameter.keys() | parameter["schema"].keys())


def test_the_page_asks_for_the_specification_of_this_service_and_for_no_badge(app):
    script = app.test_client().get("/docs/assets/start.js").text
    assert 'url: "/openapi.json"' in script
    assert "validatorUrl: null" in script
    assert not re.search(r"https?://", script)


@pytest.mark.parametrize("name", ["../openapi.py", "README.md", "swagger-ui", "start.js.map", "START.JS"])
def test_nothing_but_the_assets_is_served(app, name):
    assert app.test_client().get(f"/docs/assets/{name}").status_code == 404


def test_the_docs_page_can_be_switched_off_and_the_specification_stays(make_app):
    client = make_app(docs=False).test_client()
    assert client.get("/docs").status_code == 404
    assert client.get("/docs/assets/start.js").status_code == 404
    assert client.get("/openapi.json").status_code == 200

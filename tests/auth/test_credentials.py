"""The guard before every /v1 route: which credentials open it, and how it refuses."""

from datetime import UTC, datetime, timedelta

import pytest
from werkzeug.routing import Rule

from smsapi.auth.models import api_keys
from smsapi.web.operations import operation_of
from tests.support.auth import (
    ask_for_token,
    bearer,
    call,
    change_row,
    clock_at_present,
    token_of,
    whoami,
    with_key,
)

PUBLIC = {"/v1/auth/token"}
UNREADABLE = (
    "Bearer",
    "Bearer ",
    "Bearer  ",
    "bearer x",
    "Bearer a.b",
    "Bearer a.b.c",
    "Bearer ...",
    "Bearer a.b.c.d.e",
    "Bearer é.é.é",
    "Bearer null",
    "Token abc",
    "Basic a2V5OnNlY3JldA==",
    "Digest username=x",
    "",
    " ",
    "a.b.c",
    'Bearer "x"',
)


@pytest.fixture
def database_url(sqlite_url):
    """What is asked here is the edge; the stores have suites of their own."""
    return sqlite_url


def guarded_routes(app):
    """Yield method and path of every /v1 route that asks for a credential, and the scope that it names."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/v1/") and rule.rule not in PUBLIC:
            operation = operation_of(app.view_functions[rule.endpoint])
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, path_of(rule), operation.scope


def path_of(rule: Rule) -> str:
    path = rule.rule
    for name in rule.arguments:
        path = path.replace(f"<{name}>", "nothing")
    assert "<" not in path
    return path


def test_there_are_routes_to_guard(app):
    assert {"/v1/auth/whoami", "/v1/messages", "/v1/api-keys"} <= {path for _, path, _ in guarded_routes(app)}


def test_every_route_takes_the_key_or_a_token_and_refuses_none_of_both_and_both(caller):
    app, token = caller.app, token_of(caller)
    key = {"X-API-Key": caller.key}
    for number, (method, path, _) in enumerate(guarded_routes(app)):
        body = {} if method == "GET" else {"json": {}}
        address = f"192.0.2.{number}"
        for good in (key, bearer(token)):
            answer = call(app, method, path, good, **body)
            assert answer.status_code not in {401, 403}, f"{method} {path}: {answer.text}"
            assert "WWW-Authenticate" not in answer.headers
        for bad in ({}, {**key, **bearer(token)}, {"X-API-Key": token}, bearer(caller.key)):
            answer = call(app, method, path, bad, address=address, **body)
            assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated"), f"{method} {path}"
            assert "Bearer" in answer.headers["WWW-Authenticate"]
            assert "ApiKey" in answer.headers["WWW-Authenticate"]


def test_every_answer_to_a_known_caller_says_where_its_limits_stand(app, make_caller):
    able, lacking = make_caller(app), make_caller(app, scopes=())
    for method, path, scope in guarded_routes(app):
        body = None if method == "GET" else {}
        for who in (able, lacking):
            answer = who.request(method, path, body)
            assert "RateLimit" in answer.headers, f"{method} {path} {answer.status_code}"
            assert "RateLimit-Policy" in answer.headers
        if scope is not None:
            assert (answer.status_code, answer.get_json()["code"]) == (403, "insufficient_scope"), f"{method} {path}"
            assert scope in answer.get_json()["detail"]
            assert "WWW-Authenticate" not in answer.headers


def test_what_is_refused_for_its_scope_spends_the_share_of_other_requests_and_none_of_the_sends(make_app, make_caller):
    app = make_app(limit_api="3 per day", limit_send="2 per day")
    lacking = make_caller(app, scopes=("messages:read",))
    answers = [lacking.send() for _ in range(4)]
    assert [each.status_code for each in answers] == [403, 403, 403, 429]
    for answer in answers:
        assert '"api"' in answer.headers["RateLimit"]
        assert '"send"' not in answer.headers["RateLimit"]
    assert int(answers[-1].headers["Retry-After"]) >= 1


def test_an_authorization_that_cannot_be_read_is_401(app):
    for number, header in enumerate(UNREADABLE):
        answer = call(app, "GET", "/v1/auth/whoami", {"Authorization": header}, address=f"192.0.2.{number}")
        assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated"), header
        assert answer.headers["WWW-Authenticate"]


def test_the_scheme_is_read_in_any_case(caller):
    token = token_of(caller)
    for scheme in ("bearer", "BEARER", "Bearer"):
        assert call(caller.app, "GET", "/v1/auth/whoami", {"Authorization": f"{scheme} {token}"}).status_code == 200


def test_a_refusal_does_not_repeat_the_credential(caller):
    wrong = caller.key[:-1] + ("x" if caller.key[-1] != "x" else "y")
    for answer in (with_key(caller.app, wrong), whoami(caller.app, wrong), ask_for_token(caller.app, wrong)):
        assert answer.status_code == 401
        assert wrong not in answer.text
        assert wrong[-38:] not in str(answer.headers)


def test_nobody_learns_from_the_answer_whether_a_key_exists(caller, make_caller):
    other = make_caller(caller.app, name="other")
    caller.request("DELETE", f"/v1/api-keys/{caller.key_id}")
    revoked, unknown = caller.key, other.key
    change_row(caller.app, api_keys.c.secret_sha256, other.key_id, bytes(32))
    bodies = []
    for key in (revoked, unknown, "smsk_live_nothing"):
        body = with_key(caller.app, key).get_json()
        bodies.append({name: value for name, value in body.items() if name != "request_id"})
    assert bodies[0] == bodies[1] == bodies[2]


def test_a_key_works_until_the_moment_of_its_expiry_and_its_tokens_no_longer(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock})
    owner = make_caller(app)
    end = (clock.now() + timedelta(seconds=60)).isoformat()
    order = {"name": "short", "mode": "live", "scopes": ["messages:read"], "expires_at": end}
    made = owner.post("/v1/api-keys", order).get_json()
    granted = ask_for_token(app, made["key"]).get_json()
    assert granted["expires_in"] == 60
    clock.advance(59)
    assert with_key(app, made["key"]).status_code == 200
    assert whoami(app, granted["access_token"]).status_code == 200
    clock.advance(1)
    assert with_key(app, made["key"]).status_code == 401
    assert whoami(app, granted["access_token"]).status_code == 401
    assert ask_for_token(app, made["key"]).status_code == 401


def test_a_revoked_key_and_its_tokens_die_at_once_on_another_instance(make_app, make_caller):
    here, there = make_app(), make_app()
    owner = make_caller(here)
    made = owner.post("/v1/api-keys", {"name": "k", "mode": "live", "scopes": ["messages:read"]}).get_json()
    token = ask_for_token(here, made["key"]).get_json()["access_token"]
    assert with_key(there, made["key"]).status_code == 200
    assert whoami(there, token).status_code == 200
    assert owner.request("DELETE", f"/v1/api-keys/{made['id']}").status_code == 204
    for app in (there, here):
        assert with_key(app, made["key"]).status_code == 401
        assert whoami(app, token).status_code == 401
        assert ask_for_token(app, made["key"]).status_code == 401
        assert with_key(app, owner.key).status_code == 200


def test_a_key_whose_scopes_were_narrowed_takes_its_tokens_along_on_another_instance(make_app, make_caller):
    here, there = make_app(), make_app()
    owner = make_caller(here, scopes=("messages:read", "keys"))
    token = token_of(owner)
    assert call(there, "GET", "/v1/api-keys", bearer(token)).status_code == 200
    change_row(here, api_keys.c.scopes, owner.key_id, ["messages:read"])
    assert call(there, "GET", "/v1/api-keys", bearer(token)).status_code == 403
    assert call(there, "GET", "/v1/messages", bearer(token)).status_code == 200
    assert whoami(there, token).get_json()["scopes"] == ["messages:read"]


def test_a_key_with_an_expiry_written_by_hand_in_the_past_is_dead(caller):
    change_row(caller.app, api_keys.c.expires_at, caller.key_id, datetime.now(UTC) - timedelta(days=1))
    assert with_key(caller.app, caller.key).status_code == 401


def test_whoami_tells_client_key_mode_scopes_and_limits(make_app, make_caller):
    app = make_app(limit_send="7 per hour")
    who = make_caller(app, mode="test", scopes=("usage", "messages:read"), name="Ann", limits={"api": "9 per day"})
    for headers in ({"X-API-Key": who.key}, bearer(token_of(who))):
        shown = call(app, "GET", "/v1/auth/whoami", headers).get_json()
        assert shown["client_id"] == who.client_id
        assert shown["client_name"] == "Ann"
        assert shown["key_id"] == who.key_id
        assert shown["mode"] == "test"
        assert shown["scopes"] == ["messages:read", "usage"]
        assert (shown["limits"]["send"], shown["limits"]["api"]) == ("7 per hour", "9 per day")

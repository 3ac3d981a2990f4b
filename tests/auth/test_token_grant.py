"""POST /v1/auth/token: JSON, and the OAuth 2.0 client-credentials grant (RFC 6749 section 4.4)."""

from base64 import b64encode
from urllib.parse import urlencode

import pytest

from tests.support.auth import ask_for_token, call, clock_at_present, unlike, whoami

GRANT = {"grant_type": "client_credentials"}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def database_url(sqlite_url):
    """What is asked here is the edge; the stores have suites of their own."""
    return sqlite_url


def basic(user, password):
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def grant(app, headers, form=GRANT):
    return call(app, "POST", "/v1/auth/token", headers, data=urlencode(form, doseq=True), content_type=FORM)


def parts(caller):
    return caller.key_id, caller.key.rpartition("_")[2]


def test_a_key_is_traded_for_a_token_that_nobody_may_keep(caller):
    answer = ask_for_token(caller.app, caller.key)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    granted = answer.get_json()
    assert sorted(granted) == ["access_token", "expires_in", "scope", "token_type"]
    assert (granted["token_type"], granted["expires_in"]) == ("Bearer", 900)
    assert granted["scope"].split() == caller.get("/v1/auth/whoami").get_json()["scopes"]
    assert whoami(caller.app, granted["access_token"]).get_json()["key_id"] == caller.key_id


def test_the_life_of_a_token_is_a_setting_and_ends_with_it(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock}, jwt_ttl_seconds=30)
    granted = ask_for_token(app, make_caller(app).key).get_json()
    assert granted["expires_in"] == 30
    clock.advance(28)
    assert whoami(app, granted["access_token"]).status_code == 200
    clock.advance(2)
    expired = whoami(app, granted["access_token"])
    assert (expired.status_code, expired.get_json()["code"]) == (401, "unauthenticated")
    assert "expired" in expired.get_json()["detail"]


def test_a_token_made_on_a_host_whose_clock_is_ahead_works_on_the_others(make_app, make_caller):
    ahead, here = clock_at_present(), clock_at_present()
    ahead.advance(5)
    token = ask_for_token(first := make_app({"clock": ahead}), make_caller(first).key).get_json()["access_token"]
    assert whoami(make_app({"clock": here}), token).status_code == 200


def test_a_token_may_be_asked_for_with_fewer_scopes_and_has_no_more(caller):
    granted = ask_for_token(caller.app, caller.key, " messages:read  usage ").get_json()
    assert granted["scope"] == "messages:read usage"
    token = granted["access_token"]
    assert whoami(caller.app, token).get_json()["scopes"] == ["messages:read", "usage"]
    refused = call(caller.app, "GET", "/v1/api-keys", {"Authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.get_json()["code"]) == (403, "insufficient_scope")


def test_a_scope_that_the_key_lacks_is_400(app, make_caller):
    holder = make_caller(app, scopes=("messages:read", "usage"))
    for scope in ("admin", "messages:read admin", "nonsense", "messages:read,usage", "MESSAGES:READ"):
        by_form = grant(app, basic(*parts(holder)), {**GRANT, "scope": scope})
        for answer in (ask_for_token(app, holder.key, scope), by_form):
            problem = answer.get_json()
            assert (answer.status_code, problem["code"], problem["error"]) == (400, "invalid_scope", "invalid_scope"), (
                scope
            )
            assert answer.headers["Cache-Control"] == "no-store"
            assert "access_token" not in answer.text


def test_a_body_that_breaks_the_schema_is_422(app):
    for body, pointer in (
        ({}, "/api_key"),
        ({"api_key": None}, "/api_key"),
        ({"api_key": 5}, "/api_key"),
        ({"api_key": ""}, "/api_key"),
        ({"api_key": "k", "scope": ["messages:read"]}, "/scope"),
        ({"api_key": "k", "grant_type": "client_credentials"}, "/grant_type"),
        ([], ""),
    ):
        answer = call(app, "POST", "/v1/auth/token", json=body)
        assert (answer.status_code, answer.get_json()["code"]) == (422, "validation_failed")
        assert pointer in [error["pointer"] for error in answer.get_json()["errors"]], body


def test_a_body_of_another_kind_is_400_or_415(app):
    for content_type, data, status in (
        ("application/json", "{", 400),
        ("application/json", '{"api_key": "a", "api_key": "b"}', 400),
        ("text/plain", '{"api_key": "a"}', 415),
        ("multipart/form-data; boundary=x", "--x--", 415),
    ):
        assert call(app, "POST", "/v1/auth/token", data=data, content_type=content_type).status_code == status
    assert call(app, "POST", "/v1/auth/token").status_code == 415


def test_a_wrong_key_is_401(app):
    for wrong in ("x", "smsk_live_x", "a" * 255, "\0", "é"):
        answer = ask_for_token(app, wrong)
        assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated"), wrong
        assert answer.headers["WWW-Authenticate"]
        assert answer.headers["Cache-Control"] == "no-store"


def test_the_grant_takes_the_secret_with_and_without_its_checksum_and_the_whole_key(caller):
    key_id, secret = parts(caller)
    for password in (secret, secret[:32], caller.key):
        answer = grant(caller.app, basic(key_id, password))
        assert answer.status_code == 200, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Pragma"] == "no-cache"
        granted = answer.get_json()
        assert granted["token_type"] == "Bearer"
        assert whoami(caller.app, granted["access_token"]).get_json()["key_id"] == caller.key_id


def test_the_grant_takes_a_scope_and_an_empty_one_counts_as_none(caller):
    credentials = basic(*parts(caller))
    assert grant(caller.app, credentials, {**GRANT, "scope": "usage"}).get_json()["scope"] == "usage"
    whole = grant(caller.app, credentials, {**GRANT, "scope": ""}).get_json()["scope"]
    assert whole == grant(caller.app, credentials).get_json()["scope"]
    assert len(whole.split()) == 8


def test_a_wrong_half_of_the_credentials_is_401_in_the_scheme_that_was_used(caller, make_caller):
    key_id, secret = parts(caller)
    other = make_caller(caller.app, name="other")
    spoilt = unlike(secret[0]) + secret[1:32]
    for user, password in (
        (key_id, spoilt),
        (key_id, secret[:31]),
        (key_id, secret + "0"),
        (key_id, ""),
        ("", secret),
        (other.key_id, secret),
        (other.key_id, caller.key),
        (caller.client_id, secret),
        (key_id.removeprefix("key_"), secret),
        (key_id.upper(), secret),
        (key_id, secret[:37] + unlike(secret[37])),
    ):
        answer = grant(caller.app, basic(user, password))
        assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated"), (user, password)
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_grant_without_readable_credentials_is_401(app):
    for header in (None, "Basic", "Basic !!!", "Basic /w==", "Basic bm9jb2xvbg==", "Bearer x"):
        answer = grant(app, {} if header is None else {"Authorization": header})
        assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated"), header
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_grant_that_is_not_well_formed_is_refused_even_with_good_credentials(caller):
    for form, status, code in (
        ({}, 400, "invalid_request"),
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"scope": "usage"}, 400, "invalid_request"),
        ({"grant_type": ["client_credentials", "client_credentials"]}, 400, "invalid_request"),
        ({**GRANT, "scope": ["usage", "usage"]}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, 400, "unsupported_grant_type"),
        ({"grant_type": "Client_Credentials"}, 400, "unsupported_grant_type"),
        ({**GRANT, "client_id": "key_1"}, 422, "validation_failed"),
        ({**GRANT, "client_secret": "x"}, 422, "validation_failed"),
        ({**GRANT, "api_key": "x"}, 422, "validation_failed"),
    ):
        answer = grant(caller.app, basic(*parts(caller)), form)
        assert (answer.status_code, answer.get_json()["code"]) == (status, code), form
        assert answer.headers["Cache-Control"] == "no-store"
        if status == 422:
            assert [f"/{name}" for name in form][1:] == [error["pointer"] for error in answer.get_json()["errors"]]


def test_a_revoked_key_gets_no_token_either_way(caller, make_caller):
    lost = make_caller(caller.app, name="lost")
    assert grant(caller.app, basic(*parts(lost))).status_code == 200
    assert lost.request("DELETE", f"/v1/api-keys/{lost.key_id}").status_code == 204
    assert grant(caller.app, basic(*parts(lost))).status_code == 401
    assert ask_for_token(caller.app, lost.key).status_code == 401


def test_a_token_of_a_test_key_is_a_test_token(app, make_caller, simulator):
    tester = make_caller(app, mode="test")
    token = ask_for_token(app, tester.key).get_json()["access_token"]
    assert whoami(app, token).get_json()["mode"] == "test"
    body = {"to": "+14155550123", "text": "Hello"}
    sent = call(app, "POST", "/v1/messages", {"Authorization": f"Bearer {token}"}, json=body)
    assert sent.get_json()["test"] is True
    assert simulator.store.count() == 0


def test_a_wrong_key_is_an_invalid_client_to_an_oauth_library(app):
    answer = ask_for_token(app, "smsk_live_nothing")
    assert (answer.status_code, answer.get_json()["error"]) == (401, "invalid_client")


def test_a_large_form_is_refused_before_it_is_read(app):
    form = {"grant_type": "client_credentials", "scope": "x" * 20_000}
    answer = call(app, "POST", "/v1/auth/token", data=form)
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")

"""A credential makes nothing that outlives it, and ends nothing that can do more than it."""

from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import rfc3339
from tests.conftest import JWT_SECRET
from tests.support.api import Caller
from tests.support.auth import bearer, call, forge, token_of, whoami, with_key

ORDER = {"name": "made", "mode": "live", "scopes": ["messages:read"]}


@pytest.fixture
def database_url(sqlite_url):
    """What is decided here does not depend on the store."""
    return sqlite_url


def key_of(caller, **order):
    made = caller.post("/v1/api-keys", {**ORDER, **order})
    assert made.status_code == 201, made.text
    found = made.get_json()
    return Caller(caller.app, found["key"], caller.client_id, found["id"]), found


def in_seconds(seconds):
    return rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.parametrize("wanted", [None, "2099-01-01T00:00:00Z"])
def test_a_key_that_expires_makes_none_that_lives_longer(caller, wanted):
    short, shown = key_of(caller, expires_at=in_seconds(60), scopes=["keys", "messages:read"])
    _, made = key_of(short, expires_at=wanted)
    assert made["expires_at"] == shown["expires_at"]
    rotated = short.post(f"/v1/api-keys/{caller.key_id}/rotate", {})
    assert rotated.status_code == 403
    sibling, _ = key_of(caller, scopes=["messages:read"])
    assert short.post(f"/v1/api-keys/{sibling.key_id}/rotate", {}).get_json()["expires_at"] == shown["expires_at"]
    assert short.post(f"/v1/api-keys/{short.key_id}/rotate", {}).get_json()["expires_at"] == shown["expires_at"]


def test_a_token_makes_no_key_that_outlives_it(app, caller):
    headers = bearer(token_of(caller))
    latest = datetime.now(UTC) + timedelta(seconds=901)
    for path, body in (("/v1/api-keys", ORDER), (f"/v1/api-keys/{caller.key_id}/rotate", {})):
        made = call(app, "POST", path, headers, json=body)
        assert made.status_code == 201
        assert datetime.fromisoformat(made.get_json()["expires_at"]) <= latest


def test_a_lasting_key_makes_lasting_keys(caller):
    assert key_of(caller)[1]["expires_at"] is None
    assert caller.post(f"/v1/api-keys/{caller.key_id}/rotate", {}).get_json()["expires_at"] is None


def test_a_key_in_its_overlap_is_no_way_to_a_key_that_lasts(caller):
    stolen, shown = key_of(caller, scopes=["keys", "messages:read"])
    assert caller.post(f"/v1/api-keys/{shown['id']}/rotate", {"overlap_seconds": 60}).get_json()["expires_at"] is None
    latest = datetime.now(UTC) + timedelta(seconds=61)
    again = stolen.post(f"/v1/api-keys/{shown['id']}/rotate", {"overlap_seconds": 0}).get_json()
    assert datetime.fromisoformat(again["expires_at"]) <= latest
    of_it = Caller(caller.app, again["key"], caller.client_id, again["id"])
    assert key_of(of_it)[1]["expires_at"] == again["expires_at"]
    # Whoever lost the answer of a rotation asks another key for a successor that lasts.
    assert caller.post(f"/v1/api-keys/{again['id']}/rotate", {}).status_code == 201


def test_a_key_ends_none_that_has_scopes_which_it_lacks(caller):
    lesser, _ = key_of(caller, scopes=["keys", "messages:read"])
    refused = lesser.request("DELETE", f"/v1/api-keys/{caller.key_id}")
    assert (refused.status_code, refused.get_json()["code"]) == (403, "insufficient_scope")
    assert with_key(caller.app, caller.key).status_code == 200
    equal, _ = key_of(caller, scopes=["messages:read"])
    assert lesser.request("DELETE", f"/v1/api-keys/{equal.key_id}").status_code == 204
    assert caller.request("DELETE", f"/v1/api-keys/{lesser.key_id}").status_code == 204


@pytest.mark.parametrize("jti", [None, "", 7, ["a"], {}])
def test_a_token_without_a_name_of_its_own_is_none(app, caller, jti):
    token = token_of(caller)
    assert whoami(app, forge(token, JWT_SECRET)).status_code == 200
    assert whoami(app, forge(token, JWT_SECRET, jti=jti)).status_code == 401


def test_a_right_key_is_never_refused_for_the_failures_of_others(make_app, make_caller):
    app = make_app(limit_login="1 per day")
    good = make_caller(app)
    for status in (401, 429, 429):
        assert with_key(app, "smsk_live_wrong").status_code == status
    assert token_of(good)
    assert with_key(app, good.key).status_code == 200
    wrong = call(app, "POST", "/v1/auth/token", json={"api_key": "wrong"})
    assert (wrong.status_code, wrong.get_json()["code"]) == (429, "too_many_failed_logins")

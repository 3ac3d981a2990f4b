"""API keys over HTTP: making, listing, revoking, rotating, and never more than the caller has."""

import http.client
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from smsapi.auth.models import SCOPES
from tests.conftest import free_port, listening
from tests.support.auth import (
    ask_for_token,
    at_once,
    bearer,
    call,
    clock_at_present,
    token_of,
    whoami,
    with_key,
)

ORDER = {"name": "ci", "mode": "live", "scopes": ["messages:send", "messages:read"]}
BAD_ORDERS = (
    ({"name": ""}, "/name"),
    ({"name": "n" * 101}, "/name"),
    ({"name": "a\x00b"}, "/name"),
    ({"name": "a\nb"}, "/name"),
    ({"name": 5}, "/name"),
    ({"mode": "LIVE"}, "/mode"),
    ({"mode": None}, "/mode"),
    ({"scopes": []}, "/scopes"),
    ({"scopes": "admin"}, "/scopes"),
    ({"scopes": ["admin", "root"]}, "/scopes/1"),
    ({"scopes": [["admin"]]}, "/scopes/0"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ({"expires_at": "tomorrow"}, "/expires_at"),
    ({"expires_at": "2099-01-01T00:00:00"}, "/expires_at"),
    ({"expires_at": 4102444800}, "/expires_at"),
    ({"client_id": "cli_1"}, "/client_id"),
    ({"live": True}, "/live"),
)


def assert_problem(answer, status, code):
    assert (answer.status_code, answer.get_json()["code"]) == (status, code), answer.text


def ids_of(answer):
    return [item["id"] for item in answer.get_json()["data"]]


def test_a_new_key_is_shown_once_and_works_for_its_scopes_only(caller):
    answer = caller.post("/v1/api-keys", {**ORDER, "scopes": ["usage", "messages:read", "usage"]})
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.get_json()
    assert made["scopes"] == ["messages:read", "usage"]
    assert made["client_id"] == caller.client_id
    assert (made["expires_at"], made["revoked_at"]) == (None, None)
    assert made["created_at"].endswith("Z")
    assert with_key(caller.app, made["key"]).get_json()["scopes"] == ["messages:read", "usage"]
    assert call(caller.app, "GET", "/v1/api-keys", {"X-API-Key": made["key"]}).status_code == 403
    assert ids_of(caller.get("/v1/api-keys")) == [made["id"], caller.key_id]
    assert "key" not in caller.get("/v1/api-keys").get_json()["data"][0]


def test_a_key_order_that_breaks_a_rule_is_422_and_makes_nothing(caller):
    for change, pointer in BAD_ORDERS:
        answer = caller.post("/v1/api-keys", {**ORDER, **change})
        assert_problem(answer, 422, "validation_failed")
        assert pointer in [error["pointer"] for error in answer.get_json()["errors"]]
        assert ids_of(caller.get("/v1/api-keys")) == [caller.key_id]


def test_a_missing_field_is_named(caller):
    for name in ORDER:
        answer = caller.post("/v1/api-keys", {key: value for key, value in ORDER.items() if key != name})
        assert_problem(answer, 422, "validation_failed")
        assert [error["pointer"] for error in answer.get_json()["errors"]] == [f"/{name}"]


def test_an_expiry_may_be_far_away_and_in_any_zone(caller):
    made = caller.post("/v1/api-keys", {**ORDER, "expires_at": "9998-12-31T23:30:00+05:30"}).get_json()
    assert made["expires_at"] == "9998-12-31T18:00:00.000Z"
    assert with_key(caller.app, made["key"]).status_code == 200


def test_nobody_mints_a_scope_that_they_lack(app, make_caller):
    minter = make_caller(app, scopes=("keys", "messages:read"))
    for scope in set(SCOPES) - {"keys", "messages:read"}:
        answer = minter.post("/v1/api-keys", {**ORDER, "scopes": ["messages:read", scope]})
        assert_problem(answer, 403, "insufficient_scope")
        assert scope in answer.get_json()["detail"]
    assert ids_of(minter.get("/v1/api-keys")) == [minter.key_id]
    assert minter.post("/v1/api-keys", {**ORDER, "scopes": ["keys", "messages:read"]}).status_code == 201


def test_a_narrowed_token_mints_and_rotates_no_more_than_it_says(caller):
    narrow = bearer(token_of(caller, "keys messages:read"))
    assert_problem(call(caller.app, "POST", "/v1/api-keys", narrow, json=ORDER), 403, "insufficient_scope")
    path = f"/v1/api-keys/{caller.key_id}/rotate"
    assert_problem(call(caller.app, "POST", path, narrow, json={}), 403, "insufficient_scope")
    weak = {**ORDER, "scopes": ["messages:read"]}
    made = call(caller.app, "POST", "/v1/api-keys", narrow, json=weak)
    assert made.status_code == 201
    turned = call(caller.app, "POST", f"/v1/api-keys/{made.get_json()['id']}/rotate", narrow)
    assert turned.get_json()["scopes"] == ["messages:read"]
    assert len(ids_of(caller.get("/v1/api-keys"))) == 3


def test_a_weak_key_does_not_rotate_itself_a_strong_one(caller):
    weak = caller.post("/v1/api-keys", {**ORDER, "scopes": ["keys"]}).get_json()
    path = f"/v1/api-keys/{caller.key_id}/rotate"
    refused = call(caller.app, "POST", path, {"X-API-Key": weak["key"]}, json={"overlap_seconds": 0})
    assert_problem(refused, 403, "insufficient_scope")
    assert with_key(caller.app, caller.key).status_code == 200


def test_a_test_key_makes_and_rotates_test_keys_only(caller):
    scopes = {**ORDER, "mode": "test", "scopes": list(SCOPES)}
    tester = caller.post("/v1/api-keys", scopes).get_json()
    key = {"X-API-Key": tester["key"]}
    for headers in (key, bearer(ask_for_token(caller.app, tester["key"]).get_json()["access_token"])):
        assert_problem(call(caller.app, "POST", "/v1/api-keys", headers, json=ORDER), 403, "insufficient_scope")
        live = call(caller.app, "POST", f"/v1/api-keys/{caller.key_id}/rotate", headers)
        assert_problem(live, 403, "insufficient_scope")
        made = call(caller.app, "POST", "/v1/api-keys", headers, json={**ORDER, "mode": "test"})
        assert made.get_json()["mode"] == "test"
        turned = call(caller.app, "POST", f"/v1/api-keys/{made.get_json()['id']}/rotate", headers)
        assert turned.get_json()["mode"] == "test"


def test_the_keys_of_another_client_are_not_there(caller, make_caller):
    stranger = make_caller(caller.app, name="stranger")
    assert ids_of(stranger.get("/v1/api-keys")) == [stranger.key_id]
    unknown = f"key_{'0' * 32}"
    bodies = []
    for key_id in (caller.key_id, unknown):
        for method, path in (("DELETE", f"/v1/api-keys/{key_id}"), ("POST", f"/v1/api-keys/{key_id}/rotate")):
            answer = stranger.request(method, path)
            assert_problem(answer, 404, "not_found")
            bodies.append({**answer.get_json(), "request_id": ""})
    assert all(body == bodies[0] for body in bodies)
    assert with_key(caller.app, caller.key).status_code == 200


def test_what_is_no_id_is_404(caller):
    for shown in ("x", "key_", "key_x", "cli_{}", "key_{}0", "KEY_{}", "{}", "%00", "a" * 900, "é"):
        key_id = shown.format(caller.key_id.removeprefix("key_"))
        assert_problem(caller.request("DELETE", f"/v1/api-keys/{key_id}"), 404, "not_found")
        assert_problem(caller.post(f"/v1/api-keys/{key_id}/rotate"), 404, "not_found")


def test_a_test_key_cannot_stop_a_live_key(caller):
    made = caller.post("/v1/api-keys", {"name": "rehearsal", "mode": "test", "scopes": ["keys"]}).get_json()
    rehearsal = replace(caller, key=made["key"])
    refused = rehearsal.request("DELETE", f"/v1/api-keys/{caller.key_id}")
    assert (refused.status_code, refused.get_json()["code"]) == (403, "insufficient_scope")
    assert caller.get("/v1/auth/whoami").status_code == 200
    assert rehearsal.request("DELETE", f"/v1/api-keys/{made['id']}").status_code == 204


def test_revoking_twice_is_as_once_and_the_first_time_is_kept(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock})
    owner = make_caller(app)
    made = owner.post("/v1/api-keys", ORDER).get_json()
    assert owner.request("DELETE", f"/v1/api-keys/{made['id']}").status_code == 204
    first = owner.get("/v1/api-keys").get_json()["data"][0]["revoked_at"]
    clock.advance(100)
    assert owner.request("DELETE", f"/v1/api-keys/{made['id']}").status_code == 204
    assert owner.get("/v1/api-keys").get_json()["data"][0]["revoked_at"] == first is not None


def test_a_204_has_no_body_and_leaves_the_connection_whole(app, make_caller):
    caller, port = make_caller(app), free_port()
    made = caller.post("/v1/api-keys", ORDER).get_json()
    with listening(app, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("DELETE", f"/v1/api-keys/{made['id']}", headers={"X-API-Key": caller.key})
        gone = connection.getresponse()
        assert (gone.status, gone.read()) == (204, b"")
        assert gone.getheader("Transfer-Encoding") is None
        assert gone.getheader("Content-Length") in {None, "0"}
        assert gone.getheader("RateLimit")
        connection.request("GET", "/v1/auth/whoami", headers={"X-API-Key": caller.key})
        after = connection.getresponse()
        assert after.status == 200
        assert after.read().startswith(b"{")
        connection.close()


def test_a_rotated_key_works_beside_its_successor_for_the_overlap_and_then_no_more(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock})
    owner = make_caller(app)
    old = owner.post("/v1/api-keys", ORDER).get_json()
    token = ask_for_token(app, old["key"]).get_json()["access_token"]
    answer = owner.post(f"/v1/api-keys/{old['id']}/rotate", {"overlap_seconds": 60})
    assert answer.status_code == 201
    new = answer.get_json()
    assert new["id"] != old["id"]
    assert {name: new[name] for name in ("name", "mode", "scopes", "expires_at")} == {
        name: old[name] for name in ("name", "mode", "scopes", "expires_at")
    }
    assert ask_for_token(app, old["key"]).get_json()["expires_in"] == 60
    clock.advance(59)
    for key in (old["key"], new["key"]):
        assert with_key(app, key).status_code == 200
    clock.advance(1)
    assert with_key(app, old["key"]).status_code == 401
    assert whoami(app, token).status_code == 401
    assert with_key(app, new["key"]).status_code == 200
    assert_problem(owner.post(f"/v1/api-keys/{old['id']}/rotate"), 404, "not_found")


def test_without_a_word_on_it_the_overlap_is_a_day_and_zero_is_none(caller):
    made = caller.post("/v1/api-keys", ORDER).get_json()
    before = datetime.now(UTC)
    caller.post(f"/v1/api-keys/{made['id']}/rotate")
    shown = next(key for key in caller.get("/v1/api-keys").get_json()["data"] if key["id"] == made["id"])
    left = datetime.fromisoformat(shown["expires_at"]) - before
    assert timedelta(hours=23, minutes=59) < left < timedelta(hours=24, minutes=1)
    assert caller.post(f"/v1/api-keys/{made['id']}/rotate", {"overlap_seconds": 0}).status_code == 201
    assert with_key(caller.app, made["key"]).status_code == 401


def test_a_key_rotated_again_ends_no_later_and_its_successor_lives_as_long_as_ever(make_app, make_caller):
    # Whoever lost the answer with the secret rotates again; the second successor must not die with the overlap.
    clock = clock_at_present()
    app = make_app({"clock": clock})
    owner = make_caller(app)
    end = (clock.now() + timedelta(days=365)).isoformat()
    for expires_at in (None, end):
        made = owner.post("/v1/api-keys", {**ORDER, "expires_at": expires_at}).get_json()
        first = owner.post(f"/v1/api-keys/{made['id']}/rotate", {"overlap_seconds": 60}).get_json()
        second = owner.post(f"/v1/api-keys/{made['id']}/rotate", {"overlap_seconds": 3600}).get_json()
        assert first["expires_at"] == second["expires_at"] == made["expires_at"]
        clock.advance(61)
        assert with_key(app, made["key"]).status_code == 401
        assert with_key(app, second["key"]).status_code == 200


def test_the_overlap_does_not_outlast_the_expiry_of_the_key(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock})
    owner = make_caller(app)
    end = (clock.now() + timedelta(seconds=30)).isoformat()
    made = owner.post("/v1/api-keys", {**ORDER, "expires_at": end}).get_json()
    new = owner.post(f"/v1/api-keys/{made['id']}/rotate").get_json()
    assert new["expires_at"] == made["expires_at"]
    clock.advance(31)
    for key in (made["key"], new["key"]):
        assert with_key(app, key).status_code == 401


def test_of_rotations_at_once_the_shortest_overlap_holds(caller):
    made = caller.post("/v1/api-keys", ORDER).get_json()
    path = f"/v1/api-keys/{made['id']}/rotate"
    found = at_once(lambda number: caller.post(path, {"overlap_seconds": 0 if number == 3 else 86400}), 6)
    assert {answer.status_code for answer in found} <= {201, 404}
    assert found[3].status_code == 201
    assert with_key(caller.app, made["key"]).status_code == 401


def test_an_overlap_outside_its_bounds_is_422_and_rotates_nothing(caller):
    for overlap in (-1, 2592001, 1.5, "60", True, 10**15):
        answer = caller.post(f"/v1/api-keys/{caller.key_id}/rotate", {"overlap_seconds": overlap})
        assert_problem(answer, 422, "validation_failed")
    assert ids_of(caller.get("/v1/api-keys")) == [caller.key_id]


def test_pages_of_keys_miss_nothing_and_repeat_nothing_while_others_are_made(caller):
    made = [caller.key_id, *(caller.post("/v1/api-keys", ORDER).get_json()["id"] for _ in range(6))]
    seen, cursor = [], ""
    while cursor is not None:
        page = caller.get(f"/v1/api-keys?limit=3{cursor and f'&cursor={cursor}'}").get_json()
        assert len(page["data"]) <= 3
        seen += [key["id"] for key in page["data"]]
        cursor = page["next_cursor"]
        caller.post("/v1/api-keys", ORDER)
    assert seen == made[::-1]


def test_a_bad_query_is_422(caller):
    for query in ("limit=0", "limit=101", "limit=x", "cursor=x", "cursor=", "limit=1&limit=2", "page=2"):
        for path in ("/v1/api-keys", "/v1/clients"):
            assert_problem(caller.get(f"{path}?{query}"), 422, "validation_failed")

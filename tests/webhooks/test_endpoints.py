"""Endpoints over HTTP: made, shown once with their secret, changed, and nobody else's."""

import base64
from collections import Counter

import pytest

from smsapi.webhooks.relay import relay
from tests.conftest import new_caller
from tests.support.auth import at_once
from tests.support.dispatching import world_of
from tests.webhooks.conftest import pull

URL = "https://example.com/hooks"


def make(caller, **body):
    return caller.post("/v1/webhook-endpoints", {"url": URL, **body})


def test_the_secret_is_shown_once_and_has_the_form_of_standard_webhooks(caller):
    made = make(caller, events=["message.*"], description="shop").get_json()
    start, _, rest = made["secret"].partition("_")
    assert start == "whsec"
    assert 24 <= len(base64.b64decode(rest, validate=True)) <= 64
    path = f"/v1/webhook-endpoints/{made['id']}"
    shown = caller.get(path).get_json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert (shown["enabled"], shown["disabled_reason"], shown["events"]) == (True, None, ["message.*"])
    assert caller.get("/v1/webhook-endpoints").get_json()["data"] == [shown]


def test_a_repetition_makes_no_second_endpoint_and_shows_no_secret(caller):
    first = make_with_key(caller)
    again = make_with_key(caller)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.get_json() == {**first.get_json(), "secret": None}
    assert len(caller.get("/v1/webhook-endpoints").get_json()["data"]) == 1


def make_with_key(caller):
    return caller.post("/v1/webhook-endpoints", {"url": URL}, Idempotency_Key="once")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": "http://example.com/"}, "/url"),
        ({"url": "https://10.0.0.1/"}, "/url"),
        ({"url": "https://user@example.com/"}, "/url"),
        ({"events": []}, "/events"),
        ({"events": ["message.sentt"]}, "/events/0"),
        ({"events": "message.sent"}, "/events"),
        ({"secret": "mine"}, "/secret"),
    ],
)
def test_what_cannot_be_an_endpoint_is_422(caller, body, pointer):
    refused = make(caller, **body)
    assert refused.status_code == 422
    assert [each["pointer"] for each in refused.get_json()["errors"]] == [pointer]
    assert caller.get("/v1/webhook-endpoints").get_json()["data"] == []


def test_an_endpoint_is_changed_and_deleted(caller):
    path = f"/v1/webhook-endpoints/{make(caller).get_json()['id']}"
    changed = caller.request("PATCH", path, {"url": URL + "/2", "events": ["optout.created"], "enabled": False})
    assert changed.status_code == 200
    seen = caller.get(path).get_json()
    assert (seen["url"], seen["events"], seen["enabled"]) == (URL + "/2", ["optout.created"], False)
    assert seen["disabled_reason"] == "disabled"
    assert caller.request("PATCH", path, {}).status_code == 422
    assert caller.request("PATCH", path, {"url": "https://[::1]/"}).status_code == 422
    assert caller.request("DELETE", path).status_code == 204
    assert [caller.get(path).status_code, caller.request("DELETE", path).status_code] == [404, 404]
    assert caller.get("/v1/webhook-endpoints").get_json()["data"] == []


def test_somebody_elses_endpoint_is_404_for_everything(app, caller):
    path = f"/v1/webhook-endpoints/{make(caller).get_json()['id']}"
    stranger = new_caller(app, name="stranger")
    event = "evt_" + "0" * 32
    calls = (
        ("GET", path, None),
        ("PATCH", path, {"enabled": False}),
        ("DELETE", path, None),
        ("POST", f"{path}/rotate-secret", None),
        ("GET", f"{path}/attempts", None),
        ("POST", f"{path}/test", None),
        ("POST", f"{path}/recover", {"since": "2026-01-01T00:00:00Z"}),
        ("POST", f"{path}/events/{event}/resend", None),
    )
    assert {stranger.request(*call).status_code for call in calls} == {404}
    assert caller.get(path).get_json()["enabled"] is True
    assert caller.post(f"{path}/events/{event}/resend").status_code == 404


def test_a_test_key_sees_only_what_test_keys_made(app, caller):
    made = make(caller).get_json()
    key = caller.post("/v1/api-keys", {"name": "t", "mode": "test", "scopes": ["webhooks"]}).get_json()["key"]
    tester = type(caller)(app, key, caller.client_id, "")
    assert tester.get(f"/v1/webhook-endpoints/{made['id']}").status_code == 404
    assert tester.get("/v1/webhook-endpoints").get_json()["data"] == []
    own = make(tester).get_json()
    assert own["test"] is True
    assert [each["id"] for each in caller.get("/v1/webhook-endpoints").get_json()["data"]] == [own["id"], made["id"]]


@pytest.mark.parametrize("what", ["rotate-secret", "test", "recover", "events/{event}/resend"])
def test_what_a_test_key_does_not_find_is_not_lost_to_a_live_key_that_asks_the_same(app, caller, what):
    path = f"/v1/webhook-endpoints/{make(caller).get_json()['id']}/"
    assert caller.request("PUT", "/v1/opt-outs/+14155550123").status_code == 200
    relay(world_of(app))
    path += what.format(event=pull(caller)[0]["id"])
    key = caller.post("/v1/api-keys", {"name": "t", "mode": "test", "scopes": ["webhooks"]}).get_json()["key"]
    tester = type(caller)(app, key, caller.client_id, "")
    body = {"since": "2026-01-01T00:00:00Z"} if what == "recover" else None
    refused, done, again = (each.post(path, body, Idempotency_Key="once") for each in (tester, caller, caller))
    assert [each.status_code for each in (refused, again)] == [404, done.status_code]
    assert done.status_code in {200, 202}
    assert ["Idempotent-Replayed" in each.headers for each in (refused, done, again)] == [False, False, True]


def test_a_client_has_at_most_fifty(caller):
    assert {make(caller).status_code for _ in range(50)} == {201}
    refused = make(caller)
    assert (refused.status_code, refused.get_json()["code"]) == (409, "too_many_endpoints")


def test_it_needs_the_scope(app):
    assert make(new_caller(app, scopes=("messages:send",))).status_code == 403


def test_a_client_has_at_most_fifty_also_where_many_are_made_at_once(caller):
    assert {make(caller).status_code for _ in range(45)} == {201}
    found = Counter(at_once(lambda _: make(caller).status_code, 12))
    assert found == {201: 5, 409: 7}

"""Idempotency-Key on the POSTs that make clients and keys: once, and the same answer again, but for the secret."""

from datetime import timedelta

import pytest

from tests.support.auth import at_once, clock_at_present, with_key

KEY_ORDER = {"name": "ci — größer", "mode": "live", "scopes": ["messages:read"]}
CLIENT_ORDER = {"name": "café 🐙", "limits": {"send": "5 per minute"}}


def assert_problem(answer, status, code):
    assert (answer.status_code, answer.get_json()["code"]) == (status, code), answer.text


def keys_of(caller):
    return [each["id"] for each in caller.get("/v1/api-keys?limit=100").get_json()["data"]]


def test_making_a_client_twice_with_one_key_makes_one_and_gives_the_same_bytes(caller):
    first = caller.post("/v1/clients", CLIENT_ORDER, Idempotency_Key="a")
    again = caller.post("/v1/clients", dict(reversed(CLIENT_ORDER.items())), Idempotency_Key='"a"')
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.data == first.data
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["RateLimit"]
    assert len(caller.get("/v1/clients").get_json()["data"]) == 2


@pytest.mark.parametrize("rotate", [False, True])
def test_a_repeated_key_is_the_same_key_without_its_secret(caller, rotate):
    path = f"/v1/api-keys/{caller.key_id}/rotate" if rotate else "/v1/api-keys"
    body = {"overlap_seconds": 600} if rotate else KEY_ORDER
    first = caller.post(path, body, Idempotency_Key="a")
    again = caller.post(path, body, Idempotency_Key="a")
    assert (first.status_code, again.status_code) == (201, 201)
    secret = first.get_json()["key"]
    assert again.data.decode() == first.data.decode().replace(f'"{secret}"', "null")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(keys_of(caller)) == 2
    assert with_key(caller.app, secret).status_code == 200


def test_a_key_that_was_used_with_another_body_is_refused_and_makes_nothing(caller):
    rotate = f"/v1/api-keys/{caller.key_id}/rotate"
    for path, body, other in (
        ("/v1/clients", CLIENT_ORDER, {**CLIENT_ORDER, "name": "another"}),
        ("/v1/api-keys", KEY_ORDER, {**KEY_ORDER, "mode": "test"}),
        (rotate, {"overlap_seconds": 60}, {"overlap_seconds": 61}),
    ):
        assert caller.post(path, body, Idempotency_Key="a").status_code == 201
        assert_problem(caller.post(path, other, Idempotency_Key="a"), 422, "idempotency_key_reused")
    assert len(keys_of(caller)) == 3
    assert len(caller.get("/v1/clients").get_json()["data"]) == 2


def test_a_refusal_is_given_again_even_when_it_would_no_longer_be_one(make_app, make_caller):
    app = make_app()
    weak = make_caller(app, scopes=("keys",))
    missing = f"/v1/api-keys/key_{'0' * 32}/rotate"
    first = weak.post(missing, {}, Idempotency_Key="a")
    again = weak.post(missing, {}, Idempotency_Key="a")
    assert_problem(again, 404, "not_found")
    assert again.data == first.data


def test_a_body_that_was_never_accepted_does_not_use_up_the_key(caller):
    for path, bad, good in (
        ("/v1/clients", {"name": ""}, CLIENT_ORDER),
        ("/v1/api-keys", {**KEY_ORDER, "mode": "x"}, KEY_ORDER),
        (f"/v1/api-keys/{caller.key_id}/rotate", {"overlap_seconds": -1}, {}),
    ):
        assert_problem(caller.post(path, bad, Idempotency_Key="a"), 422, "validation_failed")
        answer = caller.post(path, good, Idempotency_Key="a")
        assert answer.status_code == 201
        assert "Idempotent-Replayed" not in answer.headers


def test_a_repetition_after_the_keys_own_expiry_is_still_the_first_answer(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock})
    owner = make_caller(app)
    order = {**KEY_ORDER, "expires_at": (clock.now() + timedelta(minutes=5)).isoformat()}
    first = owner.post("/v1/api-keys", order, Idempotency_Key="a")
    clock.advance(600)
    again = owner.post("/v1/api-keys", order, Idempotency_Key="a")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.get_json() == {**first.get_json(), "key": None}


def test_after_its_time_the_key_is_fresh_again(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock}, idempotency_ttl_seconds=3600)
    owner = make_caller(app)
    first = owner.post("/v1/clients", CLIENT_ORDER, Idempotency_Key="a").get_json()
    clock.advance(3599)
    assert owner.post("/v1/clients", CLIENT_ORDER, Idempotency_Key="a").get_json() == first
    clock.advance(1)
    other = owner.post("/v1/clients", {**CLIENT_ORDER, "name": "later"}, Idempotency_Key="a")
    assert (other.status_code, other.get_json()["name"]) == (201, "later")
    assert "Idempotent-Replayed" not in other.headers


def test_two_routes_two_ids_and_two_clients_do_not_mix(caller, make_caller):
    stranger = make_caller(caller.app, name="stranger")
    made = [caller.post("/v1/api-keys", {**KEY_ORDER, "name": name}).get_json() for name in ("one", "two")]
    turned = [caller.post(f"/v1/api-keys/{key['id']}/rotate", {}, Idempotency_Key="a") for key in made]
    assert [answer.get_json()["name"] for answer in turned] == ["one", "two"]
    first = caller.post("/v1/clients", {"name": "same"}, Idempotency_Key="a")
    second = stranger.post("/v1/clients", {"name": "same"}, Idempotency_Key="a")
    for answer in (*turned, first, second):
        assert answer.status_code == 201
        assert "Idempotent-Replayed" not in answer.headers
    assert first.get_json()["id"] != second.get_json()["id"]


def test_an_id_that_nobody_could_have_is_404_under_a_key_too_and_does_not_mix_with_its_like(caller):
    starts = ("a" * 400, "%00", "%0a", "é" * 100, "%F0%9F%90%99" * 30, *("a" * length for length in range(100, 110)))
    for shown in (f"{start}{end}" for start in starts for end in "xy"):
        path = f"/v1/api-keys/{shown}/rotate"
        first = caller.post(path, {}, Idempotency_Key="a")
        again = caller.post(path, {}, Idempotency_Key="a")
        for answer in (first, again):
            assert_problem(answer, 404, "not_found")
        assert "Idempotent-Replayed" not in first.headers
        assert again.data == first.data


def test_what_is_no_idempotency_key_is_400_and_makes_nothing(caller):
    for key in ("", " ", '""', "a b", "é", "k" * 256, "a\tb"):
        for path, body in (("/v1/clients", CLIENT_ORDER), ("/v1/api-keys", KEY_ORDER)):
            assert_problem(caller.post(path, body, Idempotency_Key=key), 400, "idempotency_key_invalid")
    assert len(keys_of(caller)) == 1


def test_twelve_at_once_make_one_key_and_one_of_them_learns_the_secret(caller):
    found = at_once(lambda _: caller.post("/v1/api-keys", KEY_ORDER, Idempotency_Key="a"), 12)
    assert [answer.status_code for answer in found] == [201] * 12
    secrets = [answer.get_json()["key"] for answer in found]
    assert len([secret for secret in secrets if secret is not None]) == 1
    assert len({answer.get_json()["id"] for answer in found}) == 1
    assert len(keys_of(caller)) == 2


def test_without_a_key_each_request_makes_its_own(caller):
    found = at_once(lambda _: caller.post("/v1/clients", CLIENT_ORDER), 6)
    assert [answer.status_code for answer in found] == [201] * 6
    assert len({answer.get_json()["id"] for answer in found}) == 6

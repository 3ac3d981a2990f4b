"""The key itself: its form, its checksum, what is kept of it, and how it is compared."""

import hashlib
import re
import socket
from uuid import UUID, uuid4

import pytest

from smsapi.auth.secrets import PresentedKey, make_key, read_key
from smsapi.db import Database
from tests.support.auth import ask_for_token, call, everything_stored, unlike, with_key

FORM = re.compile(r"smsk_(live|test)_([0-9a-f]{32})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})")


one_store = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def app_without_database(make_app):
    """An app whose database cannot be asked: whatever it refuses with 401, it refused without a look-up."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        database = Database(f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/none")
        yield make_app({"database": database})


def test_a_key_names_its_mode_and_its_id_and_has_a_secret_of_190_bits(caller):
    for mode in ("live", "test"):
        made = caller.post("/v1/api-keys", {"name": "k", "mode": mode, "scopes": ["messages:read"]}).get_json()
        match = FORM.fullmatch(made["key"])
        assert match is not None
        assert (match[1], f"key_{match[2]}") == (mode, made["id"])
        assert made["key"].startswith(made["prefix"] + "_")
        assert match[3] not in made["prefix"]


def test_no_two_keys_share_a_secret():
    made = [make_key(uuid4(), live=True)[0].rpartition("_")[2][:32] for _ in range(200)]
    assert len(set(made)) == 200
    assert {letter for secret in made for letter in secret} >= set("059AZaz")


def test_a_good_key_is_looked_up_and_finds_the_database_down(app_without_database):
    key, _ = make_key(uuid4(), live=True)
    refused = with_key(app_without_database, key)
    assert (refused.status_code, refused.get_json()["code"]) == (503, "store_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert ask_for_token(app_without_database, key).status_code == 503


@one_store
def test_a_mistyped_key_is_refused_without_a_look_up(app_without_database):
    for position in (5, 10, 41, 42, 43, 60, 74, 75, 80):
        key, _ = make_key(uuid4(), live=True)
        mistyped = key[:position] + unlike(key[position]) + key[position + 1 :]
        assert len(mistyped) == 81
        assert with_key(app_without_database, mistyped).status_code == 401, mistyped
        assert ask_for_token(app_without_database, mistyped).status_code == 401, mistyped


@one_store
def test_what_is_no_key_is_refused_without_a_look_up(app_without_database):
    key, _ = make_key(UUID("0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000"), live=True)
    spoiled = [key[:-1], key + "0", key.upper(), f"{key},{key}", f'"{key}"', f"{key};", key.replace("_", "-")]
    spoiled += [key.replace("_live_", "_test_"), key.replace("smsk_", "sk_"), key.replace("0190a", "0190A")]
    spoiled += ["x" * 4000, "smsk_live__", "smsk_live_" + "_" * 71, "", "clé"]
    for number, presented in enumerate(spoiled):
        assert with_key(app_without_database, presented, address=f"192.0.2.{number}").status_code == 401, presented


def test_swapped_neighbours_are_always_noticed():
    key, _ = make_key(uuid4(), live=False)
    for at in range(10, len(key) - 1):
        if key[at] != key[at + 1]:
            assert read_key(key[:at] + key[at + 1] + key[at] + key[at + 2 :]) is None


def test_only_the_digest_of_a_secret_is_stored(caller):
    order = {"name": "k", "mode": "live", "scopes": ["keys"]}
    made = caller.post("/v1/api-keys", order, Idempotency_Key="make").get_json()
    turned = caller.post(f"/v1/api-keys/{made['id']}/rotate", {}, Idempotency_Key="turn").get_json()
    assert ask_for_token(caller.app, made["key"]).status_code == 200
    stored = everything_stored(caller.app)
    assert "api-keys" in stored  # the answers under their Idempotency-Keys are among it
    for key in (made["key"], turned["key"], caller.key):
        secret = FORM.fullmatch(key)[3]
        assert hashlib.sha256(secret.encode()).hexdigest() in stored
        assert secret not in stored
        assert secret.encode().hex() not in stored
        assert key[-6:] not in stored


def test_no_list_and_no_second_look_shows_a_secret(caller):
    made = caller.post("/v1/api-keys", {"name": "k", "mode": "live", "scopes": ["keys"]}).get_json()
    secret = FORM.fullmatch(made["key"])[3]
    for path in ("/v1/api-keys", "/v1/auth/whoami", "/v1/clients"):
        shown = caller.get(path).text
        assert secret not in shown
        assert "sha256" not in shown
    assert call(caller.app, "GET", f"/v1/api-keys/{made['id']}", {"X-API-Key": caller.key}).status_code in {404, 405}


class TimedBytes(bytes):
    """Bytes that must not be compared by ``==``, whose time depends on how much of the guess is right."""

    __hash__ = bytes.__hash__

    def __eq__(self, other):
        raise AssertionError("compared in a time that tells where the difference is")


def test_secrets_are_compared_in_constant_time():
    key, digest = make_key(uuid4(), live=True)
    presented = read_key(key)
    timed = PresentedKey(presented.id, presented.live, TimedBytes(presented.digest))
    assert timed.matches(TimedBytes(digest), live=True)
    assert not timed.matches(TimedBytes(bytes(32)), live=True)
    with pytest.raises(AssertionError):
        assert timed.digest == digest


def test_a_key_of_the_other_mode_does_not_open_the_door_with_the_right_secret():
    key, digest = make_key(uuid4(), live=True)
    assert read_key(key).matches(digest, live=True)
    assert not read_key(key).matches(digest, live=False)

"""Access tokens: what is forged is refused, what is revoked is dead everywhere, and signing secrets rotate."""

import base64
import hmac
import json

import jwt
import pytest

from smsapi.auth.tokens import kid_of
from tests.conftest import JWT_SECRET
from tests.support.auth import (
    bearer,
    call,
    clock_at_present,
    everything_stored,
    forge,
    token_of,
    whoami,
    with_key,
)

OLD, NEW, STRANGE = "old-" * 10, "new-" * 10, "strange-" * 6
# The right secret, and all else as it should be but one thing; None leaves a claim out.
WRONG_CLAIMS = {
    "another issuer": {"iss": "somebody"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "somebody"},
    "no audience": {"aud": None},
    "expired": {"exp": 1},
    "no expiry": {"exp": None},
    "an expiry in words": {"exp": "never"},
    "an endless expiry": {"exp": 1e400},
    "an expiry past the calendar": {"exp": 10**30},
    "no key": {"key": None},
    "a key that is no id": {"key": "x"},
    "a key that is a list": {"key": ["0" * 32]},
    "a key that nobody has": {"key": "0" * 32},
    "no scope": {"scope": None},
    "no subject": {"sub": None},
}


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(header, claims):
    return f"{encoded(header)}.{encoded(claims)}"


def assert_refused(answer, what=""):
    assert answer.status_code == 401, (what, answer.text)
    assert answer.get_json()["code"] == "unauthenticated"
    assert "Bearer" in answer.headers["WWW-Authenticate"]


@pytest.fixture
def app(make_app):
    # Many forgeries come from one address here.
    return make_app(limit_login="1000 per minute")


@pytest.fixture
def token(caller):
    return token_of(caller)


def test_a_token_signed_anew_and_unchanged_works(app, token):
    assert whoami(app, forge(token, JWT_SECRET)).status_code == 200


def test_a_wrong_claim_is_refused_even_when_signed_with_our_secret(app, token):
    for name, claims in WRONG_CLAIMS.items():
        assert_refused(whoami(app, forge(token, JWT_SECRET, **claims)), name)


def test_a_wrong_kid_is_refused_even_when_signed_with_our_secret(app, token):
    # A stranger's, none that is known, and a path for whoever would read the secret from a file of that name.
    for kid in (kid_of(STRANGE), "", "x", "../../dev/null"):
        assert_refused(whoami(app, forge(token, JWT_SECRET, {"kid": kid})), kid)
    _, payload, signature = token.split(".")
    for kid in (None, 5, ["x"], {}):
        header = encoded({"alg": "HS256", "typ": "JWT", "kid": kid})
        assert_refused(whoami(app, f"{header}.{payload}.{signature}"), kid)
    assert_refused(whoami(app, f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{payload}.{signature}"))


def test_a_token_of_another_secret_is_refused_under_its_own_kid_and_under_ours(app, token):
    assert_refused(whoami(app, forge(token, STRANGE)))
    assert_refused(whoami(app, forge(token, STRANGE, {"kid": kid_of(JWT_SECRET)})))


def test_another_algorithm_is_refused_signed_or_not(app, token):
    _, payload, signature = token.split(".")
    for alg in ("none", "None", "NONE", "RS256", "ES256", "HS384", "", None):
        header = encoded({"alg": alg, "typ": "JWT", "kid": kid_of(JWT_SECRET)})
        for forged in (f"{header}.{payload}.", f"{header}.{payload}.{signature}", f"{header}.{payload}"):
            assert_refused(whoami(app, forged), alg)


def test_the_right_secret_with_another_digest_is_refused(app, token):
    claims = jwt.decode(token, options={"verify_signature": False})
    text = unsigned({"alg": "HS512", "typ": "JWT", "kid": kid_of(JWT_SECRET)}, claims)
    signature = hmac.digest(JWT_SECRET.encode(), text.encode(), "sha512")
    assert_refused(whoami(app, f"{text}.{encoded(signature)}"))
    text = unsigned({"alg": "HS256", "typ": "JWT", "kid": kid_of(JWT_SECRET)}, claims)
    signature = hmac.digest(JWT_SECRET.encode(), text.encode(), "sha256")
    assert whoami(app, f"{text}.{encoded(signature)}").status_code == 200


def test_a_payload_that_was_touched_is_refused(app, token):
    header, payload, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False})
    for change in ({"scope": "admin"}, {"exp": claims["exp"] + 60}, {"mode": "test"}):
        assert_refused(whoami(app, f"{header}.{encoded({**claims, **change})}.{signature}"))
    assert_refused(whoami(app, f"{header}.{payload}."))
    assert_refused(whoami(app, f"{header}.{payload}.{signature[::-1]}"))
    assert whoami(app, token).status_code == 200


def test_nesting_and_numbers_that_choke_a_reader_are_refused_as_any_other_token(app, token, caller):
    header, payload, signature = token.split(".")
    for bomb in (b"[" * 5000, b'{"a":' * 3000, b"9" * 5000, b"\xff\xfe", b"null", b"5", b'"text"', b""):
        assert_refused(whoami(app, f"{encoded(bomb)}.{payload}.{signature}"))
        assert_refused(whoami(app, f"{header}.{encoded(bomb)}.{signature}"))
        assert caller.post("/v1/auth/revoke", {"token": f"{header}.{encoded(bomb)}.x"}).status_code == 200


def test_a_scope_added_to_a_token_by_whoever_knows_the_secret_opens_no_more_than_the_key(app, make_caller):
    reader = make_caller(app, scopes=("messages:read",))
    forged = forge(token_of(reader), JWT_SECRET, scope="messages:read admin keys root")
    assert whoami(app, forged).get_json()["scopes"] == ["messages:read"]
    assert call(app, "GET", "/v1/clients", bearer(forged)).status_code == 403


def test_a_token_holds_neither_the_key_nor_a_name(caller, token):
    claims = jwt.decode(token, options={"verify_signature": False})
    assert caller.key.rpartition("_")[2][:32] not in json.dumps(claims)
    assert set(claims) <= {"aud", "exp", "fresh", "iat", "iss", "jti", "key", "mode", "scope", "sub", "type"}
    assert token not in everything_stored(caller.app)


def test_two_tokens_are_never_the_same(caller):
    ids = {jwt.decode(token_of(caller), options={"verify_signature": False})["jti"] for _ in range(20)}
    assert len(ids) == 20


def test_a_revoked_token_is_dead_at_once_on_another_instance_and_its_siblings_live(make_app, make_caller):
    here, there = make_app(), make_app()
    owner = make_caller(here)
    lost, kept = token_of(owner), token_of(owner)
    assert whoami(there, lost).status_code == 200
    answer = owner.post("/v1/auth/revoke", {"token": lost})
    assert (answer.status_code, answer.get_json()) == (200, {})
    for app in (there, here):
        assert_refused(whoami(app, lost))
        assert whoami(app, kept).status_code == 200
        assert with_key(app, owner.key).status_code == 200


def test_a_token_can_end_itself(app, token):
    assert call(app, "POST", "/v1/auth/revoke", bearer(token), json={"token": token}).status_code == 200
    assert_refused(whoami(app, token))
    assert_refused(call(app, "POST", "/v1/auth/revoke", bearer(token), json={"token": token}))


def test_the_token_of_another_client_is_not_revoked_and_the_answer_does_not_tell(caller, make_caller, token):
    stranger = make_caller(caller.app, name="stranger")
    answer = stranger.post("/v1/auth/revoke", {"token": token})
    assert (answer.status_code, answer.get_json()) == (200, {})
    assert whoami(caller.app, token).status_code == 200


def test_revoking_is_200_whatever_the_token(caller, token):
    assert caller.post("/v1/auth/revoke", {"token": token, "token_type_hint": "access_token"}).status_code == 200
    for text in (
        token,
        forge(token, STRANGE),
        forge(token, JWT_SECRET, exp=1),
        caller.key,
        "",
        "a.b.c",
        "é",
        "x" * 8192,
    ):
        answer = caller.post("/v1/auth/revoke", {"token": text})
        assert (answer.status_code, answer.get_json()) == (200, {})


def test_revoking_needs_a_credential_and_a_token_in_the_body(caller, token):
    assert_refused(call(caller.app, "POST", "/v1/auth/revoke", json={"token": token}))
    for body in ({}, {"token": None}, {"token": 5}, {"token": token, "also": "this"}):
        assert caller.post("/v1/auth/revoke", body).status_code == 422
    assert whoami(caller.app, token).status_code == 200


def test_revocations_are_forgotten_once_the_token_has_expired_and_it_stays_dead(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock}, jwt_ttl_seconds=60)
    owner = make_caller(app)
    first, second = token_of(owner), ""
    jti = jwt.decode(first, options={"verify_signature": False})["jti"]
    owner.post("/v1/auth/revoke", {"token": first})
    assert jti in everything_stored(app)
    clock.advance(61)
    second = token_of(owner)
    owner.post("/v1/auth/revoke", {"token": second})
    assert jti not in everything_stored(app)
    assert_refused(whoami(app, first))
    assert_refused(whoami(app, second))


def test_the_signing_secret_rotates_with_an_overlap(make_app, make_caller):
    before = make_app(jwt_secret=OLD)
    owner = make_caller(before)
    old_token = token_of(owner)
    during = make_app(jwt_secret=NEW, jwt_previous_secrets=(OLD,))
    owner.app = during
    new_token = token_of(owner)
    assert whoami(during, old_token).status_code == 200
    assert whoami(during, new_token).status_code == 200
    assert_refused(whoami(before, new_token))
    after = make_app(jwt_secret=NEW)
    assert_refused(whoami(after, old_token))
    assert whoami(after, new_token).status_code == 200


def test_instances_that_already_know_the_next_secret_take_its_tokens_before_they_sign_with_it(make_app, make_caller):
    ready = make_app(jwt_secret=OLD, jwt_previous_secrets=(NEW,))
    switched = make_app(jwt_secret=NEW, jwt_previous_secrets=(OLD,))
    owner = make_caller(switched)
    token = token_of(owner)
    assert jwt.get_unverified_header(token)["kid"] == kid_of(NEW)
    assert whoami(ready, token).status_code == 200


def test_the_kid_tells_nothing_of_the_secret():
    assert kid_of(OLD) != kid_of(NEW)
    assert len(kid_of(OLD)) == 16
    assert OLD[:8] not in kid_of(OLD)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize("ahead", [1, 30, 120])
def test_a_token_of_a_clock_that_is_a_little_ahead_works(app, token, claim, ahead):
    issued = jwt.decode(token, options={"verify_signature": False})["iat"]
    assert whoami(app, forge(token, JWT_SECRET, **{claim: issued + ahead})).status_code == 200

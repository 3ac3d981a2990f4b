"""An Idempotency-Key is a client's live keys' or its test keys', on every route, and no single one's of them."""

import hashlib
import hmac
import json

import pytest
from sqlalchemy import select, update

from smsapi.auth.models import SCOPES
from smsapi.web.idempotency import digest_of, idempotency_keys
from smsapi.webhooks.postman import deliver_due
from tests.support.api import TO, Caller
from tests.support.contract import spec
from tests.support.dispatching import world_of
from tests.webhooks.conftest import ALLOWED, endpoint_of, pull
from tests.webhooks.receiver import Receiver

KEY_ORDER = {"name": "one", "mode": "test", "scopes": ["messages:read"]}
SOON = "2999-01-01T00:00:00Z"


@pytest.fixture
def app(make_app):
    return make_app(**ALLOWED)


def second_key(caller, *, mode, scopes=SCOPES):
    made = caller.post("/v1/api-keys", {"name": "second", "mode": mode, "scopes": list(scopes)}).get_json()
    return Caller(caller.app, made["key"], caller.client_id, made["id"])


def idempotent_operations():
    for path, item in spec()["paths"].items():
        for method, operation in item.items():
            names = [str(each) for each in operation.get("parameters", [])] if isinstance(operation, dict) else []
            if any("Idempotency" in name for name in names):
                yield method.upper(), path, operation["operationId"]


def orders(test, receiver):
    """Return what to ask of each operation, about things that both keys see."""
    batch = test.post("/v1/batches", {"text": "Hello", "recipients": [{"to": TO}]}).get_json()
    message = test.send(headers={"Prefer": "respond-async"}).get_json()
    endpoint = endpoint_of(test, receiver)
    deliver_due(world_of(test.app))
    event = pull(test)[0]
    ids = {"batch_id": batch["id"], "message_id": message["id"], "endpoint_id": endpoint["id"], "event_id": event["id"]}
    return {**ids, "key_id": test.key_id}, {
        "create_message": {"to": TO, "text": "Hello"},
        "create_batch": {"text": "Hello", "recipients": [{"to": TO}]},
        "create_key": KEY_ORDER,
        "create_client": {"name": "another"},
        "create_webhook_endpoint": {"url": receiver.url},
        "resolve_message": {"outcome": "failed"},
        "recover_webhook_endpoint": {"since": "2020-01-01T00:00:00Z"},
    }


def test_a_rehearsal_is_the_answer_to_no_live_request_on_any_route(app, make_caller):
    live = make_caller(app)
    test = second_key(live, mode="test")
    found = list(idempotent_operations())
    assert len(found) >= 10
    with Receiver() as receiver:
        ids, bodies = orders(test, receiver)
        for method, path, name in found:
            target = path.format(**ids)
            rehearsed = test.request(method, target, bodies.get(name, {}), Idempotency_Key=f"k-{name}")
            real = live.request(method, target, bodies.get(name, {}), Idempotency_Key=f"k-{name}")
            assert rehearsed.status_code < 500
            assert "Idempotent-Replayed" not in real.headers, (name, rehearsed.text, real.text)
            again = live.request(method, target, bodies.get(name, {}), Idempotency_Key=f"k-{name}")
            assert (again.status_code, "Idempotent-Replayed" in again.headers) in {
                (real.status_code, True),
                (404, False),
            }, name


def test_a_refusal_of_one_key_is_no_answer_to_a_fuller_one(app, make_caller):
    full = make_caller(app)
    weak = second_key(full, mode="live", scopes=("keys",))
    assert weak.post("/v1/api-keys", KEY_ORDER, Idempotency_Key="a").status_code == 403
    made = full.post("/v1/api-keys", KEY_ORDER, Idempotency_Key="a")
    assert (made.status_code, "Idempotent-Replayed" in made.headers) == (201, False)


def test_a_refusal_that_an_earlier_release_stored_is_forgotten(app, make_caller):
    full = make_caller(app)
    assert full.post("/v1/api-keys", KEY_ORDER, Idempotency_Key="a").status_code == 201
    rewrite(app, status=403)
    made = full.post("/v1/api-keys", KEY_ORDER, Idempotency_Key="a")
    assert (made.status_code, "Idempotent-Replayed" in made.headers) == (201, False)
    assert "Idempotent-Replayed" in full.post("/v1/api-keys", KEY_ORDER, Idempotency_Key="a").headers


def rewrite(app, **values):
    with world_of(app).database.transaction() as connection:
        connection.execute(update(idempotency_keys).values(**values))


def stored_digests(app):
    with world_of(app).database.read() as connection:
        return connection.execute(select(idempotency_keys.c.body_sha256)).scalars().all()


def test_what_is_stored_of_a_body_lets_nobody_try_out_its_number(app, make_caller):
    caller = make_caller(app)
    body = {"to": TO, "text": "Hello"}
    assert caller.post("/v1/messages", body, Idempotency_Key="a").status_code == 201
    (stored,) = stored_digests(app)
    assert stored != digest_of(body)
    assert stored != hashlib.sha256(json.dumps(body).encode()).digest()
    assert stored != hmac.digest(b"", digest_of(body), "sha256")


def test_the_same_body_of_two_clients_is_not_known_as_the_same(app, make_caller):
    for _ in range(2):
        assert make_caller(app).send(headers={"Idempotency_Key": "a"}).status_code == 201
    assert len(set(stored_digests(app))) == 2


def test_what_an_earlier_release_stored_of_a_body_still_answers_its_repetition(app, make_caller):
    caller = make_caller(app)
    body = {"to": TO, "text": "Hello"}
    first = caller.post("/v1/messages", body, Idempotency_Key="a")
    rewrite(app, body_sha256=digest_of(body))
    again = caller.post("/v1/messages", body, Idempotency_Key="a")
    assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")
    other = caller.post("/v1/messages", {**body, "text": "Bye"}, Idempotency_Key="a")
    assert other.get_json()["code"] == "idempotency_key_reused"


def test_a_body_is_known_again_after_the_secret_has_rotated(make_app, make_caller):
    old, new = "the-old-secret-of-thirty-two-chars-or-more", "the-new-secret-of-thirty-two-chars-or-more"
    caller = make_caller(make_app(jwt_secret=old))
    first = caller.send(headers={"Idempotency_Key": "a"})
    later = Caller(make_app(jwt_secret=new, jwt_previous_secrets=(old,)), caller.key, caller.client_id, caller.key_id)
    again = later.send(headers={"Idempotency_Key": "a"})
    assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")

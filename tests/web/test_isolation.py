"""Every operation, called by another client with all that it could know of a client's things, tells none of its words.

The operations are those of openapi.yaml, so that a new route is walked too, and fails here until a thing for each new
parameter of a path is planted.
"""

from itertools import product
from urllib.parse import quote, urlencode

import pytest

from smsapi.auth.models import SCOPES
from smsapi.webhooks.postman import deliver_due
from tests.support.api import LANDLINE, TO
from tests.support.contract import spec
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.inbound import text_us
from tests.support.plivo_calls import PUBLIC_URL
from tests.support.staged import tend_all
from tests.webhooks.conftest import ALLOWED, endpoint_of
from tests.webhooks.receiver import Receiver

# Numbers that the other client never texted, and never was texted by.
OWN_TO, OWN_ROW, OWN_SCHEDULED = "+14155550161", "+14155550162", "+14155550163"
METHODS = ("get", "post", "put", "patch", "delete")
# An admin is the operator: it reads and changes what every client is.
OF_OPERATORS = ("/v1/clients",)
PLAIN = tuple(scope for scope in SCOPES if scope != "admin")


class Planted:
    """One client with one of everything, and the words by which each thing of it is known again."""

    def __init__(self, app, make_caller, receiver):
        self.words = set()
        word = self.word
        owner = make_caller(
            app,
            name=word("name"),
            optout_keywords=[word("keyword")],
            allowed_senders=[LANDLINE],
        )
        message = owner.send(
            OWN_TO, word("text"), reference=word("reference"), metadata={word("metakey"): word("metavalue")},
            headers={"Idempotency_Key": word("idempotency")},
        ).get_json()  # fmt: skip
        owner.send(TO, word("shared"))
        queued = owner.send(OWN_SCHEDULED, word("queued"), headers=ASYNC).get_json()
        rows = [{"to": OWN_ROW, "vars": {"who": word("variable")}, "reference": word("row")}, {"to": word("bad")}]
        batch = owner.post("/v1/batches", {"text": f"{word('template')} {{{{who}}}}", "recipients": rows}).get_json()
        tend_all(owner)
        endpoint = endpoint_of(owner, receiver, description=word("description"))
        key = {"name": word("keyname"), "mode": "live", "scopes": ["messages:read"]}
        key_id = owner.post("/v1/api-keys", key).get_json()["id"]
        owner.request("PUT", f"/v1/opt-outs/{OWN_SCHEDULED}", {"reason": word("reason")})
        text_us(app, word("inbound"))
        text_us(app, f"STOP {word('review')}")
        text_us(app, "STOP")
        text_us(app, "STOP", sender=OWN_TO)
        owner.request("DELETE", f"/v1/opt-outs/{TO}", {"reason": word("removed")})
        text_us(app, "STOP")
        run_due(world_of(app))
        deliver_due(world_of(app))
        inbound = owner.get("/v1/inbound-messages").get_json()["data"]
        events = owner.get("/v1/events?limit=100").get_json()["data"]
        listed = owner.get("/v1/messages?limit=100").get_json()["data"]
        self.owner = owner
        self.things = {
            "message_id": [each["id"] for each in (message, queued)],
            "batch_id": [batch["id"]],
            "endpoint_id": [endpoint["id"]],
            "event_id": [events[0]["id"]],
            "key_id": [key_id, owner.key_id],
            "client_id": [owner.client_id],
            "inbound_id": [inbound[0]["id"]],
            "number": [OWN_TO, OWN_SCHEDULED, TO],
            "chunk_id": ["chk_" + "0" * 32],
            "code": ["not_found"],
            "name": ["swagger-ui.css"],
        }
        self.values = {
            "to": OWN_TO,
            "from": LANDLINE,
            "reference": next(each for each in self.words if "reference" in each),
            "status": "sent",
            "batch_id": batch["id"],
            "after": events[0]["id"],
            "number": OWN_TO,
            "since": "2020-01-01T00:00:00Z",
        }
        ids = {each["id"] for each in (*inbound, *events, *listed, batch, endpoint)}
        self.words |= ids | {owner.client_id, owner.key_id, key_id, OWN_TO, OWN_ROW, OWN_SCHEDULED}

    def word(self, kind):
        made = f"zz{kind}qx"
        self.words.add(made)
        return made


@pytest.fixture
def app(make_app):
    return make_app(public_url=PUBLIC_URL, **ALLOWED, **dict.fromkeys(("limit_api", "limit_send"), "9999 per minute"))


@pytest.fixture
def planted(app, make_caller):
    with Receiver() as receiver:
        yield Planted(app, make_caller, receiver)


@pytest.fixture
def database_url(sqlite_url):
    """What may be read is decided by the same conditions on both stores."""
    return sqlite_url


def operations():
    for path, item in spec()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def parameters(path, operation, where):
    declared = [*spec()["paths"][path].get("parameters", []), *operation.get("parameters", [])]
    found = [resolved(each) for each in declared]
    return [each["name"] for each in found if each["in"] == where]


def resolved(schema):
    while "$ref" in schema:
        kind, name = schema["$ref"].split("/")[-2:]
        schema = spec()["components"][kind][name]
    return schema


def made_up(schema, values, name=""):
    """Return a value of the schema, with the owner's own where a property has the name of one."""
    schema = resolved(schema)
    if name in values:
        return values[name]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "array":
        return [made_up(schema.get("items", {}), values, name)]
    if kind == "object":
        return {each: made_up(rule, values, each) for each, rule in schema.get("properties", {}).items()}
    return {"integer": schema.get("minimum", 1), "number": 1, "boolean": True}.get(kind, "x")


def bodies(operation, values):
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return [None]
    examples = [resolved(each)["value"] for each in content.get("examples", {}).values()]
    schema = resolved(content["schema"])
    whole = made_up(schema, values)
    needed = {name: whole[name] for name in schema.get("required", ()) if name in whole}
    return [*examples, {}, needed, whole]


def requests_to(planted, method, path, operation):
    """Yield every path, with its query, and body by which another client might get at the owner's things."""
    names = parameters(path, operation, "path")
    unknown = [name for name in names if name not in planted.things]
    assert not unknown, f"{path}: plant something for {unknown}"
    queries = [""] + [f"?{urlencode({name: value})}" for name, value in planted.values.items()
                      if name in parameters(path, operation, "query")]  # fmt: skip
    for chosen in product(*(planted.things[name] for name in names)):
        filled = path
        for name, value in zip(names, chosen, strict=True):
            filled = filled.replace(f"{{{name}}}", quote(value, safe="+"))
        for query, body in product(queries, bodies(operation, planted.values)):
            yield filled + query, body


def leaked(planted, path, body, answer):
    """Return the owner's words in an answer, but for those that the request itself had."""
    known = f"{path} {body}"
    said = f"{answer.text} {answer.headers}"
    return sorted(word for word in planted.words if word in said and word not in known)


@pytest.mark.parametrize("kind", ["live", "test", "admin"])
def test_no_route_tells_one_client_s_words_to_another(app, planted, make_caller, kind):
    scopes = SCOPES if kind == "admin" else PLAIN
    other = make_caller(app, mode="test" if kind == "test" else "live", scopes=scopes, allowed_senders=[LANDLINE])
    # Known to both, so that what concerns the sender concerns this client too.
    other.send(TO, headers=ASYNC)
    found, calls = {}, 0
    for method, path, operation in operations():
        if kind == "admin" and path.startswith(OF_OPERATORS):
            continue
        for target, body in requests_to(planted, method, path, operation):
            answer = other.request(method, target, body, Idempotency_Key="zzidempotencyqx")
            calls += 1
            if words := leaked(planted, target, body, answer):
                found[method, target] = words
    assert found == {}
    assert calls > len(list(operations()))


def test_the_owner_s_own_things_are_all_there_to_be_found(planted):
    """What the walk looks for is what a leak would show."""
    said = ""
    for method, path, operation in operations():
        if method == "GET":
            for target, _ in requests_to(planted, method, path, operation):
                said += planted.owner.get(target).text
    hidden = {"zzidempotencyqx"}
    assert sorted(word for word in planted.words if word not in said) == sorted(hidden)


def test_no_event_and_no_webhook_tells_one_client_s_words_to_another(app, make_caller):
    with Receiver() as own, Receiver() as others:
        other = make_caller(app, scopes=PLAIN, allowed_senders=[LANDLINE])
        assert other.send(TO).status_code == 201
        endpoint_of(other, others)
        planted = Planted(app, make_caller, own)
        deliver_due(world_of(app))
        told = " ".join(f"{each.headers} {each.body.decode()}" for each in others.taken)
        assert "optout.created" in told
        assert [word for word in planted.words if word in told] == []
        events = other.get("/v1/events?limit=100").text
        assert "optout.removed" in events
        assert [word for word in planted.words if word in events] == []

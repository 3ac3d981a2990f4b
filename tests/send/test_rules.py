"""Every way in which a text can come to leave, against every rule that may forbid it: each cell says what holds."""

from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock
from smsapi.plivo.outcomes import Unknown
from smsapi.sms.prices import PriceList
from tests.conftest import new_caller
from tests.support.api import LANDLINE
from tests.support.batching import statuses_of
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.limits import left
from tests.support.providers import Scripted, taken
from tests.support.staged import tend_all

HOUR = 3600
GOOD, BAD, OTHER_SENDER = "+14155552001", "+447400123456", "+14155550101"
PRICES = PriceList.from_mapping({"currency": "USD", "countries": {"US": "0.0079", "GB": "0.04"}})
LONG = "x" * 161
WAYS = ("single", "batch", "patch", "schedule", "queue", "resolve")

REFUSED = "refused as it is asked for; nothing is stored or changed"
REJECTED = "a reject of the batch, and the other rows go on"
FAILS_WHEN_DUE = "accepted under the rule as it was then; fails before any call when its turn comes"
SENT = "sent: the rule is about the request, and was asked when it was accepted"

# What each rule does on each way. `schedule` and `queue`: accepted before the rule forbade it, by now due or waiting.
TABLE = {
    "opt-out": dict(single=REFUSED, batch=REJECTED, patch=REFUSED, **dict.fromkeys(WAYS[3:], FAILS_WHEN_DUE)),
    "client's country": dict(single=REFUSED, batch=REJECTED, patch=REFUSED, **dict.fromkeys(WAYS[3:], FAILS_WHEN_DUE)),
    "client's sender": dict(single=REFUSED, batch=REFUSED, patch=REFUSED, **dict.fromkeys(WAYS[3:], FAILS_WHEN_DUE)),
    # The caller's own bounds: they are kept with a scheduled message, and a PATCH is held to them.
    "max_price": dict(single=REFUSED, batch=REJECTED, patch=REFUSED, **dict.fromkeys(WAYS[3:], SENT)),
    "max_segments": dict(single=REFUSED, batch=REFUSED, patch=REFUSED, **dict.fromkeys(WAYS[3:], SENT)),
    "control character": dict(single=REFUSED, batch=REFUSED, patch=REFUSED, **dict.fromkeys(WAYS[3:], SENT)),
    # Spent once, when the message is accepted: neither its turn nor a person's `resend` spends it again.
    "number's limit": dict(single=REFUSED, patch=REFUSED, **dict.fromkeys(WAYS[3:], SENT)),
    # Limits of requests: a PATCH sends nothing, and spends the limit `api` in their place.
    "send's limit": dict(single=REFUSED, batch=REFUSED, patch=SENT, **dict.fromkeys(WAYS[3:], SENT)),
    "key's limit": dict(single=REFUSED, batch=REFUSED, patch=SENT, **dict.fromkeys(WAYS[3:], SENT)),
}
CODES = {
    "opt-out": "recipient_opted_out",
    "client's country": "country_not_allowed",
    "client's sender": "sender_not_allowed",
    "max_price": "price_too_high",
    "max_segments": "too_many_segments",
    "control character": "validation_failed",
    "number's limit": "rate_limited",
    "send's limit": "rate_limited",
    "key's limit": "rate_limited",
}
LIMITS = {"number's limit": "number", "send's limit": "send", "key's limit": "key"}
BODIES = {
    "max_price": {"max_price": "0.01"},
    "max_segments": {"max_segments": 1, "text": LONG},
    "control character": {"text": "bell \a"},
}
CELLS = [(rule, way) for rule, row in TABLE.items() for way in row]


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def database_url(sqlite_url):
    """One store: the rules are asked by the same statements on both, which other tests are about."""
    return sqlite_url


class Scene:
    """One rule, and a caller who goes one way; the rule forbids all to ``BAD``, or what ``BODIES`` says."""

    def __init__(self, make_app, clock, rule):
        self.clock, self.rule = clock, rule
        self.provider = Scripted(taken())
        replacements = {"clock": clock, "provider": self.provider, "prices": PRICES}
        self.app = make_app(replacements, pace_long_code=100.0, limit_api="999 per day")
        self.world, self.caller = (
            world_of(self.app),
            new_caller(self.app, default_sender=LANDLINE, allowed_senders=[LANDLINE, OTHER_SENDER]),
        )
        self.admin = new_caller(self.app, name="admin")

    def enforce(self):
        """From now on the rule holds."""
        match self.rule:
            case "opt-out":
                assert self.caller.request("PUT", f"/v1/opt-outs/{BAD}").status_code == 200
            case "client's country":
                self.change_client({"allowed_countries": ["US"]})
            case "client's sender":
                self.change_client({"allowed_senders": [LANDLINE]})
            case rule if rule in LIMITS:
                # One text or request is left, and is then spent.
                self.change_client({"limits": {LIMITS[rule]: "1 per day"}})
                self.caller.send(BAD, send_at=(self.clock.now() + timedelta(days=20)).isoformat())

    def change_client(self, changes):
        answer = self.admin.request("PATCH", f"/v1/clients/{self.caller.client_id}", changes)
        assert answer.status_code == 200, answer.text

    def body(self):
        forbidden = {"sender": OTHER_SENDER} if self.rule == "client's sender" else {}
        return {"to": BAD, **forbidden, **BODIES.get(self.rule, {})}

    def sends(self):
        for _ in range(4):
            run_due(self.world)
        return [each.to for each in self.provider.asked]


def go(scene, way):
    """Go this way; return the answer, and the message or batch where there is one."""
    body, later = scene.body(), (scene.clock.now() + timedelta(seconds=HOUR)).isoformat()
    caller = scene.caller
    if way == "single":
        scene.enforce()
        return caller.send(headers=ASYNC, **body), None
    if way == "batch":
        scene.enforce()
        fields = {name.replace("sender", "from"): value for name, value in body.items() if name != "to"}
        rows = {"recipients": [{"to": GOOD}, {"to": BAD}], "text": "Hello", **fields}
        return caller.post("/v1/batches", rows), None
    if way == "patch":
        bounds = {name: value for name, value in body.items() if name.startswith("max_")}
        message = caller.send(GOOD, send_at=later, **bounds).get_json()
        scene.enforce()
        changes = {name.replace("sender", "from"): each for name, each in body.items() if name not in bounds}
        return caller.request("PATCH", f"/v1/messages/{message['id']}", changes), message
    accepted = {name: value for name, value in body.items() if name in {"to", "sender"}}
    message = accept(scene, way, accepted, later)
    scene.enforce()
    if way == "resolve":
        answer = caller.post(f"/v1/messages/{message['id']}/resolve", {"outcome": "resend"})
        assert answer.status_code == 200
    scene.clock.advance(HOUR)
    return None, message


def accept(scene, way, accepted, later):
    match way:
        case "schedule":
            return scene.caller.send(send_at=later, **accepted).get_json()
        case "queue":
            return scene.caller.send(headers=ASYNC, **accepted).get_json()
        case _:
            scene.provider._outcomes = [Unknown("no answer")]
            message = scene.caller.send(headers=ASYNC, on_unknown="hold", **accepted).get_json()
            run_due(scene.world)
            assert scene.caller.message(message["id"])["status"] == "unknown"
            scene.provider._outcomes = [taken()]
            scene.provider.asked.clear()
            return message


@pytest.mark.parametrize(("rule", "way"), CELLS)
def test_each_rule_holds_on_each_way(make_app, clock, rule, way):
    scene = Scene(make_app, clock, rule)
    answer, message = go(scene, way)
    match TABLE[rule][way]:
        case expected if expected is REFUSED:
            assert answer.get_json()["code"] == CODES[rule], answer.text
            if message is not None:
                kept = scene.caller.message(message["id"])
                assert (kept["to"], kept["text"], kept["from"]) == (GOOD, "Hello", LANDLINE)
            assert BAD not in scene.sends()
        case expected if expected is REJECTED:
            batch = answer.get_json()
            assert (answer.status_code, batch["accepted"], batch["rejected"]) == check_rejects(scene, batch), (
                answer.text
            )
            tend_all(scene.caller)
            assert BAD not in scene.sends()
        case expected if expected is FAILS_WHEN_DUE:
            assert scene.sends() == []
            seen = scene.caller.message(message["id"])
            if way == "resolve":
                # It may have been taken before, so that nobody says that it was not sent.
                assert (seen["status"], seen["error"]["code"]) == ("unknown", "outcome_unknown")
                code = scene.caller.events(message["id"])[-1]["data"]["instead_of"]["code"]
            else:
                assert seen["status"] == "failed"
                code = seen["error"]["code"]
            assert code == CODES[rule]
        case _:
            assert answer is None or answer.status_code == 200, answer.text
            clock.advance(HOUR)
            assert scene.sends() == [BAD]


def check_rejects(scene, batch):
    """Return what is expected: the one row that the rule is about is told of with its code."""
    found = scene.caller.get(f"/v1/batches/{batch['id']}/rejects").get_json()["data"]
    assert {each["code"] for each in found} == {CODES[scene.rule]}
    return (202, 1, 1)


def test_the_table_has_a_cell_for_each_rule_and_way_but_one_that_is_tested_with_batches():
    missing = {(rule, way) for rule, row in TABLE.items() for way in WAYS if way not in row}
    assert missing == {("number's limit", "batch")}


def test_a_number_is_counted_once_for_each_message_that_is_changed_to_it(make_app, clock):
    scene = Scene(make_app, clock, "number's limit")
    caller, later = scene.caller, (clock.now() + timedelta(seconds=HOUR)).isoformat()
    scene.change_client({"limits": {"number": "3 per day"}})
    made = [caller.send(f"+1415555{2100 + each}", send_at=later).get_json() for each in range(5)]
    changed = [caller.request("PATCH", f"/v1/messages/{each['id']}", {"to": BAD}).status_code for each in made]
    assert changed == [200, 200, 200, 429, 429]
    again = caller.request("PATCH", f"/v1/messages/{made[0]['id']}", {"to": BAD, "text": "Again"})
    assert (again.status_code, left(again)["number"]) == (200, 0)
    other = caller.request("PATCH", f"/v1/messages/{made[3]['id']}", {"text": "No number in it"})
    assert (other.status_code, "number" in left(other)) == (200, False)
    clock.advance(HOUR)
    assert scene.sends().count(BAD) == 3
    assert caller.message(made[4]["id"])["to"] == made[4]["to"]


def test_a_joined_call_leaves_out_the_country_that_was_taken_away(make_app, clock):
    scene = Scene(make_app, clock, "client's country")
    rows = {"text": "Hello", "recipients": [{"to": GOOD}, {"to": BAD}, {"to": "+14155552002"}]}
    batch = scene.caller.post("/v1/batches", rows).get_json()
    tend_all(scene.caller)
    scene.enforce()
    for _ in range(4):
        run_due(scene.world)
        clock.advance(1)
    assert statuses_of(scene.world, batch["id"]) == {"sent": 2, "failed": 1}
    sent = [number for each in scene.provider.asked for number in getattr(each, "numbers", None) or (each.to,)]
    assert BAD not in sent

"""What a send is answered with, and what goes on when its caller has stopped waiting."""

import pytest

from smsapi.plivo.outcomes import Rejected, Unavailable, Unknown
from smsapi.plivo.simulator.faults import Rule
from tests.conftest import AUTH_ID, AUTH_TOKEN, eventually
from tests.support.api import LANDLINE, TO
from tests.support.far_side import GatedProvider, ScriptedProvider

SECRET_REASON = f"authentication failed for {AUTH_ID} with {AUTH_TOKEN}: suspended"


@pytest.fixture
def database_url(sqlite_url):
    """What is asked here is the answer; the stores have suites of their own."""
    return sqlite_url


def _types(caller, message_id):
    return [event["type"] for event in caller.events(message_id)]


def test_a_message_that_plivo_takes_is_created(app, make_caller, simulator):
    caller = make_caller(app)
    sent = caller.send(text="Hello", reference="order-7", metadata={"a": "1"})
    assert sent.status_code == 201
    message = sent.get_json()
    assert sent.headers["Location"] == f"/v1/messages/{message['id']}"
    assert sent.content_type == "application/json"
    assert message == caller.message(message["id"])
    assert message["id"].startswith("msg_")
    assert message["client_id"] == caller.client_id
    (taken,) = simulator.store.taken()
    assert message["provider"] == {"name": "plivo", "message_uuid": taken.message_uuid, "error_code": None}
    expected = {"to": TO, "from": LANDLINE, "status": "sent", "attempts": 1, "test": False, "error": None}
    assert {name: message[name] for name in expected} == expected
    assert message["created_at"] <= message["sent_at"] <= message["updated_at"]
    assert message["delivered_at"] is None
    assert _types(caller, message["id"]) == ["message.queued", "message.sent"]


def test_a_message_that_nobody_waits_for_is_stored_and_not_sent(app, make_caller, simulator):
    caller = make_caller(app)
    taken = caller.send(headers={"Prefer": "respond-async"})
    message = taken.get_json()
    assert (taken.status_code, message["status"], message["attempts"]) == (202, "queued", 0)
    assert taken.headers["Preference-Applied"] == "respond-async"
    assert taken.headers["Location"] == f"/v1/messages/{message['id']}"
    read = caller.message(message["id"])
    assert read.pop("estimated_send_at") is not None
    assert read == message
    assert _types(caller, message["id"]) == ["message.queued"]
    assert simulator.store.count() == 0


def test_a_slow_plivo_is_waited_for_a_second_and_not_asked_twice(live, simulator):
    remote = live()
    simulator.faults.replace([Rule("slow", seconds=2.0)])
    taken = remote.send(to="+14155550001", headers={"Prefer": "wait=1"})
    message = taken.json()
    assert (taken.status_code, message["status"]) == (202, "queued")
    assert taken.headers["Preference-Applied"] == "wait=1"
    assert taken.headers["Location"] == f"/v1/messages/{message['id']}"
    eventually(lambda: remote.message(message["id"])["status"] == "delivered")
    assert simulator.store.count() == 1
    assert remote.message(message["id"])["attempts"] == 1


def test_a_plivo_that_hangs_is_not_waited_for(make_app, make_caller, simulator):
    simulator.faults.replace([Rule("hang", seconds=1.5)])
    caller = make_caller(make_app(plivo_read_timeout_seconds=1.2))
    taken = caller.send(headers={"Prefer": "wait=1"})
    message = taken.get_json()
    assert (taken.status_code, message["status"]) == (202, "queued")
    unknown = eventually(lambda: (found := caller.message(message["id"]))["status"] == "unknown" and found)
    assert unknown["error"]["code"] == "outcome_unknown"
    assert unknown["attempts"] == 1


def test_without_patience_a_message_goes_on_by_itself(make_app, make_caller):
    provider = GatedProvider()
    caller = make_caller(make_app({"provider": provider}))
    taken = caller.send(headers={"Prefer": "wait=0"})
    assert (taken.status_code, taken.headers["Preference-Applied"]) == (202, "wait=0")
    assert taken.get_json()["status"] == "queued"
    provider.gate.set()
    eventually(lambda: caller.message(taken.get_json()["id"])["status"] == "sent")
    assert len(provider.calls) == 1


def test_a_plivo_that_is_down_leaves_the_message_queued(make_app, make_caller):
    provider = ScriptedProvider(Unavailable("the connection was refused", retry_after_seconds=60))
    caller = make_caller(make_app({"provider": provider}))
    taken = caller.send(headers={"Prefer": "wait=0"})
    assert taken.status_code == 202
    message_id = taken.get_json()["id"]
    eventually(lambda: caller.message(message_id)["attempts"] == 1 and caller.message(message_id)["status"] == "queued")
    assert caller.message(message_id)["error"] is None


def test_a_refusal_for_good_is_told_with_its_message(app, make_caller, simulator):
    caller = make_caller(app)
    refused = caller.send(to="+14155550003")
    problem = refused.get_json()
    assert (refused.status_code, problem["code"]) == (422, "rejected_by_provider")
    assert "Location" not in refused.headers
    message = caller.message(problem["message_id"])
    assert (message["status"], message["attempts"]) == ("failed", 1)
    assert message["error"] == {"code": "rejected_by_provider", "message": problem["detail"]}
    assert "14155550003" not in refused.text
    assert _types(caller, message["id"]) == ["message.queued", "message.failed"]
    assert simulator.store.count() == 0


def test_an_account_problem_is_told_without_plivos_words(make_app, make_caller):
    caller = make_caller(make_app({"provider": ScriptedProvider(Rejected("account", SECRET_REASON, 401, "900"))}))
    answer = caller.send()
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (502, "provider_account")
    message_id = problem["message_id"]
    shown = [answer.text, *(caller.get(f"/v1/messages/{message_id}{end}").text for end in ("", "/events"))]
    for text in shown:
        assert not [word for word in (AUTH_ID, AUTH_TOKEN, "suspended", "authentication failed") if word in text]
    message = caller.message(message_id)
    assert (message["status"], message["error"]["code"]) == ("failed", "provider_account")
    assert message["provider"]["error_code"] == "900"


def test_wrong_credentials_are_an_account_problem_on_the_wire(make_app, make_caller, simulator):
    wrong = "another-token-of-twenty-and-more"
    caller = make_caller(make_app(plivo_auth_token=wrong))
    answer = caller.send()
    assert (answer.status_code, answer.get_json()["code"]) == (502, "provider_account")
    assert wrong not in answer.text
    assert AUTH_ID not in answer.text
    assert simulator.store.count() == 0


def test_an_outcome_that_is_not_known_is_neither_sent_nor_failed(make_app, make_caller):
    caller = make_caller(make_app({"provider": ScriptedProvider(Unknown("the connection was reset"))}))
    taken = caller.send()
    message = taken.get_json()
    assert (taken.status_code, message["status"]) == (202, "unknown")
    assert message["error"]["code"] == "outcome_unknown"
    assert _types(caller, message["id"]) == ["message.queued", "message.unknown"]


def test_throttling_is_retried_while_the_caller_waits(make_app, make_caller, simulator):
    simulator.faults.replace([Rule("429", count=2, retry_after=0.1)])
    caller = make_caller(make_app())
    sent = caller.send()
    assert (sent.status_code, sent.get_json()["attempts"]) == (201, 3)
    assert simulator.store.count() == 1


def test_only_a_key_that_may_send_sends(app, make_caller, simulator):
    reader = make_caller(app, scopes=("messages:read",))
    assert reader.send().status_code == 403
    assert reader.post("/v1/messages/preview", {"to": TO, "text": "x"}).status_code == 403
    writer = make_caller(app, scopes=("messages:send",))
    message_id = writer.send().get_json()["id"]
    assert writer.get(f"/v1/messages/{message_id}").status_code == 403
    assert writer.get("/v1/messages").status_code == 403
    assert simulator.store.count() == 1

"""Reading one message and what became of it: one's own only, oldest event first."""

import re
from dataclasses import replace

from smsapi.ids import new_id
from tests.conftest import eventually
from tests.support.auth import bearer, call, token_of

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _not_found(answer):
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (404, "not_found")
    return {name: value for name, value in problem.items() if name != "request_id"}


def _another_key(owner, mode):
    body = {"name": "another", "mode": mode, "scopes": ["messages:send", "messages:read"]}
    made = owner.post("/v1/api-keys", body).get_json()
    return replace(owner, key=made["key"], key_id=made["id"])


def test_another_clients_message_is_not_found_like_none_at_all(app, make_caller):
    owner, other = make_caller(app), make_caller(app)
    theirs, nobodys = owner.send().get_json()["id"], f"msg_{new_id().hex}"
    for end in ("", "/events"):
        answers = [
            _not_found(other.get(f"/v1/messages/{shown}{end}"))
            for shown in (theirs, nobodys, "msg_x", theirs.upper(), theirs[4:], theirs.replace("msg_", "evt_"))
        ]
        assert all(answer == answers[0] for answer in answers)
    assert owner.message(theirs)["id"] == theirs
    assert other.get("/v1/messages").get_json()["data"] == []


def test_all_keys_of_a_client_see_its_messages(app, make_caller):
    owner = make_caller(app)
    reader = _another_key(owner, "live")
    message_id = owner.send().get_json()["id"]
    assert reader.message(message_id)["id"] == message_id


def test_a_test_key_reads_test_messages_only_and_a_live_key_both(app, make_caller):
    owner = make_caller(app)
    tester = _another_key(owner, "test")
    live, trial = owner.send().get_json(), tester.send().get_json()
    assert (live["test"], trial["test"]) == (False, True)
    for end in ("", "/events"):
        hidden = tester.get(f"/v1/messages/{live['id']}{end}")
        assert _not_found(hidden) == _not_found(tester.get(f"/v1/messages/msg_{new_id().hex}{end}"))
        assert tester.get(f"/v1/messages/{trial['id']}{end}").status_code == 200
        by_token = call(app, "GET", f"/v1/messages/{live['id']}{end}", bearer(token_of(tester)))
        assert _not_found(by_token) == _not_found(hidden)
        assert [owner.get(f"/v1/messages/{each['id']}{end}").status_code for each in (live, trial)] == [200, 200]
    for query in ("", "?limit=1", f"?status={live['status']}", "?to=%2B14155550123"):
        assert [each["id"] for each in tester.get(f"/v1/messages{query}").get_json()["data"]] == [trial["id"]]
        assert tester.get(f"/v1/messages{query}").get_json()["next_cursor"] is None
    assert [each["id"] for each in owner.get("/v1/messages").get_json()["data"]] == [trial["id"], live["id"]]


def test_events_are_told_oldest_first_with_their_moments(live):
    remote = live()
    message_id = remote.send(to="+14155550001").json()["id"]
    eventually(lambda: remote.message(message_id)["status"] == "delivered")
    answer = remote.request("GET", f"/v1/messages/{message_id}/events").json()
    events = answer["data"]
    assert list(answer) == ["data"]
    assert [event["type"] for event in events] == ["message.queued", "message.sent", "message.delivered"]
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    assert all(MOMENT.fullmatch(event["at"]) for event in events)
    assert [event["id"] for event in events] == sorted({event["id"] for event in events})
    assert all(event["id"].startswith("evt_") for event in events)
    assert events[1]["data"]["message_uuid"] == remote.message(message_id)["provider"]["message_uuid"]


def test_times_are_rfc_3339_in_utc(app, make_caller):
    message = make_caller(app).send().get_json()
    for name in ("created_at", "updated_at", "sent_at"):
        assert MOMENT.fullmatch(message[name])


def test_a_query_that_reading_one_message_does_not_know_is_refused(app, make_caller):
    caller = make_caller(app)
    message_id = caller.send().get_json()["id"]
    for end in ("", "/events"):
        answer = caller.get(f"/v1/messages/{message_id}{end}?expand=all")
        assert answer.status_code == 422
        assert [each["pointer"] for each in answer.get_json()["errors"]] == ["/expand"]

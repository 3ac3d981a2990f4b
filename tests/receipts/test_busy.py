"""Reports faster than they can be applied: each is stored and answered, and applied moments later."""

from uuid import uuid4

from smsapi.gathering import Crowd
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.batching import queue_batch
from tests.support.dispatching import attempts_of, run_due, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken


def test_what_comes_while_enough_are_applied_is_stored_answered_and_applied_at_once_by_a_dispatcher(
    make_app, dispatching
):
    app = make_app(
        {"provider": Scripted(taken()), "reporting": Crowd(at_most=0)},
        public_url=PUBLIC_URL,
        dispatch_sweep_seconds=600.0,
    )
    caller = new_caller(app)
    sent = [caller.send().get_json() for _ in range(30)]
    for message in sent:
        for status in ("delivered", "sent", "delivered"):
            assert report(app, message["id"], {"Status": status}, token=AUTH_TOKEN).status_code == 200
    assert {caller.message(message["id"])["status"] for message in sent} == {"sent"}
    dispatching(app)
    eventually(lambda: {caller.message(message["id"])["status"] for message in sent} == {"delivered"})
    assert report(app, sent[0]["id"], {"Status": "undelivered", "ErrorCode": "30"}, token=AUTH_TOKEN).status_code == 200
    late = caller.send().get_json()
    report(app, late["id"], {"Status": "delivered"}, token=AUTH_TOKEN)
    eventually(lambda: caller.message(late["id"])["status"] == "delivered")
    assert caller.message(sent[0]["id"])["status"] == "delivered"


def test_of_a_joined_call_too_and_plivos_id_is_learnt_and_one_id_is_of_one_number_only(make_app, dispatching):
    app = make_app(
        {"provider": Scripted(taken()), "reporting": Crowd(at_most=0)},
        public_url=PUBLIC_URL,
        dispatch_sweep_seconds=600.0,
    )
    caller, world = new_caller(app), world_of(app)
    numbers = [f"+1415556{1000 + place}" for place in range(4)]
    _, ids = queue_batch(caller, numbers)
    run_due(world)
    chunk = world.provider.asked[-1].chunk_id
    first, second = str(uuid4()), str(uuid4())
    for number, uuid in zip(numbers, (first, second, second, first), strict=True):
        report(app, f"batch/{chunk}", {"Status": "delivered", "To": number, "MessageUUID": uuid}, token=AUTH_TOKEN)
    dispatching(app)
    eventually(lambda: [caller.message(each)["status"] for each in ids] == ["delivered", "delivered", "sent", "sent"])
    named = [caller.message(each)["provider"]["message_uuid"] for each in ids]
    assert named == [first, second, None, None]
    assert [attempt.provider_uuid for each in ids for attempt in attempts_of(world, {"id": each})] == named

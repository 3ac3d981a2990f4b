"""Reports faster than they can be applied: each is stored and answered, and applied moments later."""

from threading import Semaphore

from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken


def test_what_comes_while_enough_are_applied_is_stored_answered_and_applied_at_once_by_a_dispatcher(
    make_app, dispatching
):
    app = make_app(
        {"provider": Scripted(taken()), "applying": Semaphore(0)}, public_url=PUBLIC_URL, dispatch_sweep_seconds=60.0
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

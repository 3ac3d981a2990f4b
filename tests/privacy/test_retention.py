"""Text and numbers are erased when their time is over, by the setting or the client's own, in batches."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, select

from smsapi.clock import ManualClock
from smsapi.ids import new_id
from smsapi.messages.models import messages
from smsapi.plivo.outcomes import Unavailable
from smsapi.privacy.service import erase_old
from tests.conftest import AUTH_TOKEN, eventually, new_caller
from tests.support.dispatching import ASYNC, row_of, world_of
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken

DAY = 86_400
HOUSEKEEPING = 600


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def make(make_app, clock):
    def build(*outcomes, **settings):
        provider = Scripted(*(outcomes or (taken(),)))
        app = make_app({"provider": provider, "clock": clock}, public_url=PUBLIC_URL, **settings)
        return app, new_caller(app)

    return build


def erase(app):
    return erase_old(world_of(app), lambda: False)


def keep(caller, client_id, days):
    """Have the messages of the client with this id kept for so many days."""
    return caller.request("PATCH", f"/v1/clients/{client_id}", {"retention_days": days})


def days_of(caller, client_id):
    found = {each["id"]: each for each in caller.get("/v1/clients").get_json()["data"]}
    return found[client_id]["retention_days"]


def test_settled_messages_are_erased_after_the_days_of_the_setting_and_no_sooner(make, clock):
    app, caller = make(retention_days=30)
    message = caller.send(text="Hello", reference="r").get_json()
    assert report(app, message["id"], {"Status": "delivered"}, token=AUTH_TOKEN).status_code == 200
    clock.advance(30 * DAY - 1)
    assert erase(app) == 0
    clock.advance(2)
    assert (erase(app), erase(app)) == (1, 0)
    seen = caller.message(message["id"])
    assert (seen["to"], seen["text"], seen["reference"], seen["segments"]) == ("", "", None, 1)
    event = caller.events(message["id"])[-1]
    assert (event["type"], event["data"]) == ("message.redacted", {"by": "retention"})


def test_by_default_texts_and_numbers_are_kept_for_ninety_days_and_with_nothing_set_for_ever(make, clock):
    app, caller = make()
    message = caller.send().get_json()
    clock.advance(90 * DAY - 1)
    assert erase(app) == 0
    clock.advance(2)
    assert erase(app) == 1
    assert (caller.message(message["id"])["to"], caller.message(message["id"])["text"]) == ("", "")
    app, caller = make(retention_days=0)
    caller.send()
    clock.advance(3650 * DAY)
    assert erase(app) == 0


def test_what_still_has_to_be_sent_is_kept_whatever_its_age(make, clock):
    app, caller = make(Unavailable("down", 503), retention_days=1)
    message = caller.send(headers=ASYNC).get_json()
    clock.advance(9 * DAY)
    assert erase(app) == 0
    assert caller.message(message["id"])["text"] == "Hello"


def test_a_client_may_have_its_own_time_or_none(make, clock):
    app, caller = make(retention_days=30)
    shorter, for_ever = new_caller(app, name="shorter"), new_caller(app, name="for-ever")
    assert days_of(caller, shorter.client_id) is None
    for client, days in ((shorter, 7), (for_ever, 0)):
        answer = keep(caller, client.client_id, days)
        assert (answer.status_code, answer.get_json()["retention_days"]) == (200, days)
        assert days_of(caller, client.client_id) == days
    assert days_of(caller, caller.client_id) is None
    own, short, long = (client.send().get_json() for client in (caller, shorter, for_ever))
    clock.advance(8 * DAY)
    assert erase(app) == 1
    assert (shorter.message(short["id"])["to"], caller.message(own["id"])["to"]) == ("", own["to"])
    clock.advance(30 * DAY)
    assert erase(app) == 1
    assert for_ever.message(long["id"])["to"] == long["to"]
    answer = keep(caller, for_ever.client_id, None)
    assert (answer.status_code, answer.get_json()["retention_days"]) == (200, None)
    assert erase(app) == 1


def test_what_else_of_a_client_is_changed_leaves_its_time_and_a_new_one_may_have_its_own(make):
    _, caller = make()
    made = caller.post("/v1/clients", {"name": "new", "retention_days": 36_500}).get_json()
    path = f"/v1/clients/{made['id']}"
    changed = caller.request("PATCH", path, {"weight": 2}).get_json()
    assert (made["retention_days"], changed["retention_days"]) == (36_500, 36_500)


def test_more_than_a_batch_is_erased_in_one_go(make, clock):
    app, caller = make(retention_days=1)
    like = row_of(world_of(app), caller.send().get_json())._asdict()
    rows = [like | {"id": new_id(), "to_number": f"+1415557{1000 + number}"} for number in range(1100)]
    with world_of(app).database.transaction() as connection:
        connection.execute(insert(messages), rows)
    clock.advance(2 * DAY)
    assert erase(app) == 1101
    with world_of(app).database.read() as connection:
        assert set(connection.execute(select(messages.c.to_number)).scalars()) == {""}


def test_the_dispatchers_housekeeping_erases(make, clock, dispatching):
    app, caller = make(retention_days=1)
    message = caller.send().get_json()
    clock.advance(2 * DAY)
    dispatching(app)

    def erased():
        # What another thread looks into just then is passed over, until the housekeeping ten minutes later.
        clock.advance(HOUSEKEEPING)
        return caller.message(message["id"])["text"] == ""

    eventually(erased)


@pytest.mark.parametrize("days", [-1, 36_501, 1.5, "7", True])
def test_days_that_are_none_are_422(make, days):
    _, caller = make()
    answer = keep(caller, caller.client_id, days)
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/retention_days")


def test_only_a_live_key_with_the_scope_admin_may_set_it_and_only_for_a_client_that_is(make):
    app, caller = make()
    for nobody in (f"cli_{new_id().hex}", "cli_0"):
        assert keep(caller, nobody, 1).status_code == 404
    for other in (new_caller(app, scopes=("messages:send",)), new_caller(app, mode="test")):
        assert keep(other, caller.client_id, 1).status_code == 403
    assert days_of(caller, caller.client_id) is None

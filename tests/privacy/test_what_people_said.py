"""What people texted to us, and what was noted of them, is erased by its age and by their number like all else."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from smsapi.clock import ManualClock
from smsapi.db import metadata
from smsapi.privacy.erasers import ROUTES_OF_A_MESSAGE
from smsapi.privacy.service import erase_number, erase_old
from smsapi.webhooks.relay import relay
from tests.conftest import new_caller
from tests.support.api import LANDLINE, TO
from tests.support.dispatching import world_of
from tests.support.inbound import bring, form, text_us
from tests.support.plivo_calls import PUBLIC_URL
from tests.support.providers import Scripted, taken
from tests.webhooks.conftest import pull

DAY = 86_400
SECRET = "My secret is xylophone, please stop texting me"
PICTURE = {"MediaCount": "1", "Media0": "https://media.example.com/anna.jpg", "ProfileName": "Anna"}
NOBODYS = "+14155550188"


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def make(make_app, clock):
    def build(**settings):
        replaced = {"provider": Scripted(taken()), "clock": clock}
        app = make_app(replaced, public_url=PUBLIC_URL, event_days=365, **settings)
        return app, new_caller(app)

    return build


def stored(app, *but):
    """Return the whole store as text, without these tables."""
    tables = [table for table in metadata.sorted_tables if table.name not in but]
    with world_of(app).database.read() as connection:
        return repr([connection.execute(select(table)).all() for table in tables])


def erase(app):
    return erase_old(world_of(app), lambda: False)


def test_an_inbound_text_and_its_number_go_with_their_age_and_so_does_what_was_told_of_them(make, clock):
    app, caller = make(retention_days=7)
    caller.send(TO)
    assert bring(app, form(SECRET, **PICTURE)).status_code == 200
    clock.advance(7 * DAY - 1)
    assert erase(app) == 0
    clock.advance(2)
    # The message, the text, and the two events of the text: it came, and it may be an opt-out.
    assert (erase(app), erase(app)) == (4, 0)
    (inbound,) = caller.get("/v1/inbound-messages").get_json()["data"]
    assert (inbound["from"], inbound["text"], inbound["media"], inbound["to"]) == ("", "", [], LANDLINE)
    assert not any(word in stored(app) for word in (TO, "xylophone", "anna.jpg", "Anna"))
    relay(world_of(app))
    told = {each["type"]: each["data"] for each in pull(caller) if each["type"] != "message.redacted"}
    assert told["message.received"] == inbound
    assert (told["optout.review"]["number"], told["optout.review"]["inbound_id"]) == ("", inbound["id"])


def test_what_is_younger_is_kept(make, clock):
    app, caller = make(retention_days=7)
    caller.send(TO)
    text_us(app, "an old one")
    clock.advance(6 * DAY)
    text_us(app, "a young one")
    clock.advance(2 * DAY)
    erase(app)
    assert [each["text"] for each in caller.get("/v1/inbound-messages").get_json()["data"]] == ["a young one", ""]


def test_a_clients_own_time_holds_for_what_it_was_texted_and_the_settings_for_what_is_nobodys(make, clock):
    app, caller = make(retention_days=7)
    caller.request("PATCH", f"/v1/clients/{caller.client_id}", {"retention_days": 0})
    caller.send(TO)
    text_us(app, "to the client")
    text_us(app, "to nobody", sender=NOBODYS, to="+14155550199")
    clock.advance(30 * DAY)
    assert erase(app) == 1
    assert {each["text"] for each in caller.get("/v1/inbound-messages").get_json()["data"]} == {"to the client", ""}


def test_whoever_opted_out_stays_so_with_the_proof_of_it(make, clock):
    app, caller = make(retention_days=7)
    caller.send(TO)
    text_us(app, "STOP")
    clock.advance(30 * DAY)
    erase(app)
    assert caller.send(TO).status_code == 422
    assert caller.get(f"/v1/opt-outs/{TO}/history").get_json()["data"][0]["evidence"]["text"] == "STOP"
    assert TO not in stored(app, "opt_outs", "opt_out_log")


def test_erasing_a_number_leaves_none_of_what_it_sent(make):
    app, caller = make()
    caller.send(TO)
    assert bring(app, form(SECRET, **PICTURE)).status_code == 200
    erase_number(world_of(app), TO)
    assert not any(word in stored(app) for word in (TO, "xylophone", "anna.jpg", "Anna"))


def test_erasing_a_number_leaves_nothing_of_why_it_was_opted_out_but_that_it_is(make):
    app, caller = make()
    path = f"/v1/opt-outs/{TO}"
    assert caller.request("PUT", path, {"reason": "Anna called"}).status_code == 200
    assert caller.request("DELETE", path, {"reason": "Anna wrote"}).status_code == 204
    assert caller.request("PUT", path, {"reason": "Anna called again"}).status_code == 200
    erased = erase_number(world_of(app), TO)
    assert erased.rows["opt-outs"] == 4
    assert "Anna" not in stored(app)
    assert caller.get(path).get_json()["reason"] is None
    assert len(caller.get(f"{path}/history").get_json()["data"]) == 3
    assert set(erase_number(world_of(app), TO).rows.values()) == {0}


def test_the_answers_of_every_route_of_a_message_are_known_to_whoever_forgets_it(app):
    found = {
        f"{method} {rule.rule.replace('<message_id>', '{}')}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS", "GET"}
        if rule.rule.startswith("/v1/") and "<message_id>" in rule.rule
    }
    assert found == set(ROUTES_OF_A_MESSAGE)

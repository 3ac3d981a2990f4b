"""How both stores find events, inbound texts and answers among many others: by an index."""

import re
from dataclasses import asdict
from datetime import timedelta

import pytest
from sqlalchemy import event, insert, text

from smsapi.events.models import events
from smsapi.ids import new_id
from smsapi.inbound.models import inbound_messages
from smsapi.inbound.service import Inbound
from smsapi.messages.models import messages
from smsapi.privacy.service import erase_old
from smsapi.web.idempotency import idempotency_keys
from smsapi.webhooks.relay import relay
from tests.conftest import new_caller
from tests.support.dispatching import row_of, world_of
from tests.support.examples import sized
from tests.support.providers import Scripted, taken

pytestmark = pytest.mark.both_stores

MANY = sized(1500, 4000)
PASSED_BY = re.compile(r"Seq Scan|SCAN (events|inbound_messages|idempotency_keys)\b(?! USING)")


@pytest.fixture
def app(make_app):
    return make_app({"provider": Scripted(taken())}, retention_days=30)


@pytest.fixture
def caller(app):
    return new_caller(app)


@pytest.fixture
def message(app, caller):
    """One message whose events and answer are among many others."""
    world = world_of(app)
    message = caller.post("/v1/messages", {"to": "+14155550123", "text": "Hello"}, Idempotency_Key="k").get_json()
    relay(world)
    like = row_of(world, message)._asdict()
    now, client = world.clock.now(), like["client_id"]
    ids = [new_id() for _ in range(MANY)]
    with world.database.transaction() as connection:
        connection.execute(insert(messages), [like | {"id": each} for each in ids])
        of_messages = [_event(client, now, 10 + place, message_id=each) for place, each in enumerate(ids)]
        others = [_event(client, now, 10 + MANY + place) for place in range(MANY)]
        connection.execute(insert(events), of_messages + others)
        connection.execute(insert(idempotency_keys), [_answer(client, now, each) for each in ids])
        connection.execute(insert(inbound_messages), [_inbound(client, now) for _ in range(MANY)])
        if world.database.is_postgresql:
            connection.execute(text("ANALYZE"))
    return message


def _event(client, now, seq, message_id=None):
    of_it = {"id": new_id(), "seq": seq, "message_id": message_id, "client_id": client, "test": False}
    return of_it | {"type": "message.sent", "at": now + timedelta(seconds=seq), "data": {}}


def _answer(client, now, subject):
    key = {"client_id": client, "route": "POST /v1/messages", "key": subject.hex, "body_sha256": b"x", "body": "{}"}
    return key | {"subject_id": subject, "locked_until": now, "expires_at": now + timedelta(days=1)}


def _inbound(client, now):
    numbers = {"from_number": "+14155550124", "to_number": "+14155550100"}
    none = dict.fromkeys(("message_id", "intent", "segments", "powerpack_uuid"))
    said = {"text": "Hello", "type": "sms", "media": [], "extra": {}, "received_at": now}
    return asdict(Inbound(id=new_id(), provider_uuid=new_id().hex, client_id=client, **numbers, **none, **said))


@pytest.fixture
def plans_of(app, message):
    """Run an action and return how the store finds what it reads or changes of the table."""
    database = world_of(app).database

    def run(table, action):
        seen = []

        def note(_connection, _cursor, statement, parameters, _context, _many):
            if statement.startswith((f"UPDATE {table}", "SELECT")) and f" {table} " in " ".join(statement.split()):
                seen.append((statement, parameters))

        event.listen(database.engine, "before_cursor_execute", note)
        action()
        event.remove(database.engine, "before_cursor_execute", note)
        ask = "EXPLAIN " if database.is_postgresql else "EXPLAIN QUERY PLAN "
        with database.read() as connection:
            found = [connection.exec_driver_sql(ask + read, given).all() for read, given in seen]
        return ["\n".join(str(line) for line in lines) for lines in found]

    return run


def check(plans, *indexes):
    """See that each of the indexes is used, and that nothing reads a table from end to end."""
    said = "\n\n".join(plans)
    assert all(index in said for index in indexes), said
    assert not PASSED_BY.search(said), said


def test_the_history_of_a_message(caller, message, plans_of):
    check(plans_of("events", lambda: caller.events(message["id"])), "ix_events_message_id_at_id")


def test_the_events_that_a_test_key_reads(app, caller, plans_of):
    key = caller.post("/v1/api-keys", {"name": "t", "mode": "test", "scopes": ["webhooks"]}).get_json()["key"]
    read = lambda: app.test_client().get("/v1/events", headers={"X-API-Key": key})  # noqa: E731 - asked for twice
    assert read().get_json()["data"] == []
    check(plans_of("events", read), "ix_events_test")


def test_the_events_that_have_no_number_yet(app, caller, message, plans_of):
    caller.send("+14155550199")
    check(plans_of("events", lambda: relay(world_of(app))), "ix_events_unnumbered", "ix_events_seq")


def test_the_answers_about_a_message_that_is_redacted(caller, message, plans_of):
    plans = plans_of("idempotency_keys", lambda: caller.post(f"/v1/messages/{message['id']}/redact"))
    check(plans, "ix_idempotency_keys_subject_id")


def test_what_has_grown_old_though_it_is_about_no_message(app, plans_of):
    old = lambda: erase_old(world_of(app), lambda: False)  # noqa: E731 - asked for twice
    check(plans_of("events", old), "ix_events_not_erased")
    check(plans_of("inbound_messages", old), "ix_inbound_messages_not_erased")

"""What is left of a word and a number once their time is over: nothing, in any table but what must outlive them."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import JSON, String, Text, cast, event, func, insert, or_, select, text

from smsapi.clock import ManualClock
from smsapi.db import metadata
from smsapi.events.models import events
from smsapi.ids import new_id
from smsapi.inbound.models import inbound_messages
from smsapi.messages.models import messages
from smsapi.optouts.models import opt_out_log
from smsapi.privacy.service import erase_number, erase_old
from smsapi.web.idempotency import forget_expired, idempotency_keys
from smsapi.webhooks.housekeeping import forget_old_events
from tests.conftest import AUTH_TOKEN, new_caller
from tests.support.dispatching import row_of, run_due, world_of
from tests.support.examples import sized
from tests.support.inbound import text_us
from tests.support.plivo_calls import PUBLIC_URL, report
from tests.support.providers import Scripted, taken
from tests.support.staged import tend_all

WORD, NUMBER, SENT = "xylophone", "+14155556001", "+14155550100"
# By table: why a planted number may stay there after its time. Nobody is texted again who said STOP.
MAY_KEEP_THE_NUMBER = {"opt_outs": "the suppression itself", "opt_out_log": "the proof of it"}


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def app(make_app, clock):
    return make_app({"provider": Scripted(taken()), "clock": clock}, public_url=PUBLIC_URL)


def tables_with(app, word):
    """Return every table, whichever there are, that has the word in a column of words."""
    found = set()
    with world_of(app).database.read() as connection:
        for table in metadata.sorted_tables:
            words = [cast(column, Text).contains(word) for column in table.c if isinstance(column.type, String | JSON)]
            if words and connection.execute(select(func.count()).select_from(table).where(or_(*words))).scalar_one():
                found.add(table.name)
    return found


def plant(app, clock):
    """Write the word and the number wherever a caller, Plivo or the person can."""
    caller = new_caller(app, allowed_senders=[SENT], default_sender=SENT)
    body = {"to": NUMBER, "text": f"{WORD} 1", "reference": WORD, "metadata": {"a": WORD}}
    sent = caller.post("/v1/messages", body, Idempotency_Key="planted").get_json()
    assert report(app, sent["id"], {"Status": "delivered", "To": NUMBER[1:]}, token=AUTH_TOKEN).status_code == 200
    batch = {"text": f"{WORD} {{{{name}}}}", "metadata": {"b": WORD}}
    rows = [{"to": to, "vars": {"name": WORD}} for to in (NUMBER, f"{NUMBER}999999", f"{WORD} {NUMBER}")]
    assert caller.post("/v1/batches", {**batch, "recipients": rows}, Idempotency_Key="b").status_code == 202
    tend_all(caller)
    run_due(world_of(app))
    clock.advance(5)
    tend_all(caller)  # what was sent is all of it: the batch has ended
    for said in (f"{WORD} please stop texting me", "STOP"):
        text_us(app, said, sender=NUMBER, to=SENT)
    path = f"/v1/opt-outs/{NUMBER}"
    assert caller.request("PUT", path, {"reason": WORD}).status_code == 200
    return caller


def test_after_its_time_nothing_is_left_of_a_word_and_of_a_number_but_that_it_opted_out(app, clock):
    caller = plant(app, clock)
    world = world_of(app)
    planted = tables_with(app, WORD)
    assert {"messages", "inbound_messages", "events", "batches", "batch_rejects", "opt_outs", "opt_out_log"} <= planted
    assert "idempotency_keys" in planted
    clock.advance(91 * 86_400)
    for message in caller.get("/v1/messages").get_json()["data"]:
        assert message["status"] in {"sent", "delivered", "failed"}
    erase_old(world, lambda: False)
    forget_old_events(world, lambda: False)
    with world.database.transaction() as connection:
        forget_expired(connection, clock.now())
    assert tables_with(app, WORD) == set()
    assert tables_with(app, NUMBER[1:]) <= set(MAY_KEEP_THE_NUMBER)
    assert caller.get(f"/v1/opt-outs/{NUMBER}").status_code == 200
    assert caller.send(to=NUMBER).status_code == 422
    assert erase_old(world, lambda: False) == 0


def bury(app, caller, message, count):
    """Give the number a long history: texts to it, texts from it, events, proofs, and answers about others."""
    world = world_of(app)
    like = row_of(world, message)._asdict()
    now, client = world.clock.now(), like["client_id"]
    own = {"client_id": client, "test": False}
    with world.database.transaction() as connection:
        connection.execute(insert(messages), [like | {"id": new_id(), "provider_uuid": None} for _ in range(count)])
        told = {"type": "message.received", "at": now, "data": {"from": NUMBER, "text": WORD}, "message_id": None}
        connection.execute(insert(events), [own | told | {"id": new_id()} for _ in range(count)])
        line = {"number": NUMBER, "sender": SENT, "action": "repeated", "source": "keyword", "at": now}
        proof = {**own, **line, "evidence": {"text": WORD}}
        connection.execute(insert(opt_out_log), [proof | {"id": new_id()} for _ in range(count)])
        inbound = {"message_id": None, "from_number": NUMBER, "to_number": SENT, "text": WORD, "type": "sms"}
        inbound |= {"client_id": client, "media": [], "extra": {}, "received_at": now}
        rows = [inbound | {"id": new_id(), "provider_uuid": new_id().hex} for _ in range(count)]
        connection.execute(insert(inbound_messages), rows)
        key = {"client_id": client, "route": "POST /v1/x", "body_sha256": b"x", "body": f'{{"to": "{NUMBER}"}}'}
        key |= {"locked_until": now, "expires_at": now + timedelta(days=1), "subject_id": None}
        connection.execute(insert(idempotency_keys), [key | {"key": new_id().hex} for _ in range(count)])
        connection.execute(text("ANALYZE"))


def observed(app, act):
    """Return the statements of an action, each with how many rows it changed or gave."""
    database, seen = world_of(app).database, []

    def note(_connection, cursor, statement, parameters, _context, many):
        seen.append((statement, parameters, 0 if many else cursor.rowcount))

    event.listen(database.engine, "after_cursor_execute", note)
    act()
    event.remove(database.engine, "after_cursor_execute", note)
    return seen


LARGE = ("messages", "events", "opt_out_log", "inbound_messages", "idempotency_keys")


def test_a_number_with_a_long_history_is_erased_in_parts_of_which_none_looks_through_everything(app, clock):
    caller = new_caller(app)
    message = caller.send(to=NUMBER, text=WORD).get_json()
    count = sized(2_100, 100_000)
    bury(app, caller, message, count)
    seen = observed(app, lambda: erase_number(world_of(app), NUMBER))
    assert tables_with(app, WORD) == set()
    assert tables_with(app, NUMBER[1:]) <= {"opt_out_log"}
    assert max(rows for _, _, rows in seen) <= 2_000
    _check_plans(app, seen)


def test_a_stop_reads_the_history_of_its_number_once_or_twice_and_in_parts(app, clock):
    caller = new_caller(app, allowed_senders=[SENT], default_sender=SENT)
    message = caller.send(to=NUMBER, text=WORD).get_json()
    bury(app, caller, message, sized(2_100, 100_000))
    seen = observed(app, lambda: text_us(app, "STOP", sender=NUMBER, to=SENT))
    read = [each for each in seen if "FROM messages" in each[0] and "to_number =" in each[0]]
    with world_of(app).database.read() as connection:
        total = connection.execute(select(func.count()).select_from(messages)).scalar_one()
    assert len(read) <= 3 * (total // 2_000 + 1) + 3
    _check_plans(app, seen)


def _check_plans(app, seen):
    database = world_of(app).database
    ask = "EXPLAIN " if database.is_postgresql else "EXPLAIN QUERY PLAN "
    with database.transaction() as connection:
        if database.is_postgresql:
            # Of a table that is small here it would read all: what is asked is whether there is an index to go by.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, given, _ in {each[0]: each for each in seen}.values():
            # By keys that are named: of a table as small as this SQLite may read all of it for 500 of its rows.
            if " IN (" in statement:
                continue
            if not statement.startswith(("SELECT", "UPDATE")) or not any(f" {name}" in statement for name in LARGE):
                continue
            plan = "\n".join(str(row) for row in connection.exec_driver_sql(ask + statement, given))
            for name in LARGE:
                assert f"Seq Scan on {name}" not in plan, (statement, plan)
                assert f"SCAN {name}'" not in plan, (statement, plan)

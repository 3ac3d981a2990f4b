"""How PostgreSQL finds what a filter asks for, among many messages that it does not."""

from uuid import UUID

import pytest
from sqlalchemy import event, insert, select, text

from smsapi.ids import new_id
from smsapi.messages.models import messages
from tests.support.auth import world

MANY = 5000


@pytest.fixture
def database_url(postgres_url):
    """SQLite plans otherwise, and is for few messages."""
    return postgres_url


@pytest.fixture
def read_plans(app):
    """Run an action and return PostgreSQL's plans for what it read from the messages."""
    database, seen = world(app).database, []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        if "FROM messages" in statement:
            seen.append((statement, parameters))

    def run(action):
        seen.clear()
        event.listen(database.engine, "before_cursor_execute", note)
        action()
        event.remove(database.engine, "before_cursor_execute", note)
        with database.read() as connection:
            plans = [connection.exec_driver_sql(f"EXPLAIN {read}", given).scalars().all() for read, given in seen]
        return ["\n".join(lines) for lines in plans]

    return run


def _bury(app, message_id):
    """Store many messages like this one, sent after it."""
    database = world(app).database
    with database.transaction() as connection:
        same = select(messages).where(messages.c.id == UUID(hex=message_id.removeprefix("msg_")))
        row = dict(connection.execute(same).one()._mapping)
        connection.execute(insert(messages), [{**row, "id": new_id(), "status": "delivered"} for _ in range(MANY)])
        connection.execute(text("ANALYZE messages"))


def test_a_rare_status_is_found_without_a_walk_through_all_messages_of_the_client(app, make_caller, read_plans):
    caller = make_caller(app)
    rare = caller.send().get_json()
    _bury(app, rare["id"])
    found = []
    path = f"/v1/messages?status={rare['status']}"
    (plan,) = read_plans(lambda: found.extend(caller.get(path).get_json()["data"]))
    assert [each["id"] for each in found] == [rare["id"]]
    assert "ix_messages_client_id_status_id" in plan, plan
    assert "Seq Scan" not in plan


def test_a_rare_sender_is_found_without_a_walk_through_all_messages_of_the_client(app, make_caller, read_plans):
    caller = make_caller(app, default_sender="12345", allowed_senders=["12345", "67890"])
    rare = caller.send().get_json()
    _bury(app, caller.send(**{"from": "67890"}).get_json()["id"])
    found = []
    (plan,) = read_plans(lambda: found.extend(caller.get("/v1/messages?from=12345").get_json()["data"]))
    assert [each["id"] for each in found] == [rare["id"]]
    assert "ix_messages_client_id_sender_id" in plan, plan
    assert "Seq Scan" not in plan

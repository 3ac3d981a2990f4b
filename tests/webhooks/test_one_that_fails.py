"""An endpoint that cannot be handled keeps no other, and no reader of the events, from what it is to be told."""

from uuid import UUID

from sqlalchemy import event, update

from smsapi.webhooks.models import webhook_endpoints
from smsapi.webhooks.postman import Postman, deliver_due
from tests.conftest import eventually, new_caller
from tests.support.dispatching import world_of
from tests.webhooks.conftest import endpoint_of, pull


def row_id(endpoint):
    return UUID(hex=endpoint["id"].removeprefix("whe_"))


def test_an_endpoint_whose_filters_cannot_be_read_is_passed_over(telling, receiver):
    app = telling()
    world, strange, plain = world_of(app), new_caller(app), new_caller(app)
    broken = endpoint_of(strange, receiver)
    endpoint_of(plain, receiver)
    with world.database.transaction() as connection:
        connection.execute(
            update(webhook_endpoints)
            .where(webhook_endpoints.c.id == row_id(broken))
            .values(events=[{"of": "newer"}, 7])
        )
    several = [caller.send().get_json() for caller in (strange, plain)]
    assert deliver_due(world) == 2
    assert {each.event["data"]["message_id"] for each in receiver.taken} == {several[1]["id"]}
    # It has missed what it can recover; the events themselves are all there.
    assert len(pull(strange)) == len(pull(plain)) == 2


def test_an_endpoint_for_which_nothing_can_be_claimed_keeps_no_other(telling, receiver):
    app = telling(webhook_threads=4)
    world, callers = world_of(app), [new_caller(app) for _ in range(3)]
    broken, *_ = [row_id(endpoint_of(caller, receiver)) for caller in callers]
    several = [caller.send().get_json() for caller in callers]

    @event.listens_for(world.database.engine, "before_cursor_execute")
    def fail(_connection, _cursor, statement, parameters, *_rest):
        given = parameters.values() if isinstance(parameters, dict) else parameters
        if statement.startswith("SELECT count(*)") and {str(broken), broken.hex} & {str(each) for each in given}:
            raise RuntimeError("a bug of ours")

    postman = Postman(world)
    postman.start()
    try:
        eventually(lambda: len(receiver.taken) == 4, seconds=30)
    finally:
        postman.stop()
    assert {each.event["data"]["message_id"] for each in receiver.taken} == {each["id"] for each in several[1:]}

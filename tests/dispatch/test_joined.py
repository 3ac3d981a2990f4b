"""Calls to Plivo that many messages of a batch share, on both stores: who goes together, and what becomes of each."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import event, insert, update

from smsapi.dispatch.claims import claim_to_send
from smsapi.dispatch.desk import Desk
from smsapi.ids import new_id, read_id
from smsapi.messages.flows import find_work
from smsapi.messages.models import messages
from smsapi.plivo.outcomes import (
    Outgoing,
    OutgoingToMany,
)
from smsapi.send.deliver import run
from tests.conftest import new_caller
from tests.support.api import LANDLINE
from tests.support.batching import call_off, chunks_of, numbers, queue_batch, rows_of, statuses_of, types_of
from tests.support.dispatching import ASYNC, run_due, world_of
from tests.support.providers import Scripted, taken


def test_a_batch_goes_out_in_calls_of_its_chunk_size_each_number_once(scripted):
    world, caller, provider = scripted()
    batch, ids = queue_batch(caller, numbers(25), joined=10)
    run_due(world)
    assert [len(call.numbers) for call in provider.asked] == [10, 10, 5]
    assert [number for call in provider.asked for number in call.numbers] == numbers(25)
    assert {(call.sender, call.text) for call in provider.asked} == {(LANDLINE, "Hello")}
    assert statuses_of(world, batch) == {"sent": 25}
    chunks = chunks_of(world, batch)
    assert sorted(len(rows) for rows in chunks.values()) == [5, 10, 10]
    assert {(row.number, row.outcome) for rows in chunks.values() for row in rows} == {(1, "accepted")}
    assert types_of(caller, ids[0]) == ["queued", "sent"]
    seen = caller.message(ids[24])
    assert (seen["status"], seen["provider"]["name"], seen["provider"]["message_uuid"]) == ("sent", "plivo", None)
    assert run_due(world) == 0


def test_one_that_is_left_goes_alone_and_so_does_what_may_not_be_joined(scripted):
    world, caller, provider = scripted()
    queue_batch(caller, numbers(3), joined=2)
    queue_batch(caller, numbers(2, 2000), joined=None)
    queue_batch(caller, numbers(2, 3000), joined=1)
    run_due(world)
    together = [call.numbers for call in provider.asked if isinstance(call, OutgoingToMany)]
    alone = [call.to for call in provider.asked if isinstance(call, Outgoing)]
    assert together == [tuple(numbers(2))]
    assert sorted(alone) == sorted([numbers(3)[2], *numbers(2, 2000), *numbers(2, 3000)])


def test_the_operators_chunk_size_bounds_what_was_accepted_with_a_larger_one(scripted):
    world, caller, provider = scripted(batch_chunk_size=3)
    queue_batch(caller, numbers(6), joined=200)
    run_due(world)
    assert [len(call.numbers) for call in provider.asked] == [3, 3]


def test_only_one_batch_and_one_text_goes_together(scripted):
    world, caller, provider = scripted()
    texts = ["Hi A", "Hi B"] * 4
    queue_batch(caller, numbers(8), texts=texts)
    queue_batch(caller, numbers(8, 2000), texts=texts)
    run_due(world)
    assert len(provider.asked) == 4
    wanted = {
        (text, tuple(all_of[place::2]))
        for all_of in (numbers(8), numbers(8, 2000))
        for place, text in enumerate(("Hi A", "Hi B"))
    }
    assert {(call.text, call.numbers) for call in provider.asked} == wanted


def test_what_plivo_is_told_beside_the_text_is_the_same_for_all_in_a_call(scripted, clock):
    world, caller, provider = scripted()
    _, ids = queue_batch(caller, numbers(6))
    odd = {"dlt": {"entity_id": "1", "template_id": "2", "template_category": "transactional"}}
    with world.database.transaction() as connection:
        connection.execute(update(messages).where(messages.c.id == read_id("msg", ids[2])).values(**odd))
    run_due(world)
    assert [len(getattr(call, "numbers", "1")) for call in provider.asked] == [5, 1]
    assert provider.asked[1].dlt.entity_id == "1"


def test_a_number_that_is_there_twice_is_never_twice_in_a_call(scripted):
    world, caller, provider = scripted()
    _, ids = queue_batch(caller, numbers(5))
    with world.database.transaction() as connection:
        same = update(messages).where(messages.c.id == read_id("msg", ids[3])).values(to_number=numbers(5)[1])
        connection.execute(same)
    run_due(world)
    assert len(provider.asked[0].numbers) == len(set(provider.asked[0].numbers)) == 4
    assert provider.asked[1].to == numbers(5)[1]


def test_the_text_of_a_test_key_is_never_in_a_joined_call(make_app, clock):
    provider = Scripted(taken())
    app = make_app({"provider": provider, "clock": clock})
    caller = new_caller(app, mode="test")
    batch, _ = queue_batch(caller, numbers(4), test=True)
    run_due(world_of(app))
    assert provider.asked == []
    assert statuses_of(world_of(app), batch) == {"sent": 4}


def test_opted_out_ones_are_left_out_and_told_so(scripted):
    world, caller, provider = scripted()
    batch, ids = queue_batch(caller, numbers(5))
    for number in (numbers(5)[0], numbers(5)[3]):
        assert caller.request("PUT", f"/v1/opt-outs/{number}", {}).status_code in {200, 201}
    run_due(world)
    assert [call.numbers for call in provider.asked] == [tuple(numbers(5)[place] for place in (1, 2, 4))]
    assert statuses_of(world, batch) == {"sent": 3, "failed": 2}
    assert caller.message(ids[3])["error"]["code"] == "recipient_opted_out"
    assert types_of(caller, ids[3]) == ["queued", "failed"]


def test_expired_ones_are_concluded_and_not_sent(scripted, clock):
    world, caller, provider = scripted()
    expires_at = clock.now().replace(microsecond=0)
    batch, ids = queue_batch(caller, numbers(4), expires_at=expires_at)
    while run_due(world):
        pass
    assert provider.asked == []
    assert statuses_of(world, batch) == {"expired": 4}
    assert types_of(caller, ids[0]) == ["queued", "expired"]


def test_what_waits_of_a_canceled_batch_is_canceled_by_whoever_claims_it(scripted):
    def cancel_meanwhile(_):
        call_off(world, batch)

    world, caller, provider = scripted(before=cancel_meanwhile)
    batch, ids = queue_batch(caller, numbers(6), joined=4)
    (first,) = _begin(world, limit=1)
    _run(world, first)
    assert statuses_of(world, batch) == {"sent": 4, "queued": 2}
    run_due(world)
    assert len(provider.asked) == 1
    assert statuses_of(world, batch) == {"sent": 4, "canceled": 2}
    assert types_of(caller, ids[5]) == ["queued", "canceled"]
    assert caller.events(ids[5])[-1]["data"] == {"by": "batch", "batch_id": batch}


def test_the_others_of_a_canceled_batch_go_on_and_so_do_other_batches(scripted):
    world, caller, provider = scripted()
    canceled, _ = queue_batch(caller, numbers(3))
    other, _ = queue_batch(caller, numbers(3, 2000))
    call_off(world, canceled)
    run_due(world)
    assert [call.numbers for call in provider.asked] == [tuple(numbers(3, 2000))]
    assert (statuses_of(world, canceled), statuses_of(world, other)) == ({"canceled": 3}, {"sent": 3})


def test_two_dispatchers_at_once_never_take_the_same_message_and_none_is_left(scripted):
    world, caller, provider = scripted()
    batch, _ = queue_batch(caller, numbers(300), joined=7)
    together = Barrier(4)

    def work(_):
        together.wait()
        while begun := _begin(world, limit=2):
            for each in begun:
                _run(world, each)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    called = [number for call in provider.asked for number in getattr(call, "numbers", [getattr(call, "to", None)])]
    assert sorted(called) == numbers(300)
    assert statuses_of(world, batch) == {"sent": 300}


def test_a_chunk_is_no_larger_than_what_the_paces_let_pass_in_a_second(scripted, clock):
    world, caller, provider = scripted(pace_account=12.0, pace_long_code=5.0)
    queue_batch(caller, numbers(12))
    run_due(world)
    assert [len(call.numbers) for call in provider.asked] == [5]
    assert run_due(world) == 0
    # A tenth of a second that nobody used is made up for.
    clock.advance(0.85)
    assert run_due(world) == 0
    clock.advance(0.1)
    run_due(world)
    assert [len(call.numbers) for call in provider.asked] == [5, 5]


def test_a_code_of_another_client_goes_within_a_second_beside_a_running_batch(scripted, clock):
    world, caller, provider = scripted(pace_account=5.0)
    queue_batch(caller, numbers(200))
    desk = Desk(world, threads=3)
    begun = desk.next()
    run(world, begun, wait_until=clock.now())
    desk.done(begun)
    new_caller(caller.app).send(to="+14155559999", category="otp", headers=ASYNC)
    desk.expect_news()
    clock.advance(1)
    run(world, desk.next(), wait_until=clock.now())
    assert [getattr(call, "to", None) for call in provider.asked] == [None, "+14155559999"]
    # The call for five counts as five texts do.
    assert len(provider.asked[0].numbers) == 5


def test_the_turns_of_the_clients_count_each_text_of_a_joined_call(scripted):
    world, caller, provider = scripted()
    queue_batch(caller, numbers(60), joined=20)
    other = new_caller(caller.app)
    for number in numbers(20, 3000):
        other.send(to=number, category="marketing", headers=ASYNC)
    # Two threads, of which one is kept for codes.
    desk = Desk(world, threads=2)
    for _ in range(22):
        begun = desk.next()
        run(world, begun, wait_until=world.clock.now())
        desk.done(begun)
    # After twenty of the one, twenty of the other, whoever is first.
    sizes = [len(getattr(call, "numbers", "1")) for call in provider.asked]
    assert sorted(sizes) == [*[1] * 20, 20, 20]
    assert sizes[-1] == 20


def test_a_pace_of_less_than_one_a_second_sends_them_one_by_one(scripted, clock):
    world, caller, provider = scripted(pace_long_code=0.5)
    queue_batch(caller, numbers(3))
    run_due(world)
    clock.advance(2)
    run_due(world)
    assert [call.to for call in provider.asked] == numbers(3)[:2]


def test_a_call_for_many_takes_few_statements_and_one_for_a_single_message_no_more_than_before(scripted):
    world, caller, _ = scripted()
    queue_batch(caller, numbers(2))
    few = len(_asked(world, lambda: run_due(world)))
    queue_batch(caller, numbers(200, 2000))
    many = len(_asked(world, lambda: run_due(world)))
    assert many == few
    single = new_caller(caller.app)
    single.send(headers=ASYNC)
    asked = _asked(world, lambda: run_due(world))
    assert not [statement for statement, _ in asked if "batches" in statement or "chunk_id =" in statement]


def test_company_is_looked_for_along_a_bounded_stretch_of_the_flow_and_no_further(scripted):
    world, caller, _ = scripted()
    batch, _ = queue_batch(caller, numbers(300), joined=5)
    # Among far more that are done with; and as the store knows, which PostgreSQL's choice hangs on.
    like = next(iter(rows_of(world, batch).values()))._asdict()
    done = {"status": "delivered", "due_at": None}
    with world.database.transaction() as connection:
        connection.execute(insert(messages), [like | done | {"id": new_id()} for _ in range(5000)])
        connection.exec_driver_sql("ANALYZE")
    (statement, given) = next(
        each
        for each in _asked(world, lambda: _begin(world, limit=1))
        if "AS anon_1" in each[0] and "joined = " in each[0]
    )
    explain = "EXPLAIN " if world.database.is_postgresql else "EXPLAIN QUERY PLAN "
    with world.database.read() as connection:
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(explain + statement, given))
    # Once, for the stretch; each of it is then found by its id.
    assert plan.count("ix_messages_waiting") == 1, plan
    assert "SCAN messages" not in plan, plan
    assert "Seq Scan on messages" not in plan, plan


def _asked(world, act):
    asked = []

    def note(_connection, _cursor, statement, given, *_others):
        asked.append((statement, given))

    event.listen(world.database.engine, "before_cursor_execute", note)
    act()
    event.remove(world.database.engine, "before_cursor_execute", note)
    return asked


def _begin(world, *, limit):
    """Begin what one look at the first flow, whose turn it is, begins."""
    now = world.clock.now()
    with world.database.transaction() as connection:
        for flow in sorted(find_work(connection, now).flows, key=lambda flow: flow.lane):
            return claim_to_send(world, connection, flow, now, limit=limit).begun
    return []


def _run(world, begun):
    return run(world, begun, wait_until=world.clock.now())

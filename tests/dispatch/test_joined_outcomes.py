"""What becomes of each message of a joined call, whatever comes of the call, on both stores."""

import pytest

from smsapi.plivo.outcomes import AcceptedTogether, Rejected, Unavailable, Unknown
from smsapi.send.deliver import run
from smsapi.send.joined import settle_joined
from tests.conftest import new_caller
from tests.support.batching import chunks_of, numbers, queue_batch, rows_of, statuses_of, types_of
from tests.support.dispatching import claim, run_due, world_of
from tests.support.providers import Died, Scripted, taken

UUIDS = tuple(f"5b40a428-bfc7-4daf-9d06-72600000000{place}" for place in range(4))


def test_numbers_that_plivo_calls_invalid_fail_and_the_others_are_sent(scripted):
    bad = numbers(5)[2]
    world, caller, _ = scripted(AcceptedTogether(UUIDS, (bad,)))
    batch, ids = queue_batch(caller, numbers(5))
    run_due(world)
    assert statuses_of(world, batch) == {"sent": 4, "failed": 1}
    seen = caller.message(ids[2])
    assert (seen["status"], seen["error"]["code"], seen["provider"]["name"]) == (
        "failed",
        "rejected_by_provider",
        "plivo",
    )
    assert types_of(caller, ids[2]) == ["queued", "failed"]
    (rows,) = chunks_of(world, batch).values()
    assert {row.to_number: row.outcome for row in rows}[bad] == "rejected"
    assert run_due(world) == 0


@pytest.mark.parametrize("kind", ["message", "account"])
def test_a_refused_call_is_taken_apart_until_the_one_that_is_the_reason_stands_alone(scripted, kind):
    def refuse(message):
        bad = numbers(120)[77] in getattr(message, "numbers", [getattr(message, "to", "")])
        provider._outcomes = [Rejected(kind, "not that one", 403 if kind == "account" else 400)] if bad else [taken()]

    world, caller, provider = scripted(before=refuse)
    batch, ids = queue_batch(caller, numbers(120), joined=150)
    while run_due(world):
        pass
    assert statuses_of(world, batch) == {"sent": 119, "failed": 1}
    code = "provider_account" if kind == "account" else "rejected_by_provider"
    assert caller.message(ids[77])["error"]["code"] == code
    # 120 together, ten calls of twelve, then one by one those that were with it.
    sizes = [len(getattr(call, "numbers", "1")) for call in provider.asked]
    assert sizes[:2] == [120, 12]
    assert len(sizes) == 1 + 10 + 12
    assert caller.events(ids[0])[1]["data"] == {"reason": "refused_together", "recipients": 120}
    assert types_of(caller, ids[0]) == ["queued", "queued", "sent"]


def test_a_small_call_that_is_refused_is_taken_apart_at_once_however_many_might_have_shared_it(scripted):
    world, caller, provider = scripted(Rejected("message", "no", 400), taken())
    batch, _ = queue_batch(caller, numbers(5), joined=200)
    while run_due(world):
        pass
    assert [len(getattr(call, "numbers", "1")) for call in provider.asked] == [5, 1, 1, 1, 1, 1]
    assert statuses_of(world, batch) == {"sent": 5}


def test_no_time_of_its_horizon_is_used_up_by_a_refusal_of_others(scripted, clock):
    world, caller, _ = scripted(Rejected("message", "no", 400), taken(), retry_horizon_seconds=0)
    batch, _ = queue_batch(caller, numbers(4))
    run_due(world)
    clock.advance(3600)
    while run_due(world):
        pass
    assert statuses_of(world, batch) == {"sent": 4}


def test_an_account_without_credit_keeps_them_waiting_and_fails_none(scripted, clock):
    broke = Rejected("account", "Insufficient Credit", 400, "900")
    world, caller, _ = scripted(broke, broke, taken(), account_probe_seconds=10)
    batch, ids = queue_batch(caller, numbers(20), joined=20)
    assert run_due(world) == 1
    assert statuses_of(world, batch) == {"queued": 20}
    assert caller.events(ids[3])[-1]["data"] == {"reason": "account_paused", "trouble": "credit"}
    assert run_due(world) == 0  # the account is closed
    for _ in range(40):
        clock.advance(11)
        run_due(world)
    assert statuses_of(world, batch) == {"sent": 20}


def test_where_nothing_was_sent_all_go_back_together_and_later(scripted, clock):
    world, caller, provider = scripted(Unavailable("throttled", 429, retry_after_seconds=7), taken())
    batch, ids = queue_batch(caller, numbers(6))
    run_due(world)
    assert statuses_of(world, batch) == {"queued": 6}
    clock.advance(6)
    assert run_due(world) == 0
    clock.advance(40)
    run_due(world)
    assert [call.numbers for call in provider.asked] == [tuple(numbers(6))] * 2
    assert provider.asked[0].chunk_id != provider.asked[1].chunk_id
    assert statuses_of(world, batch) == {"sent": 6}
    assert types_of(caller, ids[0]) == ["queued", "sent"]
    assert caller.message(ids[0])["attempts"] == 2


def test_beyond_the_horizon_those_that_could_not_be_sent_are_given_up(scripted, clock):
    world, caller, _ = scripted(Unavailable("throttled", 429, retry_after_seconds=7), retry_horizon_seconds=5)
    batch, ids = queue_batch(caller, numbers(3))
    run_due(world)
    assert statuses_of(world, batch) == {"failed": 3}
    assert caller.message(ids[0])["error"]["code"] == "provider_unavailable"


def test_an_outcome_that_is_not_known_is_that_of_each_and_each_is_treated_as_it_asks(scripted, clock):
    for on_unknown, status in (("reconcile", "unknown"), ("hold", "unknown"), ("resend", "queued")):
        world, caller, provider = scripted(Unknown("no answer"))
        batch, ids = queue_batch(caller, numbers(3), on_unknown=on_unknown)
        run_due(world)
        assert statuses_of(world, batch) == {status: 3}, on_unknown
        assert len(provider.asked) == 1
        due = {row.due_at for row in rows_of(world, batch).values()}
        assert (due == {None}) == (on_unknown == "hold")
        told = caller.events(ids[1])[-1]
        assert (told["type"], told["data"]["reason"]) == (f"message.{status}", "no answer")


def test_a_lost_lease_leaves_each_in_doubt_and_what_is_then_learnt_is_believed(scripted, clock):
    def lose(_):
        clock.advance(31)
        assert run_due(world) == 5

    world, caller, provider = scripted(before=lose)
    batch, ids = queue_batch(caller, numbers(5))
    (begun,) = claim(world)
    run(world, begun, wait_until=clock.now())
    assert statuses_of(world, batch) == {"sent": 5}
    assert types_of(caller, ids[2]) == ["queued", "unknown", "sent"]
    clock.advance(100)
    provider._before = lambda _: None
    run_due(world)
    assert len(provider.asked) == 1


def test_those_whose_sender_died_in_the_call_are_looked_for_and_sent_again_once(scripted, clock):
    def die(_):
        raise Died

    world, caller, provider = scripted(before=die)
    batch, _ = queue_batch(caller, numbers(30))
    with pytest.raises(Died):
        run_due(world)
    assert statuses_of(world, batch) == {"sending": 30}
    provider._before = lambda _: None
    clock.advance(31)
    assert run_due(world) == 30
    assert statuses_of(world, batch) == {"unknown": 30}
    clock.advance(61)
    assert run_due(world) == 30
    # One question for all of them.
    assert len(provider.queries) == 1
    run_due(world)
    assert statuses_of(world, batch) == {"sent": 30}
    assert len(provider.asked) == 2


def test_a_sender_that_stood_still_before_the_call_does_not_make_it(make_app, clock):
    def stand_still(name):
        if name == "joined.before" and not stood:
            stood.append(name)
            clock.advance(31)
            run_due(world)

    provider, stood = Scripted(taken()), []
    app = make_app({"clock": clock, "provider": provider, "checkpoint": stand_still}, lease_seconds=30)
    world, caller = world_of(app), new_caller(app)
    batch, _ = queue_batch(caller, numbers(3))
    run_due(world)
    assert provider.asked == []
    assert statuses_of(world, batch) == {"queued": 3}
    clock.advance(40)
    run_due(world)
    assert statuses_of(world, batch) == {"sent": 3}
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    "outcome",
    [
        AcceptedTogether((UUIDS[0], UUIDS[1]), (numbers(3)[2],)),
        Rejected("message", "no", 400),
        Rejected("account", "no", 401),
        Unavailable("throttled", 429),
        Unknown("no answer"),
    ],
    ids=lambda outcome: getattr(outcome, "reason", "taken"),
)
def test_written_down_twice_an_outcome_changes_nothing_more(scripted, clock, outcome):
    def stands():
        rows = [row._asdict() | {"updated_at": None} for row in rows_of(world, batch).values()]
        return rows, [caller.events(each) for each in ids], chunks_of(world, batch)

    world, caller, _ = scripted()
    batch, ids = queue_batch(caller, numbers(3))
    (begun,) = claim(world)
    settle_joined(world, begun, begun.chunk_id, outcome)
    first = stands()
    clock.advance(1)
    # As after a commit of which only the acknowledgement was lost.
    settle_joined(world, begun, begun.chunk_id, outcome)
    assert stands() == first
    assert [row["status"] for row in first[0]] != ["sending"] * 3

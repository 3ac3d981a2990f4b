"""Whose turn it is: shares that hold over any run, nobody starved, nothing saved up, and codes before all."""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smsapi.dispatch.turns import LANE_SHARES, Turns
from smsapi.messages.flows import Flow
from smsapi.messages.lanes import MARKETING, OTP, TEST, TRANSACTIONAL
from tests.support.examples import many

NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (UUID(int=number) for number in (1, 2, 3))
LANES = (OTP, TRANSACTIONAL, MARKETING)
few = settings(max_examples=many(15))


def flow(lane, client=A, *, weight=1, sender="+14155550100", due_at=NOW):
    return Flow(lane, client, sender, due_at, weight)


def serve(turns, flows, segments=1):
    """Give the flow whose turn it is so much, and return it."""
    chosen = turns.choose(flows)
    turns.count(chosen, segments)
    return chosen


def run(turns, flows, times, segments=lambda: 1):
    """Return what each flow was given in so many turns."""
    given = Counter()
    for _ in range(times):
        size = segments()
        given[serve(turns, flows, size)] += size
    return given


def test_nobody_is_next_where_nobody_waits():
    assert Turns().choose([]) is None


def test_lanes_that_all_wait_get_their_shares_to_the_segment():
    flows = [flow(lane) for lane in LANES]
    given = run(Turns(), flows, 1110)
    assert [given[each] for each in flows] == pytest.approx([1000, 100, 10], abs=1)


def test_a_lane_that_is_empty_leaves_its_share_to_the_others():
    flows = [flow(TRANSACTIONAL), flow(MARKETING)]
    given = run(Turns(), flows, 110)
    assert [given[each] for each in flows] == pytest.approx([100, 10], abs=1)


@few
@given(st.lists(st.integers(1, 100), min_size=2, max_size=6), st.integers(0, 2**32), st.integers(1, 11))
def test_clients_of_a_lane_get_shares_by_weight_to_within_one_message(weights, seed, longest):
    chance, turns = Random(seed), Turns()
    flows = [flow(TRANSACTIONAL, UUID(int=place), weight=weight) for place, weight in enumerate(weights)]
    given = run(turns, flows, 400, lambda: chance.randint(1, longest))
    ahead = {each: given[each] / each.weight for each in flows}
    for each in flows:
        for other in flows:
            # Nobody is further ahead of another than by the one message that it was given last.
            assert ahead[each] - ahead[other] <= longest / each.weight + 1e-6


@few
@given(st.integers(0, 2**32))
def test_shares_hold_for_lanes_that_come_and_go_as_gates_close_and_open(seed):
    """Bulk and transactional texts stand at a gate now and then, together, while codes pass it."""
    chance, turns = Random(seed), Turns()
    code, others = flow(OTP), [flow(TRANSACTIONAL), flow(MARKETING)]
    given, kept_out = Counter(), 0
    while sum(given.values()) < 330:
        if chance.random() < 0.4:
            serve(turns, [code])
            kept_out += 1
        else:
            given[serve(turns, others)] += 1
    assert kept_out > 20
    assert [given[each] for each in others] == pytest.approx([300, 30], abs=2)


@few
@given(st.sets(st.tuples(st.sampled_from(LANES), st.integers(0, 2)), min_size=1), st.integers(1, 3))
def test_nobody_starves(waiting, weight):
    flows = [flow(lane, UUID(int=client), weight=1 + client * weight) for lane, client in waiting]
    turns = Turns()
    for _ in range(2):
        assert run(turns, flows, turns_until_all_had_one(flows)).keys() == set(flows)


def turns_until_all_had_one(flows):
    """Return how many turns of one segment it takes at most until each had one, by its share of its lane's share."""
    lanes = sum(LANE_SHARES[lane] for lane in {each.lane for each in flows})
    weights = Counter()
    for each in flows:
        weights[each.lane] += each.weight
    slowest = max(lanes / LANE_SHARES[each.lane] * (weights[each.lane] / each.weight + 1) for each in flows)
    return math.ceil(slowest) + lanes


def test_who_was_idle_has_saved_nothing_up():
    turns = Turns()
    run(turns, [flow(TRANSACTIONAL, A)], 500)
    both = [flow(TRANSACTIONAL, A), flow(TRANSACTIONAL, B)]
    given = run(turns, both, 100)
    assert [given[each] for each in both] == pytest.approx([50, 50], abs=1)


def test_a_lane_that_was_idle_has_saved_nothing_up():
    turns = Turns()
    run(turns, [flow(TRANSACTIONAL)], 500)
    both = [flow(TRANSACTIONAL), flow(MARKETING)]
    given = run(turns, both, 110)
    assert [given[each] for each in both] == pytest.approx([100, 10], abs=1)


def test_who_was_given_much_while_alone_owes_no_more_than_the_last_of_it():
    turns = Turns()
    run(turns, [flow(TRANSACTIONAL, A)], 500, lambda: 4)
    both = [flow(TRANSACTIONAL, A), flow(TRANSACTIONAL, B)]
    first = [serve(turns, both).client_id for _ in range(6)]
    assert first.count(B) in {4, 5}
    given = run(turns, both, 100)
    assert [given[each] for each in both] == pytest.approx([50, 50], abs=1)


def test_leaving_and_coming_back_gains_nothing():
    turns, steady = Turns(), flow(TRANSACTIONAL, B)
    given = Counter()
    for turn in range(400):
        comes_and_goes = [flow(TRANSACTIONAL, A)] if turn % 2 else []
        chosen = serve(turns, [*comes_and_goes, steady], 3 if comes_and_goes else 1)
        given[chosen.client_id] += 3 if comes_and_goes else 1
    assert given[A] <= given[B]


@few
@given(st.lists(st.tuples(st.sets(st.sampled_from((*LANES, TEST)), min_size=1), st.integers(1, 40)), max_size=60))
def test_a_code_that_comes_alone_is_next_at_once_whatever_went_before(history):
    turns, backlog = Turns(), [flow(lane) for lane in (TRANSACTIONAL, MARKETING, TEST)]
    for lanes, segments in history:
        serve(turns, [flow(lane) for lane in lanes], segments)
    serve(turns, backlog, 11)
    assert serve(turns, [*backlog, flow(OTP, C)]).lane == OTP


def test_a_code_of_another_client_is_next_among_codes():
    turns, backlog = Turns(), flow(OTP, A)
    run(turns, [backlog], 1000)
    assert serve(turns, [backlog, flow(OTP, B)]).client_id == B


def test_of_a_client_s_flows_the_longest_due_is_next():
    later, sooner = flow(OTP, due_at=NOW, sender="b"), flow(OTP, due_at=NOW - timedelta(seconds=1), sender="a")
    assert Turns().choose([later, sooner]) == sooner


def test_lanes_that_are_level_go_in_their_order():
    for flows in ([flow(lane) for lane in LANES], [flow(lane) for lane in reversed(LANES)]):
        assert Turns().choose(flows).lane == OTP


def test_every_lane_has_a_share_and_codes_the_greatest():
    assert LANE_SHARES.keys() == {OTP, TRANSACTIONAL, MARKETING, TEST}
    assert min(LANE_SHARES.values()) > 0
    assert LANE_SHARES[OTP] > sum(share for lane, share in LANE_SHARES.items() if lane != OTP)

"""The lattice of statuses: facts in any order, any number of times, come to the same end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.messages.statuses import DELIVERED, FINAL, QUEUED, SENDING, SENT, STATUSES, UNDELIVERED, UNKNOWN, advance

# What may be known of one message: everything that is not final, and one end.
histories = st.sampled_from(sorted(FINAL)).flatmap(
    lambda end: st.lists(st.sampled_from([QUEUED, SENDING, UNKNOWN, SENT, end]), max_size=8)
)


def after(facts, start=QUEUED):
    status = start
    for fact in facts:
        status = advance(status, fact)
    return status


@given(histories, st.randoms())
def test_the_order_of_the_facts_does_not_matter(facts, chance):
    shuffled = list(facts)
    chance.shuffle(shuffled)
    assert after(shuffled) == after(facts)


@given(histories)
def test_hearing_everything_again_changes_nothing(facts):
    assert after(facts + facts) == after(facts)
    assert after(facts, start=after(facts)) == after(facts)


@given(histories)
def test_one_final_fact_decides_whatever_else_is_heard(facts):
    ends = FINAL.intersection(facts)
    assert after(facts) in (ends or {QUEUED, SENDING, UNKNOWN, SENT})


@given(st.sampled_from(sorted(FINAL)), st.lists(st.sampled_from(STATUSES), max_size=8))
def test_a_final_status_is_never_left(end, facts):
    assert after(facts, start=end) == end


@given(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=8))
def test_no_fact_leads_back(facts):
    order = [QUEUED, SENDING, UNKNOWN, SENT]
    status = QUEUED
    for fact in facts:
        following = advance(status, fact)
        if following in order:
            assert order.index(following) >= order.index(status)
        status = following


@pytest.mark.parametrize("end", sorted(FINAL | {SENT}))
def test_an_unknown_outcome_is_settled_by_any_fact_that_plivo_knows_of_it(end):
    assert advance(UNKNOWN, end) == end


def test_of_two_ends_the_first_that_is_heard_stands():
    assert advance(DELIVERED, UNDELIVERED) == DELIVERED
    assert advance(UNDELIVERED, DELIVERED) == UNDELIVERED

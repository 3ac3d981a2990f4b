"""The arithmetic of paces: never more than they allow in any window, and never less than those who wait could have."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.pacing.tolls import CATCH_UP_SECONDS, Toll, toll_of_list, tolls_of
from smsapi.settings import read_settings

START = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
LONG_CODE, TOLL_FREE, SHORT_CODE, NAME = "+14155550100", "+18005550100", "12345", "ACME"

RATES = st.floats(0.05, 2000)
COSTS = st.integers(1, 11)
# Seconds until the next message asks; and whether it waits until the gate opens or goes away.
ARRIVALS = st.lists(
    st.tuples(st.floats(0, 0.02) | st.floats(0, 30), COSTS, st.booleans()),
    min_size=1,
    max_size=80,
)


def passed(rate, arrivals):
    """Return the moments, in seconds, at which messages passed a gate of this rate, and what each cost."""
    now, opens_at, found = START, LONG_AGO, []
    for gap, cost, waits in arrivals:
        now += timedelta(seconds=gap)
        if opens_at > now and not waits:
            continue
        now = max(now, opens_at)
        opens_at = Toll("pace:test", cost, rate).next_opening(opens_at, now)
        found.append(((now - START).total_seconds(), cost))
    return found


@given(RATES, ARRIVALS)
def test_no_window_of_any_length_holds_more_than_the_pace_allows_and_one_message(rate, arrivals):
    found = passed(rate, arrivals)
    for first, (begun, _) in enumerate(found):
        units = 0.0
        for moment, cost in found[first:]:
            # All of the window but its last message.
            assert units <= rate * (moment - begun + CATCH_UP_SECONDS) * (1 + 1e-9) + 1e-6
            units += cost


@given(RATES, st.lists(st.tuples(COSTS, st.floats(0, CATCH_UP_SECONDS)), min_size=1, max_size=80))
def test_who_is_late_by_no_more_than_is_made_up_for_loses_no_slot(rate, wakings):
    opens_at = moment = START
    for cost, late in wakings:
        moment = opens_at + timedelta(seconds=late)
        opens_at = Toll("pace:test", cost, rate).next_opening(opens_at, moment)
    units = sum(cost for cost, _ in wakings)
    slack = 2e-6 * len(wakings)  # a moment has no more than six places
    assert (opens_at - START).total_seconds() <= units / rate + slack


@given(RATES, COSTS, st.floats(CATCH_UP_SECONDS, 86400))
def test_nothing_is_saved_up_beyond_what_is_made_up_for(rate, cost, idle_seconds):
    now = START + timedelta(seconds=idle_seconds)
    opens_at = Toll("pace:test", cost, rate).next_opening(START, now)
    gap = (opens_at - now).total_seconds()
    assert gap == pytest.approx(cost / rate - CATCH_UP_SECONDS, abs=3e-6)


def settings(**given):
    return read_settings({}, **given)


def paces(sender, segments=1, **given):
    """Return what a message costs of each pace and how many units a second that gives, by the pace's key."""
    return {toll.key: (toll.cost, toll.per_second) for toll in tolls_of(settings(**given), sender, segments)}


OFF = {"plivo_requests_per_5s": 0.0, "pace_account": 0.0}


@pytest.mark.parametrize(
    ("sender", "setting", "by_plivo"),
    [
        (LONG_CODE, "pace_long_code", 1.0),
        (TOLL_FREE, "pace_toll_free", 25.0),
        (SHORT_CODE, "pace_short_code", 100.0),
        (NAME, "pace_alphanumeric", None),
    ],
)
def test_each_kind_of_sender_has_its_own_pace(sender, setting, by_plivo):
    key = f"pace:from:{sender}"
    assert paces(sender, **OFF) == ({} if by_plivo is None else {key: (1, by_plivo)})
    assert paces(sender, **OFF, **{setting: 7.5}) == {key: (1, 7.5)}
    assert paces(sender, **OFF, **{setting: 0.0}) == {}
    others = {"pace_long_code", "pace_toll_free", "pace_short_code", "pace_alphanumeric"} - {setting}
    assert paces(sender, **OFF, **{setting: 7.5}, **dict.fromkeys(others, 3.0)) == {key: (1, 7.5)}


def test_a_message_pays_segments_of_its_sender_and_of_the_account_and_one_request():
    assert paces(LONG_CODE, 3) == {
        "pace:account": (3, 5.0),
        "pace:from:+14155550100": (3, 1.0),
        "pace:requests": (1, 56.0),
    }


def test_tolls_are_paid_in_the_order_of_their_keys():
    for sender in (LONG_CODE, TOLL_FREE, SHORT_CODE, NAME):
        keys = [toll.key for toll in tolls_of(settings(pace_alphanumeric=1.0), sender, 1)]
        assert keys == sorted(keys)
        assert len(keys) == 3


def test_plivo_s_figures_are_for_plivo_only():
    elsewhere = {"plivo_url": "http://127.0.0.1:8099"}
    for sender in (LONG_CODE, TOLL_FREE, SHORT_CODE, NAME):
        assert paces(sender, **elsewhere).keys() == {"pace:requests"}
    given = paces(LONG_CODE, **elsewhere, pace_account=4.0, pace_long_code=2.0)
    assert given == {"pace:account": (1, 4.0), "pace:from:+14155550100": (1, 2.0), "pace:requests": (1, 56.0)}


def test_a_pace_of_zero_is_no_pace_and_none_at_all_leaves_no_toll():
    assert paces(LONG_CODE, **OFF, pace_long_code=0.0) == {}
    assert paces(LONG_CODE, plivo_requests_per_5s=0.0).keys() == {"pace:account", "pace:from:+14155550100"}


def test_within_five_seconds_there_are_fewer_requests_than_plivo_refuses():
    (toll,) = tolls_of(settings(pace_account=0.0, pace_long_code=0.0), LONG_CODE, 11)
    assert toll.per_second * (5 + CATCH_UP_SECONDS) + 1 < 300


@pytest.mark.parametrize("per_minute", [1, 20, 1000])
def test_the_list_is_asked_no_more_often_in_any_minute_than_is_allowed(per_minute):
    toll = toll_of_list(settings(plivo_list_per_minute=per_minute))
    now, opens_at, moments = START, LONG_AGO, []
    for _ in range(3 * per_minute):
        now = max(now, opens_at)
        opens_at = toll.next_opening(opens_at, now)
        moments.append(now)
    busiest = max(sum(begun <= other < begun + timedelta(minutes=1) for other in moments) for begun in moments[:50])
    assert busiest == per_minute

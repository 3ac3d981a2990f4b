"""What every store promises; each test runs against the one in memory and the one in Redis."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smsapi.clock import ManualClock
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.memory import MemoryStore
from smsapi.limits.redis import RedisStore
from tests.support.examples import many

MINUTE = Window(10, 60)
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def charge(key="client", window=MINUTE, cost=1, *, policy="send", once=False, once_seconds=60):
    return Charge(key, window, policy, cost, once_seconds if once else 0)


def test_a_quota_is_spent_to_the_last_unit_and_comes_back_with_time(store, clock):
    assert [store.spend([charge()]).allowed for _ in range(11)] == [True] * 10 + [False]
    clock.advance(6)
    assert [store.spend([charge()]).allowed for _ in range(2)] == [True, False]
    clock.advance(60)
    assert store.peek([charge()]).items[0].remaining == 10


def test_the_standing_names_policy_quota_window_and_what_remains(store):
    verdict = store.spend([charge(cost=3), charge("day", Window(100, 86_400), policy="send-day")])
    assert verdict.allowed
    assert verdict.retry_after_seconds == 0
    assert [tuple(item) for item in verdict.items] == [
        ("send", 10, 60, 7, 42, False),
        ("send-day", 100, 86_400, 99, 85_536, False),
    ]


def test_a_refused_request_spends_nothing_anywhere(store):
    full = charge("full", Window(1, 60), policy="full")
    store.spend([full])
    for _ in range(3):
        verdict = store.spend([charge(), full])
        assert (verdict.allowed, verdict.retry_after_seconds) == (False, 60)
        assert [item.denied for item in verdict.items] == [False, True]
    assert store.peek([charge()]).items[0].remaining == 10


def test_peeking_spends_nothing_and_says_what_spending_would(store):
    for _ in range(20):
        assert store.peek([charge(cost=10)]).allowed
    assert store.peek([charge()]).items[0].remaining == 10
    store.spend([charge(cost=10)])
    verdict = store.peek([charge()])
    assert (verdict.allowed, verdict.items[0].remaining, verdict.retry_after_seconds) == (False, 0, 6)


def test_no_charges_are_allowed(store):
    assert store.spend([]).allowed
    assert store.peek([]).items == ()


def test_keys_do_not_touch_each_other(store):
    store.spend([charge("a", cost=10)])
    assert store.spend([charge("b", cost=10)]).allowed
    assert not store.spend([charge("a")]).allowed


def test_keys_may_hold_any_characters(store):
    odd = ["a b", "ü\n\0", "k:once:t", "{x}", "\ud800", "x" * 5_000]
    for key in odd:
        assert store.spend([charge(key, cost=10)], once=key).allowed
    assert not any(store.spend([charge(key)]).allowed for key in odd)


def test_a_quota_of_zero_refuses_and_a_changed_quota_keeps_what_was_spent(store):
    store.spend([charge(cost=10)])
    assert not store.spend([charge(window=Window(0, 60))]).allowed
    assert store.spend([charge(window=Window(100, 60))]).items[0].remaining == 89
    assert not store.spend([charge(window=Window(5, 60))]).allowed


def test_one_token_is_charged_once_for_a_key_and_other_charges_every_time(store):
    both = [charge("client"), charge("to", Window(2, 60), policy="to", once=True)]
    for _ in range(5):
        assert store.spend(both, once="token").allowed
    assert [item.remaining for item in store.peek(both).items] == [5, 1]
    assert store.spend(both, once="other").allowed
    assert not store.spend(both, once="third").allowed
    assert store.spend(both, once="token").allowed


def test_without_a_token_a_once_charge_is_charged_every_time(store):
    only = [charge(once=True)]
    assert [store.spend(only).allowed for _ in range(11)][-1] is False


def test_a_refused_request_leaves_no_token_behind(store, clock):
    full = charge("full", Window(1, 60), policy="full")
    once = charge("to", once=True)
    store.spend([full])
    assert not store.spend([once, full], once="token").allowed
    clock.advance(60)
    assert store.spend([once, full], once="token").allowed
    assert store.peek([once]).items[0].remaining == 9


def test_a_token_passes_only_the_charges_that_count_once(store):
    both = [charge(once=True), charge()]
    assert store.spend(both, once="token").items[1].remaining == 8
    assert store.spend(both, once="token").items[1].remaining == 7
    never = charge(window=Window(0, 60))
    assert not store.spend([charge(once=True), never], once="token").allowed
    assert store.spend([charge("b", once=True), charge("b")], once="token").items[0].remaining == 8
    assert store.spend([charge("b", once=True)], once="token").items[0].remaining == 8


def test_a_token_is_remembered_for_its_own_time_whatever_the_window(store, clock):
    day = charge(window=Window(10, 86_400), once=True, once_seconds=30)
    assert store.spend([day], once="token").items[0].remaining == 9
    clock.advance(29)
    assert store.spend([day], once="token").items[0].remaining == 9
    clock.advance(1)
    assert store.spend([day], once="token").items[0].remaining == 8


def test_a_token_counts_again_after_its_time_and_never_for_another_key(store, clock):
    assert store.spend([charge("a", once=True)], once="token").items[0].remaining == 9
    assert store.spend([charge("b", once=True)], once="token").items[0].remaining == 9
    clock.advance(59)
    assert store.spend([charge("a", once=True)], once="token").items[0].remaining == 10
    clock.advance(1)
    assert store.spend([charge("a", once=True)], once="token").items[0].remaining == 9


def test_a_token_that_was_paid_passes_a_spent_quota(store):
    store.spend([charge(cost=10, once=True)], once="token")
    assert store.spend([charge(cost=10, once=True)], once="token").allowed
    assert not store.spend([charge(once=True)], once="other").allowed


def test_sixteen_threads_together_get_the_quota_and_not_one_more(store):
    wanted = [charge("client", Window(200, 60)), charge("wide", Window(10_000, 60), policy="wide")]

    def hit(_):
        return sum(store.spend(wanted).allowed for _ in range(25))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(hit, range(16))) == 200
    assert store.peek(wanted).items[1].remaining == 9_800


def test_one_token_in_sixteen_threads_is_charged_once(store):
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda _: store.spend([charge(once=True)], once="t").allowed, range(64)))
    assert store.peek([charge()]).items[0].remaining == 9


windows = st.builds(Window, st.integers(0, 12), st.integers(1, 5_000))
once_seconds = st.sampled_from([0, 1, 60, 5_000])
charges = st.builds(Charge, st.sampled_from("abc"), windows, st.just("p"), st.integers(0, 6), once_seconds)
requests = st.tuples(
    st.floats(-30, 4_000), st.lists(charges, max_size=4), st.sampled_from([None, "t", "u"]), st.booleans()
)


@settings(max_examples=many(20), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(script=st.lists(requests, max_size=25))
def test_redis_decides_exactly_as_memory_does(server, redis_url, script):
    server.flushdb()
    clock = ManualClock(MOMENT)
    # What is over may be forgotten at any time, and would be missed here, where the clock also runs back: neither
    # store forgets, for Redis goes by its own clock and memory by how long ago it last looked.
    memory = MemoryStore(clock, sweep_seconds=1e9)
    shared = RedisStore(redis_url, clock=clock, timeout_seconds=5, grace_seconds=3_600)
    for seconds, asked, once, spend in script:
        clock.advance(seconds)
        if spend:
            assert shared.spend(asked, once=once) == memory.spend(asked, once=once)
        else:
            assert shared.peek(asked) == memory.peek(asked)
    shared.close()

"""Many decisions at once, and what is given back: the same of every store."""

from datetime import timedelta

import pytest

from smsapi.limits.fallback import FallbackStore
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.memory import MemoryStore
from smsapi.limits.redis import RedisStore
from smsapi.limits.store import LimitStoreDown

DAY = Window(2, 86_400)


def charge(key, window=DAY, *, cost=1, once=False):
    return Charge(key, window, "number", cost, 3_600 if once else 0)


def left(store, key, window=DAY):
    return store.peek([charge(key, window)]).items[0].remaining


def test_each_group_is_decided_by_itself_and_in_order(store):
    keys = [f"key-{number % 300}" for number in range(900)]
    verdicts = store.decide_each([[charge(key)] for key in keys], spend=True)
    assert [verdict.allowed for verdict in verdicts] == [True] * 600 + [False] * 300
    # All or nothing within a group.
    assert not store.decide_each([[charge("fresh"), charge("key-1")]], spend=True)[0].allowed
    assert left(store, "fresh") == 2
    assert list(store.decide_each([], spend=True)) == []


def test_a_server_that_forgot_its_scripts_is_taught_them_again(server, redis_url, clock):
    shared = RedisStore(redis_url, clock=clock, timeout_seconds=5)
    groups = [[charge(f"key-{number}")] for number in range(300)]
    for spent in (1, 2):
        server.script_flush()
        assert all(verdict.allowed for verdict in shared.decide_each(groups, spend=True))
        assert {left(shared, f"key-{number}") for number in range(300)} == {2 - spent}
    server.script_flush()
    shared.give_back([each for group in groups for each in group])
    assert {left(shared, f"key-{number}") for number in range(300)} == {1}
    shared.close()


def test_what_is_only_asked_spends_nothing(store):
    for _ in range(3):
        assert all(verdict.allowed for verdict in store.decide_each([[charge("a")], [charge("b")]], spend=False))
    assert left(store, "a") == 2


def test_a_token_is_charged_once_in_many_decisions_too(store):
    groups = [[charge("a", once=True)], [charge("b", once=True)]]
    for _ in range(4):
        assert all(verdict.allowed for verdict in store.decide_each(groups, spend=True, once="upload"))
    assert (left(store, "a"), left(store, "b")) == (1, 1)


def test_what_is_given_back_may_be_spent_again(store, clock):
    many = [charge(f"key-{number}") for number in range(600)]
    store.decide_each([[each] for each in many], spend=True)
    store.decide_each([[each] for each in many], spend=True)
    clock.advance(30)
    store.give_back(many, seconds_ago=30)
    assert {left(store, each.key) for each in many} == {1}
    store.give_back([charge("never spent on")])
    assert left(store, "never spent on") == 2


def test_what_has_drained_is_not_given_back_again(store, clock):
    window = Window(10, 10)
    store.spend([charge("a", window, cost=5)])
    clock.advance(8)
    store.spend([charge("a", window, cost=10)])
    store.give_back([charge("a", window, cost=5)], seconds_ago=8)
    assert left(store, "a", window) == 0


def test_with_a_token_it_is_given_back_once_and_charged_anew(store):
    one = charge("a", once=True)
    store.spend([one], once="upload")
    store.spend([one], once="other")
    store.give_back([one], once="upload")
    store.give_back([one], once="upload")
    store.give_back([one], once="never came")
    assert left(store, "a") == 1
    assert store.spend([one], once="upload").allowed
    assert left(store, "a") == 0


class Down:
    """A shared store that is away."""

    def __getattr__(self, name):
        def fail(*_args, **_kwargs):
            raise LimitStoreDown(name)

        return fail


@pytest.mark.parametrize("shares", [1, 2])
def test_while_the_shared_store_is_away_the_share_is_spent_and_given_back(clock, shares):
    store = FallbackStore(Down(), MemoryStore(clock), shares=shares, clock=clock)
    window = Window(4, int(timedelta(days=1).total_seconds()))
    groups = [[charge("a", window)]] * 5
    allowed = [verdict.allowed for verdict in store.decide_each(groups, spend=True)]
    assert allowed.count(True) == 4 // shares
    assert {item.quota for verdict in store.decide_each(groups, spend=False) for item in verdict.items} == {4}
    store.give_back([charge("a", window)])
    assert store.spend([charge("a", window)]).allowed
    assert not store.spend([charge("a", window)]).allowed

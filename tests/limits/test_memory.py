from smsapi.limits.gcra import Charge, Window
from smsapi.limits.memory import MemoryStore


def charge(key, quota=10, seconds=60, *, once=False):
    return Charge(str(key), Window(quota, seconds), "send", once_seconds=60 if once else 0)


def test_drained_keys_and_old_tokens_are_swept(clock):
    store = MemoryStore(clock, sweep_seconds=60)
    for number in range(500):
        store.spend([charge(number, once=True)], once="token")
    assert store.keys_held == 1_000
    clock.advance(61)
    store.spend([charge("fresh")])
    assert store.keys_held == 1


def test_a_key_that_is_still_owed_on_survives_the_sweep(clock):
    store = MemoryStore(clock, sweep_seconds=60)
    store.spend([charge("day", 1, 86_400)])
    clock.advance(3_600)
    assert not store.spend([charge("day", 1, 86_400)]).allowed


def test_at_the_bound_the_key_spent_on_longest_ago_makes_room(clock):
    store = MemoryStore(clock, max_keys=100)
    for number in range(100):
        store.spend([charge(number, 2)])
    store.spend([charge(0, 2)])
    store.spend([charge("new")])
    assert store.keys_held == 100
    assert store.peek([charge(0, 2)]).items[0].remaining == 0
    assert store.peek([charge(1, 2)]).items[0].remaining == 2


def test_refused_requests_take_no_memory(clock):
    store = MemoryStore(clock)
    for number in range(50):
        store.spend([charge(number), charge("never", 0)])
    assert store.keys_held == 0


def test_a_clock_set_back_does_not_stop_the_sweep(clock):
    store = MemoryStore(clock, sweep_seconds=60)
    clock.advance(-7_200)
    store.spend([charge("a")])
    clock.advance(61)
    store.spend([charge("b")])
    assert store.keys_held == 1

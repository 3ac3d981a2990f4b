"""The dispatcher with its real threads: everything goes out, once, whatever breaks meanwhile."""

import threading
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from smsapi import migrations
from smsapi.db import Database
from smsapi.deps import Deps
from smsapi.dispatch.engine import Dispatcher
from smsapi.plivo.outcomes import Unavailable
from smsapi.plivo.simulator import Simulator
from tests.conftest import AUTH_ID, AUTH_TOKEN, eventually, free_port, new_caller
from tests.services import start_postgres
from tests.support.dispatching import ASYNC, attempts_of, claim, counts_by_status, multiply, row_of, run_due, world_of
from tests.support.examples import sized
from tests.support.providers import Scripted, taken

PLENTY = {"limit_send": "100000 per minute", "limit_key": "100000 per minute"}


class Shortest(Random):
    """Chance that always draws the lower bound."""

    def uniform(self, low: float, _high: float) -> float:
        return low


def queue(app, count, caller=None):
    caller = caller or new_caller(app)
    answers = [caller.send(to=f"+1415556{2000 + n}", headers=ASYNC) for n in range(count)]
    assert {answer.status_code for answer in answers} == {202}
    return [answer.get_json() for answer in answers]


def settled(world, **expected):
    return lambda: counts_by_status(world) == expected


def test_hundreds_of_messages_go_out_once_each_with_four_threads(make_app, dispatching, simulator):
    count = sized(200, 500)
    app = make_app(**PLENTY, dispatch_threads=4)
    (first,) = queue(app, 1)
    multiply(world_of(app), first, count - 41)
    dispatching(app)
    queue(app, 40)  # to other numbers but for one, while it sends
    eventually(settled(world_of(app), sent=count))
    assert simulator.store.count() == count
    texts = simulator.store.texts_by_number()
    assert texts.pop(first["to"].removeprefix("+")) == 2
    assert len(texts) == count - 2
    assert set(texts.values()) == {1}


def test_two_services_on_one_store_share_the_queue(make_app, dispatching, simulator):
    apps = [make_app(**PLENTY, dispatch_threads=2) for _ in range(2)]
    messages = queue(apps[0], 60)
    for app in apps:
        dispatching(app)
    eventually(settled(world_of(apps[0]), sent=60))
    assert simulator.store.count() == 60
    assert all(len(attempts_of(world_of(apps[0]), message)) == 1 for message in messages[:10])


def test_a_ring_is_heard_long_before_the_next_sweep(make_app, dispatching):
    provider = Scripted(taken())
    app = make_app({"provider": provider}, dispatch_sweep_seconds=600)
    dispatching(app)
    queue(app, 3)
    eventually(lambda: len(provider.asked) == 3)


def test_without_a_ring_the_sweep_finds_what_is_due(make_app, dispatching, simulator):
    app = make_app()
    queue(app, 3)
    dispatching(make_app())  # another service: it hears no bell of the first
    eventually(settled(world_of(app), sent=3))


def test_what_is_scheduled_goes_out_at_its_moment_long_before_the_next_sweep(make_app, dispatching):
    provider = Scripted(taken())
    app = make_app({"provider": provider}, dispatch_sweep_seconds=600)
    caller = new_caller(app)
    soon = datetime.now(UTC) + timedelta(seconds=2)
    message = caller.send(send_at=soon.isoformat()).get_json()
    dispatching(make_app({"provider": provider}, dispatch_sweep_seconds=600))  # it hears no bell of the first
    eventually(lambda: provider.asked)
    assert datetime.now(UTC) >= soon
    eventually(lambda: caller.message(message["id"])["status"] == "sent")


def test_one_hint_sets_every_idle_thread_to_what_is_due(make_app, dispatching):
    together = threading.Barrier(4)
    provider = Scripted(taken(), before=lambda _: together.wait(10))
    app = make_app({"provider": provider}, dispatch_threads=4, dispatch_sweep_seconds=600)
    queue(app, 4)
    dispatching(app).ring()
    eventually(settled(world_of(app), sent=4))
    assert len(provider.asked) == 4


def test_a_gauge_that_cannot_be_looked_up_does_not_keep_messages_waiting(make_app, dispatching, simulator):
    def broken() -> bool:
        raise RuntimeError("a bug of ours")

    app, other = make_app(), make_app()
    world_of(other).metrics.watch(limits_degraded=broken, of_store=broken)
    queue(app, 3)
    dispatching(other)  # it hears no bell of the first, so that only its sweep finds them
    eventually(settled(world_of(app), sent=3))
    assert simulator.store.count() == 3


def test_stopping_lets_the_call_end_and_takes_nothing_new(make_app):
    answering, asked = threading.Event(), threading.Event()

    def hold(_):
        asked.set()
        answering.wait(20)

    provider = Scripted(taken(), before=hold)
    app = make_app({"provider": provider}, dispatch_threads=1, lease_seconds=3600)
    world = world_of(app)
    queue(app, 4)
    dispatcher = Dispatcher(world)
    dispatcher.start()
    assert asked.wait(10)
    stopping = threading.Thread(target=dispatcher.stop, args=(20,))
    stopping.start()
    eventually(dispatcher._stopping.is_set)
    answering.set()
    stopping.join(20)
    assert not stopping.is_alive()
    assert counts_by_status(world) == {"sent": 1, "queued": 3}
    # Nobody holds them under a lease of an hour: the next one may have them now.
    assert len(claim(world)) == 3


def test_one_message_that_breaks_the_worker_does_not_hold_up_the_others(make_app, dispatching):
    class Broken:
        name = "plivo"

        def __init__(self):
            self.asked = []

        def send(self, message):
            self.asked.append(message.to)
            if message.to.endswith("2001"):
                raise RuntimeError("a bug of ours")
            return taken()

    provider = Broken()
    app = make_app({"provider": provider}, dispatch_threads=1, lease_seconds=3600)
    queue(app, 4)
    dispatching(app)
    eventually(settled(world_of(app), sent=3, sending=1))
    assert len(provider.asked) == 4


def test_the_attempts_that_are_written_down_are_the_calls_that_plivo_saw(make_app, dispatching):
    provider = Scripted(*[Unavailable("throttled", 429)] * 7, taken())
    app = make_app({"provider": provider, "random": Shortest()}, retry_base_seconds=0.01)
    messages = queue(app, 5)
    dispatching(app)
    eventually(settled(world_of(app), sent=5))
    rows = [row for message in messages for row in attempts_of(world_of(app), message)]
    assert len(rows) == len(provider.asked) == 12
    assert sorted(row.outcome for row in rows) == ["accepted"] * 5 + ["unavailable"] * 7


def test_while_plivo_is_gone_messages_are_taken_and_after_it_they_go_out_once(make_app, dispatching):
    with Simulator(auth_id=AUTH_ID, auth_token=AUTH_TOKEN, port=free_port(), requests_per_5s=None) as plivo:
        plivo.stop()
        app = make_app(plivo_url=plivo.url, breaker_failures=3, breaker_open_seconds=0.3, retry_cap_seconds=0.2)
        caller = new_caller(app)
        world = world_of(app)
        messages = queue(app, 10, caller)
        dispatching(app)
        eventually(lambda: b'smsapi_stopped{gate="circuit"} 1.0' in caller.get("/metrics").data)
        down = caller.send(headers={"Prefer": "wait=0"})
        assert (down.status_code, down.get_json()["status"]) in {(202, "queued"), (202, "sending")}
        assert counts_by_status(world).keys() <= {"queued", "sending"}
        plivo.start()
        eventually(settled(world, sent=11))
        assert plivo.store.count() == 11
        # What is remembered of a look is over after a moment.
        eventually(lambda: b'smsapi_stopped{gate="circuit"} 0.0' in caller.get("/metrics").data)
        reasons = {row.reason for message in messages for row in attempts_of(world, message)}
        assert reasons == {"the connection was refused", None}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_test_key_s_message_lives_through_its_reports_without_plivo(make_app, dispatching, simulator):
    app = make_app()
    caller = new_caller(app, mode="test")
    dispatching(app)
    message = caller.send(to="+14155550010", headers=ASYNC).get_json()
    eventually(lambda: caller.message(message["id"])["status"] == "delivered")
    eventually(lambda: row_of(world_of(app), message).due_at is None)
    metrics = caller.get("/metrics").get_data(as_text=True)
    assert 'smsapi_messages_total{mode="test",status="delivered"} 1.0' in metrics
    assert simulator.store.count() == 0
    assert run_due(world_of(app)) == 0


class TestWithADatabaseThatDies:
    @pytest.fixture
    def database(self):
        with start_postgres() as running:
            store = Database(running.url)
            migrations.upgrade(store)
            store.close()
            yield running

    @pytest.fixture
    def database_url(self, database):
        return database.url

    def test_everything_is_sent_once_when_the_database_comes_back(self, make_app, dispatching, database):
        with Simulator(
            auth_id=AUTH_ID, auth_token=AUTH_TOKEN, requests_per_5s=None, answer_delay_seconds=0.03
        ) as plivo:
            app = make_app(
                **PLENTY, plivo_url=plivo.url, plivo_total_timeout_seconds=2.0, lease_seconds=4.0, dispatch_threads=4
            )
            world: Deps = world_of(app)
            queue(app, 80)
            dispatching(app)
            for expected in (10, 40):
                eventually(lambda least=expected: plivo.store.count() >= least)
                database.kill()
                caught_in_flight = plivo.store.count()
                assert caught_in_flight < 80
                database.start()
            eventually(settled(world, sent=80))
            assert plivo.store.count() == 80
            assert set(plivo.store.texts_by_number().values()) == {1}

"""Heartbeats: each process that sends keeps its row for as long as it can send, and claims no more than that."""

import os
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from smsapi import __version__
from smsapi.clock import ManualClock
from smsapi.dispatch.engine import Dispatcher
from smsapi.dispatch.housekeeping import lookout_for_housekeeping
from smsapi.dispatch.liveness import Liveness
from smsapi.monitoring.heartbeat import Heartbeat
from smsapi.monitoring.models import workers
from smsapi.monitoring.workers import count_alive, list_workers
from smsapi.settings import read_settings
from tests.conftest import eventually, new_caller
from tests.support.dispatching import ASYNC, world_of
from tests.support.heartbeats import beat
from tests.support.providers import Scripted, taken


def rows(world):
    with world.database.read() as connection:
        return list_workers(connection)


def alive(world):
    with world.database.read() as connection:
        return count_alive(connection, world.clock.now())


@pytest.fixture
def beating():
    """Start heartbeats that are stopped after the test."""
    started = []

    def start(world, **given):
        heartbeat = Heartbeat(world, **{"role": "worker", "threads": 4, "trouble": lambda: None, **given})
        heartbeat.start()
        started.append(heartbeat)
        return heartbeat

    yield start
    for each in started:
        each.stop(10)


def test_a_dispatcher_is_known_by_its_row_from_its_start_to_its_stop(make_app):
    app = make_app(dispatch_threads=3)
    world = world_of(app)
    dispatcher = Dispatcher(world, role="dev")
    dispatcher.start()
    try:
        (found,) = eventually(lambda: rows(world))
        assert (found.host, found.pid, found.version) == (socket.gethostname(), os.getpid(), __version__)
        assert (found.role, found.threads, alive(world)) == ("dev", 3, 1)
        assert found.started_at <= found.beat_at
        assert dispatcher.trouble() is None
    finally:
        dispatcher.stop(10)
    assert rows(world) == []
    assert "ended" in dispatcher.trouble()


def test_it_goes_on_beating_and_its_row_comes_back_where_it_was_forgotten(app, beating):
    world = world_of(app)
    beating(world, beat_seconds=0.05)
    (first,) = eventually(lambda: rows(world))
    eventually(lambda: [each.beat_at for each in rows(world)] > [first.beat_at])
    with world.database.statement() as connection:
        connection.execute(workers.delete())
    (again,) = eventually(lambda: rows(world))
    assert (again.id, again.started_at) == (first.id, first.started_at)


def test_a_call_that_takes_long_does_not_stop_it(make_app, beating):
    world = world_of(make_app())
    go_on, begun = threading.Event(), threading.Event()

    def hold(_):
        begun.set()
        go_on.wait(60)

    app = make_app({"provider": Scripted(taken(), before=hold)}, dispatch_threads=1)
    dispatcher = Dispatcher(world_of(app))
    dispatcher.start()
    try:
        new_caller(app).send(headers=ASYNC)
        assert begun.wait(60)
        assert dispatcher.trouble() is None
        beating(world, beat_seconds=0.05, trouble=dispatcher.trouble)
        before = datetime.now(UTC)
        eventually(lambda: any(each.beat_at > before + timedelta(seconds=0.2) for each in rows(world)))
    finally:
        go_on.set()
        dispatcher.stop(10)


def test_one_whose_threads_cannot_send_does_not_beat_and_says_why_once(app, beating):
    world, trouble, asked = world_of(app), ["the threads that send have ended"], []

    def tell():
        asked.append(1)
        return trouble[0]

    with capture_logs() as logs:
        beating(world, beat_seconds=0.02, trouble=tell)
        eventually(lambda: len(asked) > 5)
    assert [(line["event"], line["reason"]) for line in logs] == [("nothing_is_sent_here", trouble[0])]
    assert rows(world) == []
    trouble[0] = None
    eventually(lambda: alive(world) == 1)


def test_a_store_that_does_not_answer_is_asked_again(make_app, tmp_path, beating):
    world = world_of(make_app(database_url=f"sqlite:///{tmp_path}/there/is/no/such/folder.db"))
    with capture_logs() as logs:
        beating(world, beat_seconds=0.02)
        eventually(lambda: [line["event"] for line in logs][:2] == ["heartbeat_waits"] * 2)


def test_one_that_was_not_heard_of_for_an_hour_is_forgotten(make_app):
    clock = ManualClock(datetime.now(UTC))
    world = world_of(make_app({"clock": clock}))
    beat(world, seconds_ago=3601, pid=1)
    beat(world, seconds_ago=3599, pid=2)
    beat(world, pid=3)
    housekeeping = lookout_for_housekeeping(world)
    housekeeping.start()
    try:
        eventually(lambda: [each.pid for each in rows(world)] == [3, 2])
    finally:
        housekeeping.stop(10)
    with world.database.read() as connection:
        assert len(connection.execute(select(workers)).all()) == 2


@pytest.mark.parametrize("off", [11, -11])
def test_whose_clock_is_far_from_ours_is_not_alive(app, off):
    world = world_of(app)
    process = beat(world, seconds_ago=off)
    assert alive(world) == 0
    assert not process.is_alive(process.beat_at + timedelta(seconds=off))


@pytest.fixture
def thread():
    """A thread that lives for the length of the test."""
    over = threading.Event()
    living = threading.Thread(target=over.wait)
    living.start()
    yield living
    over.set()
    living.join()


def test_threads_that_ended_or_never_end_are_told(thread):
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    liveness = Liveness(read_settings({}), 2)
    assert liveness.trouble([thread], [thread, ended]) is None
    assert liveness.trouble([thread, ended], [thread]) == "a thread that looks for work has ended"
    assert liveness.trouble([None], [thread]) == "a thread that looks for work has ended"
    assert liveness.trouble([thread], [ended]) == "the threads that send have ended"
    assert liveness.trouble([thread], []) == "the threads that send have ended"


def test_senders_that_hang_are_told_once_all_of_them_do_and_so_is_a_sweep(thread):
    now, settings = [0.0], read_settings({}, lease_seconds=60, dispatch_sweep_seconds=1)
    liveness = Liveness(settings, 2, counter=lambda: now[0])
    hanging, over = threading.Semaphore(0), threading.Event()

    def hang():
        with liveness.sending():
            hanging.release()
            over.wait()

    def told(seconds):
        now[0] += seconds
        with liveness.sweeping():
            pass
        return liveness.trouble([thread], [thread])

    threads = [threading.Thread(target=hang) for _ in range(2)]
    try:
        for each in threads:
            each.start()
            assert hanging.acquire(timeout=60)
            # One may hang for ever; the call of the other has its time.
            assert told(89) is None
        assert told(2) == "the threads that send do not come to an end"
    finally:
        over.set()
        for each in threads:
            each.join()
    assert told(0) is None
    now[0] += 34
    assert liveness.trouble([thread], [thread]) == "the thread that looks for work does not come to an end"

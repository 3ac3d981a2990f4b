"""Hints between processes: heard long before a sweep, never more than one in the broker, and missed by nobody."""

import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
import redis

from smsapi.dispatch.hints import EXPIRES_SECONDS, QUEUE, Hints
from smsapi.working import Sending
from tests.conftest import eventually, free_port, new_caller
from tests.support.dispatching import ASYNC, counts_by_status, world_of
from tests.support.providers import Scripted, taken

NEVER = 600


@pytest.fixture
def database_url(sqlite_url):
    """Return one store for all: to the hints it makes no difference."""
    return sqlite_url


@pytest.fixture
def sending():
    """Have an app send and hear as a process of its own would, for the rest of the test."""
    started = []

    def start(app):
        each = Sending(world_of(app))
        each.start()
        each.listen()
        started.append(each)
        return each

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def accepting(make_app, sending):
    """Return a caller of a process that accepts messages and sends none itself."""

    def make(broker_url):
        app = make_app(broker_url=broker_url, dispatch_threads=0)
        sending(app)
        return new_caller(app)

    return make


@pytest.fixture
def sender(make_app, sending):
    """Start a process that sends; return what Plivo was asked there, and the process."""

    def make(broker_url, sweep_seconds):
        provider = Scripted(taken())
        app = make_app({"provider": provider}, broker_url=broker_url, dispatch_sweep_seconds=sweep_seconds)
        return provider.asked, sending(app)

    return make


def send(caller, count=1):
    answers = [caller.send(to=f"+1415556{2000 + n}", headers=ASYNC) for n in range(count)]
    assert {answer.status_code for answer in answers} == {202}


def warm_up(caller, *asked):
    """Have it all connected, and what each looks at of itself behind it: from here on only a hint is heard."""
    send(caller)
    eventually(lambda: sum(map(len, asked)) == 1)


@pytest.fixture
def client(redis_server):
    with redis.Redis.from_url(redis_server.url) as connected:
        yield connected


def test_what_one_process_stores_another_sends_long_before_its_sweep(redis_server, accepting, sender):
    caller = accepting(redis_server.url)
    asked, _ = sender(redis_server.url, NEVER)
    warm_up(caller, asked)
    for expected in (2, 3, 4):
        send(caller)
        eventually(lambda least=expected: len(asked) == least)


def test_a_broker_that_nobody_listens_to_holds_one_hint_and_forgets_it(redis_server, client):
    told = lambda: client.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"]  # noqa: E731
    hints = Hints(redis_server.url, lambda: None)
    hints.start()
    for expected in (1, 2, 3):
        hints.ring()
        eventually(lambda least=expected: told() >= least)
    assert client.llen(QUEUE) == 1
    assert 0 < client.ttl(QUEUE) <= EXPIRES_SECONDS
    assert client.keys() == [QUEUE.encode()]
    hints.stop()


def test_many_rings_are_few_hints(redis_server, client):
    hints = Hints(redis_server.url, lambda: None)
    hints.start()
    for _ in range(20_000):
        hints.ring()
    hints.stop()
    assert 1 <= client.info("commandstats")["cmdstat_lpush"]["calls"] < 2000


def test_a_broker_that_never_answers_holds_up_nobody_who_is_accepting(accepting):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tried = []

        def accept():
            with suppress(OSError):
                while True:
                    tried.append(silent.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        caller = accepting(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        send(caller)
        eventually(lambda: tried)
        send(caller, 15)
        # Whoever waited for the broker would have had to give up once for each message.
        assert len(tried) < 15
        for connection in tried:
            connection.close()
        silent.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_without_its_broker_a_process_starts_sends_by_its_sweep_and_ends(accepting, sender, scheme):
    nowhere = f"{scheme}://127.0.0.1:{free_port()}"
    caller = accepting(nowhere)
    asked, _ = sender(nowhere, 0.1)
    send(caller, 5)
    eventually(lambda: len(asked) == 5)


def test_hints_are_heard_again_when_the_broker_is_back_even_with_nothing_in_it(redis_server, accepting, sender):
    caller = accepting(redis_server.url)
    asked, _ = sender(redis_server.url, NEVER)
    warm_up(caller, asked)
    redis_server.kill()
    send(caller)
    redis_server.start()
    send(caller)
    # Whoever takes this hint finds what was stored while there was no broker, too.
    eventually(lambda: len(asked) == 3)


def test_a_hint_that_a_stopping_process_takes_is_passed_on(redis_server, accepting, sender):
    caller = accepting(redis_server.url)
    # Redis gives to whoever has waited longest: the first of them, unless it had just asked again.
    first, stopping = sender(redis_server.url, NEVER)
    second, _ = sender(redis_server.url, NEVER)
    warm_up(caller, first, second)
    send(caller)
    eventually(lambda: len(first) + len(second) == 2)
    before = len(first)
    stopping.hints.stop_listening()
    send(caller)
    eventually(lambda: len(first) + len(second) == 3)
    assert len(first) == before


def test_who_stops_tells_the_others_to_look(redis_server, make_app, accepting, sender):
    caller = accepting(redis_server.url)
    first, stopping = sender(redis_server.url, NEVER)
    second, _ = sender(redis_server.url, NEVER)
    warm_up(caller, first, second)
    untold = make_app(dispatch_threads=0)
    send(new_caller(untold))
    assert counts_by_status(world_of(untold)) == {"sent": 1, "queued": 1}
    before = len(second)
    stopping.stop()
    eventually(lambda: len(second) == before + 1)


WITHOUT_PIKA = """
import sys
sys.modules["pika"] = None
from smsapi.dispatch.hints import Hints
try:
    Hints("amqp://rabbit:hunter2@localhost", print)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_rabbitmq_without_its_package_is_a_sentence_that_says_what_to_install():
    ended = subprocess.run([sys.executable, "-c", WITHOUT_PIKA], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("SettingsInvalid ")
    assert "smsapi[rabbitmq]" in ended.stdout
    assert "hunter2" not in ended.stdout

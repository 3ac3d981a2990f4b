"""The simulator as a server: sockets, threads, starting and stopping."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest
import requests

from smsapi.plivo.simulator import Simulator
from tests.conftest import eventually

AUTH = ("MAXXXXXXXXXXXXXXXXXX", "the-token")
MESSAGES = f"/v1/Account/{AUTH[0]}/Message/"


@pytest.fixture
def simulator():
    with Simulator(auth_id=AUTH[0], auth_token=AUTH[1], requests_per_5s=None) as running:
        yield running


@pytest.fixture
def session():
    with requests.Session() as opened:
        opened.auth = AUTH
        opened.trust_env = False
        yield opened


def test_taking_and_counting_agree_under_many_threads(simulator):
    def texts(worker):
        with requests.Session() as own:
            own.auth, own.trust_env = AUTH, False
            for place in range(25):
                body = {"src": "ACME", "dst": f"1415{worker}55{place:02d}01", "text": "Hello"}
                own.post(simulator.url + MESSAGES, json=body, timeout=5).raise_for_status()

    threads = [threading.Thread(target=texts, args=(worker,)) for worker in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert simulator.store.count() == 200
    assert set(simulator.store.texts_by_number().values()) == {1}


def test_a_keep_alive_connection_answers_without_nagles_delay(simulator, session):
    url = f"{simulator.url}/_health"
    session.get(url, timeout=5)
    fastest = 1.0
    for _ in range(20):
        before = time.perf_counter()
        session.get(url, timeout=5)
        fastest = min(fastest, time.perf_counter() - before)

    assert fastest < 0.03


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        ("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400),
        ("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
    ],
)
def test_a_body_that_cannot_be_read_ends_the_connection(simulator, head, status):
    address = urlsplit(simulator.url)
    with closing(socket.create_connection((address.hostname, address.port), timeout=5)) as connection:
        connection.sendall(head.format(path=MESSAGES).encode())
        received = b""
        while chunk := connection.recv(65536):
            received += chunk

    assert received.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_client_that_dies_in_the_middle_of_a_request_sends_nothing(simulator, session):
    address = urlsplit(simulator.url)
    with closing(socket.create_connection((address.hostname, address.port), timeout=5)) as connection:
        connection.sendall(f"POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{{".encode())

    assert session.get(f"{simulator.url}/_health", timeout=5).status_code == 200
    assert simulator.store.count() == 0


def test_stopping_ends_hanging_calls_and_leaves_no_thread(session):
    before = set(threading.enumerate())
    hanging = Simulator(auth_id=AUTH[0], auth_token=AUTH[1], hang_seconds=600)
    hanging.start()
    outcome = []

    def call():
        try:
            body = {"src": "ACME", "dst": "14155550008", "text": "Hello"}
            session.post(hanging.url + MESSAGES, json=body, timeout=60)
        except requests.ConnectionError as error:
            outcome.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    eventually(lambda: any(thread.name == "plivo-simulator-connection" for thread in threading.enumerate()))
    hanging.stop()
    hanging.stop()
    caller.join(10)

    assert len(outcome) == 1
    assert set(threading.enumerate()) <= before


def test_it_starts_again_at_the_same_address_and_still_knows_what_it_took(session):
    twice = Simulator(auth_id=AUTH[0], auth_token=AUTH[1])
    with twice:
        url = twice.url
        body = {"src": "ACME", "dst": "14155550001", "text": "Hello"}
        session.post(url + MESSAGES, json=body, timeout=5)
        with pytest.raises(RuntimeError):
            twice.start()
    with pytest.raises(requests.ConnectionError):
        session.get(url, timeout=5)
    with twice:
        assert twice.url == url
        assert session.get(url + MESSAGES, timeout=5).json()["meta"]["total_count"] == 1


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_run_as_a_command_it_stops_cleanly_on_a_signal(stop):
    program = (
        "from functools import partial\n"
        "from smsapi.plivo.simulator import Simulator, serve_forever\n"
        f"serve_forever(Simulator(auth_id={AUTH[0]!r}, auth_token={AUTH[1]!r}), partial(print, flush=True))\n"
        "print('stopped')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip()
        health = requests.get(f"{url}/_health", timeout=5).json()
        process.send_signal(stop)
        said, complained = process.communicate(timeout=20)

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    assert health == {"status": "ok", "pending_callbacks": 0}
    assert (process.returncode, said, complained) == (0, "stopped\n", "")

"""Uploads to ``smsapi serve`` as a process: read as they come, from callers who are slow, cut off, or never end."""

import itertools
import re
import socket
import threading
from pathlib import Path

import orjson
import pytest
from gunicorn.http.body import LengthReader
from gunicorn.http.unreader import SocketUnreader

from smsapi.db import Database
from smsapi.gthread import Arrivals, Flowing
from tests.conftest import eventually
from tests.support.api import Remote
from tests.support.examples import sized
from tests.support.raw_http import exchange, head
from tests.support.served import caller_of, environment, serving
from tests.support.uploading import left_behind, numbers

READ_SECONDS = 1


@pytest.fixture
def database_url(postgres_url):
    """The store that takes rows by COPY."""
    return postgres_url


@pytest.fixture
def served(database_url, redis_url, simulator):
    small = {"SMSAPI_WORKERS": 1, "SMSAPI_THREADS": 8, "SMSAPI_REQUEST_READ_SECONDS": READ_SECONDS}
    # Nothing is sent, so that what was stored can be counted.
    quiet = {"SMSAPI_DISPATCH_THREADS": 0}
    # Without Redis the process itself would remember each number of a batch, for its limits: 25 MB for 100,000 of them.
    quiet["SMSAPI_REDIS_URL"] = redis_url
    with serving(environment(database_url, simulator.url, **small, **quiet)) as it:
        yield it


@pytest.fixture
def caller(served) -> Remote:
    return caller_of(served)


@pytest.fixture
def store(database_url):
    opened = Database(database_url)
    yield opened
    opened.close()


def request_head(caller, *headers):
    given = [("X-API-Key", caller.key), ("Content-Type", "text/csv"), *headers]
    return head("POST", b"/v1/batches?text=Hello", given)


CHUNKED = ("Transfer-Encoding", "chunked")


def chunk(content):
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def lines(count):
    return [f"{number}\n".encode() for number in numbers(count)]


def test_a_body_of_many_megabytes_comes_in_chunks_and_is_taken(served, caller, store):
    rows = [line.replace(b"\n", b"," + b"x" * 200 + b"\n") for line in lines(10_000)]
    pieces = [chunk(b"to,spare\n"), *(chunk(b"".join(rows[at : at + 500])) for at in range(0, 10_000, 500))]
    answer = exchange(served.port, [request_head(caller, CHUNKED), *pieces, b"0\r\n\r\n"])
    assert answer.status == 202, answer.body
    assert orjson.loads(answer.body)["accepted"] == 10_000
    assert left_behind(store) == {"batches": 1, "batch_rows": 9_000, "messages": 1_000}


def most_memory_of(pid):
    """Return the most that the process ever held, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def test_a_great_many_rows_are_taken_in_little_memory(served, caller):
    many, megabytes = sized((50_000, 11), (100_000, 16))

    def upload(body):
        answer = caller.request("POST", "/v1/batches?text=Hello", data=body, headers={"Content-Type": "text/csv"})
        assert answer.status_code == 202, answer.text
        return answer.json()["accepted"]

    (worker,) = served.workers()
    upload(b"to\n" + b"".join(lines(6_000)))
    before = most_memory_of(worker)
    assert upload(b"to\n" + b"".join(lines(many))) == many
    # It takes five MiB; 100,000 would take 38 if they were held as they are read, and 73 as they are stored.
    assert most_memory_of(worker) - before < megabytes


def test_a_sender_that_is_slow_but_goes_on_has_all_the_time_it_needs(served, caller):
    def slowly():
        yield request_head(caller, CHUNKED) + chunk(b"to\n")
        for line in lines(6):
            threading.Event().wait(READ_SECONDS / 2)
            yield chunk(line)
        yield b"0\r\n\r\n"

    answer = exchange(served.port, slowly())
    assert (answer.status, orjson.loads(answer.body)["accepted"]) == (202, 6)


def test_a_sender_that_falls_silent_is_cut_off_and_leaves_nothing(served, caller, store):
    announced = ("Content-Length", "100000")
    for headers, begun in ((announced, b"".join(lines(6_000))), (CHUNKED, chunk(b"to\n" + b"".join(lines(6_000))))):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as silent:
            silent.sendall(request_head(caller, headers) + (b"to\n" if headers is announced else b"") + begun)
            # Whatever it is told, it is told it soon, and the connection ends.
            received = b"".join(iter(lambda: silent.recv(65_536), b""))
        assert b" 202 " not in received
        eventually(lambda: left_behind(store) == {})


def test_a_sender_that_dies_on_the_way_leaves_nothing(served, caller, store):
    whole = b"to\n" + b"".join(lines(6_000))
    for begun in (
        request_head(caller, ("Content-Length", str(len(whole) + 1))) + whole,
        request_head(caller, CHUNKED) + chunk(whole),
        request_head(caller, CHUNKED) + chunk(whole) + b"nonsense\r\n",
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as dying:
            dying.sendall(begun)
        # The next one is served after it, so that nothing of it can come later.
        assert caller.request("GET", "/v1/batches").status_code == 200
        eventually(lambda: left_behind(store) == {})


def test_a_body_without_an_end_is_refused_while_it_comes(served, caller, store):
    row = f"{numbers(1)[0]},{'x' * 60_000}\n".encode()
    endless = itertools.chain([request_head(caller, CHUNKED), chunk(b"to,n\n")], itertools.repeat(chunk(row), 2_000))
    answer = exchange(served.port, endless)
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert left_behind(store) == {}


def test_a_refusal_is_seen_by_a_caller_that_is_still_sending(served, caller):
    body = b'to\n"a"b\n' + b"".join(lines(200_000))
    answer = caller.request("POST", "/v1/batches?text=Hello", data=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"].startswith("Row 2 is no CSV")


def test_who_sends_a_byte_now_and_then_is_cut_off_too():
    here, there = socket.socketpair()
    done = threading.Event()

    def trickle():
        while not done.wait(0.1):
            try:
                there.sendall(b"x")
            except OSError:
                return

    sender = threading.Thread(target=trickle)
    with here, there:
        sender.start()
        body = Flowing(LengthReader(SocketUnreader(here), 1_000_000), here, Arrivals(0.5))
        # Of 512 bytes within a second only some come, and then the stream has ended.
        assert len(body.read(512)) < 50
        assert body.read(512) == b""
        done.set()
        sender.join(10)

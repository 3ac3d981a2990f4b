"""``smsapi serve`` as a process, with callers who never read, never end, send in trickles, or pack much into little."""

import gzip
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import orjson
import pytest
import requests

from tests.conftest import eventually, free_port
from tests.support.api import Remote
from tests.support.raw_http import exchange, head, read_answer
from tests.support.served import environment, make_key, serving
from tests.support.uploading import numbers

THREADS = 8
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def served(migrated_sqlite, tmp_path_factory):
    url = f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path_factory.mktemp('slow') / 'smsapi.db')}"
    small = {
        "SMSAPI_WORKERS": 1,
        "SMSAPI_THREADS": THREADS,
        "SMSAPI_DISPATCH_THREADS": 0,
        "SMSAPI_REQUEST_READ_SECONDS": 2,
        "SMSAPI_UPLOAD_SECONDS": 15,
    }
    with serving(environment(url, f"http://127.0.0.1:{free_port()}", **small)) as it:
        yield it


def caller_of(served, mode="live") -> Remote:
    return Remote(served.url, make_key(served.environ["SMSAPI_DATABASE_URL"], mode))


def is_served(served, seconds):
    return requests.get(f"{served.url}/healthz", timeout=seconds).status_code == 200


def connect(served, stack, *, receive=None):
    sock = stack.enter_context(socket.socket())
    if receive is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.settimeout(30)
    sock.connect(("127.0.0.1", served.port))
    return sock


GET = head("GET", b"/openapi.json", [])


def test_callers_who_never_read_do_not_stop_the_others(served):
    with ExitStack() as stack:
        for _ in range(140):
            sock = connect(served, stack, receive=4096)
            sock.setblocking(False)
            # As much as is taken; nothing of what comes back is ever read.
            with suppress(BlockingIOError):
                sock.sendall(GET * 60)
        # Every thread is met by one of them, again and again: a few stand still at a time, the others are cut off.
        assert is_served(served, 60)
        eventually(lambda: served.lines("slow_readers_cut_off"), seconds=60)
    assert is_served(served, 60)


def test_who_reads_slowly_and_goes_on_has_all_of_it(served):
    whole = requests.get(f"{served.url}/openapi.json", timeout=30).content
    with ExitStack() as stack:
        sock = connect(served, stack, receive=4096)
        sock.sendall(head("GET", b"/openapi.json", [("Connection", "close")]))
        found = b""
        while piece := sock.recv(8192):
            found += piece
            threading.Event().wait(0.01)
    assert found.endswith(whole)


def test_callers_who_do_not_end_their_connection_keep_nobody_waiting(served):
    """Each is left two seconds to see the end of its answer; one after the other that would be minutes."""
    with ExitStack() as stack:
        socks = [connect(served, stack) for _ in range(100)]
        for sock in socks:
            sock.sendall(head("GET", b"/healthz", [("Connection", "close")]))
        for sock in socks:
            assert read_answer(sock).status == 200
        began = time.monotonic()
        assert is_served(served, 30)
        assert time.monotonic() - began < 20
        for sock in socks:
            # And then it is over for them too, whatever they do.
            assert sock.recv(100) == b""


def most_memory_of(pid):
    """Return the most that the process ever held, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def test_little_that_unpacks_to_much_takes_little_memory(served):
    caller = caller_of(served)
    recipients = b",".join(b'{"to": "%s"}' % number.encode() for number in numbers(5_000))
    wide = b'{"text": "Hello", "recipients": [%s]%s}' % (recipients, b" " * (60 * MEBIBYTE))
    packed = gzip.compress(wide)
    assert len(packed) < MEBIBYTE
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    def send(body):
        return caller.request("POST", "/v1/batches", data=body, headers=headers)

    answer = send(gzip.compress(b'{"text": "Hello", "recipients": [%s]}' % recipients))
    assert (answer.status_code, answer.json()["total"]) == (202, 5_000)
    (worker,) = served.workers()
    before = most_memory_of(worker)
    with ThreadPoolExecutor(16) as threads:
        answers = [future.result(60) for future in [threads.submit(send, packed) for _ in range(16)]]
    assert {(each.status_code, each.json()["code"]) for each in answers} <= {
        (413, "body_too_large"),
        (503, "unavailable"),
    }
    # Two at a time are unpacked past a mebibyte, and each is given up at eight.
    assert most_memory_of(worker) - before < 120


@contextmanager
def trickling(served, key):
    """Upload a batch at five kibibytes or so a second until the block ends; give the socket, and how much it took.

    Less than one kibibyte a second would be cut off as too slow, and on a busy machine a trickle is thinner than it was
    meant to be.
    """
    stop = threading.Event()
    taken = []
    with ExitStack() as stack:
        sock = connect(served, stack)
        given = [("X-API-Key", key), ("Content-Type", "text/csv"), ("Transfer-Encoding", "chunked")]
        sock.sendall(head("POST", b"/v1/batches?text=Hello", given) + b"3\r\nto\n\r\n")

        def trickle():
            line = f"{numbers(1)[0]}\n".encode()
            with suppress(OSError):
                while not stop.wait(0.1):
                    sock.sendall(b"%x\r\n" % (40 * len(line)) + 40 * line + b"\r\n")
                    taken.append(40 * len(line))

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            yield sock, taken
        finally:
            stop.set()
            sender.join(10)


def long_file():
    return b"to,spare\n" + b"".join(f"{number},{'x' * 400}\n".encode() for number in numbers(4_000))


def upload(caller):
    return caller.request("POST", "/v1/batches?text=Hello", data=long_file(), headers={"Content-Type": "text/csv"})


def test_one_client_cannot_keep_the_others_from_uploading(served):
    slow, other = caller_of(served, "test"), caller_of(served)
    with ExitStack() as stack:
        trickles = [stack.enter_context(trickling(served, slow.key)) for _ in range(4)]
        # At least five seconds' worth: each is slow by now, and one of them has all that one client may have. To ask by
        # uploading any sooner could take that away from all four.
        eventually(lambda: all(sum(taken) > 50 * 40 * 13 for _, taken in trickles))
        assert upload(slow).status_code == 503
        assert upload(other).status_code == 202
        assert is_served(served, 30)
        # It goes on, and still has an end; the others were sent away.
        assert sorted(read_answer(sock).status for sock, _ in trickles) == [408, 503, 503, 503]
    eventually(lambda: upload(slow).status_code == 202, seconds=30)


def test_an_upload_has_an_end_however_steadily_it_comes(served):
    caller = caller_of(served)
    with trickling(served, caller.key) as (sock, _):
        began = time.monotonic()
        answer = read_answer(sock)
        assert (answer.status, answer.code) == (408, "body_incomplete")
        assert "15 s" in orjson.loads(answer.body)["detail"]
        assert time.monotonic() - began >= 12
    assert upload(caller).status_code == 202
    assert exchange(served.port, [head("GET", b"/healthz", [])]).status == 200

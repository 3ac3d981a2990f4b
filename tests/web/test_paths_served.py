"""Paths and bodies as ``smsapi serve`` takes them: however a path is written, no body is called whole that is not."""

import gzip
import shutil
import socket
from itertools import product

import orjson
import pytest

from smsapi.db import Database
from tests.conftest import free_port
from tests.support.api import Remote
from tests.support.contract import check_answer, spec
from tests.support.far_side import count_rows
from tests.support.raw_http import RawAnswer, exchange, head, read_answer
from tests.support.served import caller_of, environment, serving
from tests.support.uploading import left_behind, numbers

ROWS = 500
CHUNKED = ("Transfer-Encoding", "chunked")
# 1.4 MiB: more than any body that the server itself holds.
BATCH = b"to,spare\n" + b"".join(f"{number},{'x' * 2_700}\n".encode() for number in numbers(ROWS))
OPT_OUTS = b"number\n" + b"".join(f"{number}\n".encode() for number in numbers(ROWS, start=ROWS))
# Slashes at the beginning are one, and so is what stands for a slash there: a base URL often ends in one.
LEADING = [b"/v1", b"//v1", b"///v1", b"/%2fv1", b"/%2Fv1", b"http://localhost/v1", b"http://localhost//v1"]
NOWHERE = [
    *(b"/./v1/%s", b"/v1/./%s", b"/v1//%s", b"/v1/%%2f%s", b"/v1/%%2e/%s", b"/v1/%s/", b"/v1/%s%%2f", b"/v1/%s//"),
    *(b"/x/../v1/%s", b"/V1/%s", b"/v1/%s;x=1", b"/v1/%s%%00", b"/%%00/v1/%s", b"/v1/%s%%20"),
]


@pytest.fixture(scope="module")
def served(migrated_sqlite, tmp_path_factory):
    """One service for all of the module; nothing is sent, so that nobody has to play Plivo."""
    url = f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path_factory.mktemp('served') / 'smsapi.db')}"
    small = {"SMSAPI_WORKERS": 1, "SMSAPI_THREADS": 8, "SMSAPI_DISPATCH_THREADS": 0, "SMSAPI_REQUEST_READ_SECONDS": 2}
    with serving(environment(url, f"http://127.0.0.1:{free_port()}", **small)) as it:
        yield it


@pytest.fixture(scope="module")
def caller(served) -> Remote:
    return caller_of(served)


@pytest.fixture
def store(served):
    opened = Database(served.environ["SMSAPI_DATABASE_URL"])
    yield opened
    opened.close()


def in_chunks(body, size=20_000):
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def send(served, caller, target, body, *, chunked, packed=False, method="POST", kind="text/csv") -> RawAnswer:
    content = gzip.compress(body) if packed else body
    framing = CHUNKED if chunked else ("Content-Length", str(len(content)))
    given = [("X-API-Key", caller.key), ("Content-Type", kind), framing]
    if packed:
        given.append(("Content-Encoding", "gzip"))
    return exchange(served.port, [head(method, target, given), *(in_chunks(content) if chunked else [content])])


@pytest.mark.parametrize("leading", LEADING)
def test_a_batch_is_taken_whole_however_its_path_begins(served, caller, leading):
    for chunked, packed in product((True, False), repeat=2):
        answer = send(served, caller, leading + b"/batches?text=Hello", BATCH, chunked=chunked, packed=packed)
        assert answer.status == 202, answer.body
        found = orjson.loads(answer.body)
        assert (found["total"], found["accepted"], found["rejected"]) == (ROWS, ROWS, 0)
    many = b"".join(b'{"to": "%s"}\n' % number.encode() for number in numbers(ROWS))
    kind = "application/x-ndjson"
    answer = send(served, caller, leading + b"/batches?text=Hello", many, chunked=True, kind=kind)
    assert orjson.loads(answer.body)["total"] == ROWS


@pytest.mark.parametrize("leading", LEADING)
def test_opt_outs_are_imported_whole_however_the_path_begins(served, caller, leading):
    target = leading + b"/opt-outs/import"
    for chunked in (True, False):
        answer = send(served, caller, target, OPT_OUTS, chunked=chunked)
        found = orjson.loads(answer.body)
        assert (answer.status, found["added"] + found["already"], found["rejected"]) == (200, ROWS, 0)
        too_long = b"number\n" + b"+14155550123\n" * 90_000
        answer = send(served, caller, target, too_long, chunked=chunked)
        assert (answer.status, answer.code) == (413, "body_too_large")


def test_a_path_that_is_written_otherwise_leads_nowhere(served, caller, store):
    before = left_behind(store)
    for pattern, (route, body) in product(NOWHERE, ((b"batches", BATCH), (b"opt-outs/import", OPT_OUTS))):
        target = pattern % route
        answer = send(served, caller, target + b"?text=Hello", body, chunked=True)
        assert answer.status in {404, 405}, target
        assert answer.headers["content-type"] == "application/problem+json"
    assert left_behind(store) == before


def test_other_paths_begin_alike(served, caller):
    """A base URL that ends in a slash, as many do, makes two of them at the beginning of every path."""
    for leading in LEADING:
        answer = exchange(served.port, [head("GET", leading + b"/messages", [("X-API-Key", caller.key)])])
        assert answer.status == 200, leading
    for path in (b"/", b"/v1", b"/v1/", b"//v1/", b"/v1/messages/", b"/healthz/", b"/docs/", b"/v1//messages"):
        for method in ("GET", "POST", "PUT", "DELETE", "TRACE"):
            answer = exchange(served.port, [head(method, path, [("X-API-Key", caller.key), ("Content-Length", "0")])])
            assert answer.status in {404, 405}, (method, path)
            check_answer(method, path.decode(), 404, answer.headers["content-type"], answer.body)


def half_sent(served, content) -> RawAnswer:
    """Send that much, say that nothing more comes, and read what is answered."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


def routes_with_a_body():
    for path, methods in spec()["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation and not path.startswith("/plivo/"):
                yield method.upper(), path, list(operation["requestBody"]["content"])


def test_a_body_that_is_cut_off_is_an_error_on_every_route(served, caller, store):
    before = left_behind(store) | {"clients": count_rows(store, "clients"), "api_keys": count_rows(store, "api_keys")}
    looks_whole = {
        "application/json": b'{"text": "Hello", "to": "+14155550123", "recipients": [{"to": "+14155550123"}]}',
        "application/x-www-form-urlencoded": b"grant_type=client_credentials&scope=",
        "text/csv": b"to,number\n+14155550123,+14155550123\n",
        "application/x-ndjson": b'{"to": "+14155550123"}\n',
    }
    told = set()
    for method, path, kinds in routes_with_a_body():
        for kind in kinds:
            body = looks_whole[kind]
            target = path.replace("{number}", "+14155550123").encode()
            target = target.replace(b"}", b"_" + b"0" * 32).replace(b"{", b"")
            if kind in {"text/csv", "application/x-ndjson"} and b"batches" in target:
                target += b"?text=Hello"
            given = [("X-API-Key", caller.key), ("Content-Type", kind)]
            announced = head(method, target, [*given, ("Content-Length", str(len(body) + 1))]) + body
            piece = f"{len(body):x}\r\n".encode() + body + b"\r\n"
            chunked = head(method, target, [*given, CHUNKED]) + piece
            for content in (announced, chunked, chunked + b"0\r\n", chunked[:-1], chunked + b"20\r\nabc"):
                answer = half_sent(served, content)
                kind_of_answer = answer.headers["content-type"]
                check_answer(method, target.decode().partition("?")[0], answer.status, kind_of_answer, answer.body)
                assert answer.status in {404, 408}, (method, path, kind, content[-20:], answer)
                told.add((path, answer.status))
    # Who is asked for something of somebody else's need not read on.
    assert {path for path, status in told if status == 404} <= {path for path in spec()["paths"] if "_id}" in path}
    after = left_behind(store) | {"clients": count_rows(store, "clients"), "api_keys": count_rows(store, "api_keys")}
    assert after == before


UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]


def test_whatever_keeps_a_request_from_its_route_allow_names_all_methods_of_the_path(served):
    for path, methods in spec()["paths"].items():
        target = path.replace("{", "x").replace("}", "x").encode()
        documented = {method.upper() for method in methods}
        for method, headers in (("TRACE", []), ("BREW", []), *((each, UPGRADE) for each in documented)):
            answer = exchange(served.port, [head(method, target, [*headers, ("Content-Length", "0")])])
            if headers and answer.status == 400:
                continue  # an upgrade is not what HTTP's own method was asked for: it is told so, and nothing is done
            assert answer.status == 405, (method, path)
            allowed = set(answer.headers["allow"].split(", "))
            assert documented <= allowed, (method, path, allowed)
            assert allowed - documented <= {"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"}
            assert method in documented or method not in allowed

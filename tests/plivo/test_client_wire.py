"""What a network and a far side can do to one call."""

import logging
import socket
import ssl
import subprocess
import threading
from time import monotonic

import pytest

from smsapi.plivo import wire as wire_module
from smsapi.plivo.client import PlivoProvider
from smsapi.plivo.outcomes import Accepted, Outgoing, Unavailable, Unknown, shows_life
from tests.plivo.far_side import ACCEPTED, UUID, FarSide, Request, Wire, accept_everything

MESSAGE = Outgoing(message_id="msg_1", to="+14155552671", sender="ACME", text="Your order has left")
HEAD = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"


def provider_for(origin: str, **keywords) -> PlivoProvider:
    return PlivoProvider(auth_id="MA0123456789ABCDEFGH", auth_token="token", base_url=origin, **keywords)


def hurried(origin: str, **keywords) -> PlivoProvider:
    times = {"connect_timeout_seconds": 0.5, "read_timeout_seconds": 0.4, "total_timeout_seconds": 0.8}
    return provider_for(origin, **{**times, **keywords})


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_refused_connection_is_unavailable():
    assert provider_for(f"http://127.0.0.1:{refused_port()}").send(MESSAGE) == Unavailable("the connection was refused")


def test_a_name_that_cannot_be_one_is_unavailable():
    assert isinstance(provider_for(f"http://{'x' * 64}.invalid").send(MESSAGE), Unavailable)


def test_a_far_side_that_does_not_take_the_connection_is_unavailable():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            started = monotonic()
            outcome = hurried(f"http://127.0.0.1:{full.getsockname()[1]}").send(MESSAGE)
        finally:
            for sock in waiting:
                sock.close()
    assert outcome == Unavailable("connecting timed out")
    assert monotonic() - started < 25


def test_every_address_of_a_name_is_tried():
    with FarSide() as far:
        assert provider_for(f"http://localhost:{far.port}").send(MESSAGE) == Accepted(UUID)


def test_a_far_side_that_does_not_speak_tls_is_unavailable():
    def shout(wire: Wire) -> None:
        wire.sock.recv(4096)
        wire.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with FarSide(on_connect=shout) as far:
        outcome = provider_for(f"https://127.0.0.1:{far.port}").send(MESSAGE)
    assert outcome == Unavailable("TLS failed")


def test_a_handshake_that_is_never_answered_is_unavailable():
    with FarSide(on_connect=Wire.hang) as far:
        started = monotonic()
        outcome = hurried(f"https://127.0.0.1:{far.port}").send(MESSAGE)
    assert outcome == Unavailable("connecting timed out")
    assert monotonic() - started < 25


def test_a_reset_before_anything_was_read_is_never_taken_for_an_answer():
    with FarSide(on_connect=Wire.reset) as far:
        outcome = provider_for(far.origin).send(MESSAGE)
        assert far.requests == []
    assert isinstance(outcome, Unavailable | Unknown)


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (Wire.reset, "the connection was reset"),
        (Wire.close, "the connection was closed without an answer"),
    ],
)
def test_a_connection_that_ends_after_the_request_is_unknown_and_not_tried_again(leave, reason):
    with FarSide(lambda wire, _: leave(wire)) as far:
        assert provider_for(far.origin).send(MESSAGE) == Unknown(reason)
        assert (len(far.requests), far.connections) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        HEAD + b"Content-Length: 500\r\n\r\n" + ACCEPTED,
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"mes',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 202 Accepted\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    ],
)
def test_an_answer_that_is_broken_is_unknown(answer):
    def script(wire: Wire, request: Request) -> None:
        wire.write(answer)
        wire.sock.shutdown(socket.SHUT_WR)
        wire.hang()

    with FarSide(script) as far:
        outcome = provider_for(far.origin, read_timeout_seconds=2).send(MESSAGE)
        assert len(far.requests) == 1
    assert isinstance(outcome, Unknown)
    assert outcome.status is None


def test_silence_is_unknown_after_the_read_time_out():
    with FarSide(lambda wire, _: wire.hang()) as far:
        started = monotonic()
        outcome = hurried(far.origin, total_timeout_seconds=30).send(MESSAGE)
        assert len(far.requests) == 1
    assert outcome == Unknown("waiting for the answer timed out")
    assert monotonic() - started < 25


@pytest.mark.parametrize(
    ("at_once", "dripped"),
    [
        (b"", HEAD * 100),
        (HEAD, b"X-Slow: " + b"y" * 2000),
        (HEAD + b"Content-Length: 2000\r\n\r\n", b" " * 2000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 500),
        (HEAD + b"\r\n", b" " * 2000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
)
def test_a_far_side_that_drips_cannot_hold_a_call_past_its_total_time(at_once, dripped):
    def script(wire: Wire, request: Request) -> None:
        wire.write(at_once)
        wire.drip(dripped)

    with FarSide(script) as far:
        started = monotonic()
        outcome = hurried(far.origin).send(MESSAGE)
        elapsed = monotonic() - started
        assert len(far.requests) == 1
    assert outcome == Unknown("waiting for the answer timed out")
    assert 0.7 < elapsed < 25


def test_a_slow_answer_within_its_time_is_read():
    def script(wire: Wire, request: Request) -> None:
        wire.drip(HEAD + b"Content-Length: %d\r\n\r\n" % len(ACCEPTED) + ACCEPTED, 0.001)

    with FarSide(script) as far:
        assert provider_for(far.origin).send(MESSAGE) == Accepted(UUID)


@pytest.mark.parametrize("framing", [b"Content-Length: 10000000\r\n\r\n", b"\r\n"])
def test_a_huge_body_is_not_read_to_its_end(framing):
    written: list[int] = []

    def script(wire: Wire, request: Request) -> None:
        wire.write(HEAD + framing)
        for _ in range(1000):
            wire.write(b" " * 10_000)
            written.append(10_000)

    with FarSide(script) as far:
        assert provider_for(far.origin).send(MESSAGE) == Unknown("the answer is too large")
    assert sum(written) < 10_000_000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/elsewhere", "http://[", "ftp://example"])
def test_a_redirect_is_not_followed(status, location):
    def script(wire: Wire, request: Request) -> None:
        wire.answer(status, b"", {"Location": location})

    with FarSide(script) as far:
        outcome = provider_for(far.origin).send(MESSAGE)
        assert len(far.requests) == 1
    assert isinstance(outcome, Unknown)
    assert outcome.status == status


def answer_chunked(wire: Wire, request: Request) -> None:
    wire.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ACCEPTED), ACCEPTED))


def answer_503(wire: Wire, request: Request) -> None:
    wire.answer(503, b"<html>")


@pytest.mark.parametrize("script", [accept_everything, answer_chunked, answer_503])
def test_a_connection_is_used_again(script):
    with FarSide(script) as far:
        provider = provider_for(far.origin)
        for _ in range(5):
            provider.send(MESSAGE)
        assert (len(far.requests), far.connections) == (5, 1)


def test_a_connection_that_the_far_side_closed_while_idle_is_not_written_to():
    def script(wire: Wire, request: Request) -> None:
        wire.answer(202, ACCEPTED)
        wire.sock.shutdown(socket.SHUT_RDWR)

    with FarSide(script) as far:
        provider = provider_for(far.origin)
        for sent in range(1, 4):
            assert provider.send(MESSAGE) == Accepted(UUID)
            assert len(far.requests) == sent
            far.wait_until_ended(sent)
        assert far.connections == 3


def test_a_connection_that_was_long_idle_is_not_trusted(monkeypatch):
    monkeypatch.setattr(wire_module, "IDLE_SECONDS", 0.0)
    with FarSide() as far:
        provider = provider_for(far.origin)
        assert [provider.send(MESSAGE) for _ in range(2)] == [Accepted(UUID)] * 2
        assert far.connections == 2


def test_a_connection_with_an_unread_rest_is_not_used_again():
    def script(wire: Wire, request: Request) -> None:
        wire.answer(
            202,
            ACCEPTED + b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            {"Content-Length": str(len(ACCEPTED))},
        )

    with FarSide(script) as far:
        provider = provider_for(far.origin)
        assert [provider.send(MESSAGE) for _ in range(3)] == [Accepted(UUID)] * 3


def test_close_ends_the_connections_and_a_later_send_opens_new_ones():
    with FarSide() as far:
        provider = provider_for(far.origin)
        provider.send(MESSAGE)
        provider.close()
        assert provider.send(MESSAGE) == Accepted(UUID)
        assert far.connections == 2
    provider_for(far.origin).close()


def test_sixteen_threads_share_sixteen_connections(caplog):
    caplog.set_level(logging.WARNING)
    together = threading.Barrier(16)
    outcomes: list[object] = []

    def script(wire: Wire, request: Request) -> None:
        together.wait(10)
        wire.answer(202, ACCEPTED)

    with FarSide(script) as far:
        provider = provider_for(far.origin, pool_size=16)

        def send_some() -> None:
            outcomes.extend(provider.send(MESSAGE) for _ in range(5))

        in_threads(16, send_some)
        assert (len(far.requests), far.connections) == (80, 16)
    assert outcomes == [Accepted(UUID)] * 80
    assert caplog.records == []


def in_threads(count: int, target) -> None:
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_one_call_too_many_waits_and_then_is_unavailable_without_blaming_the_far_side():
    busy, finish = threading.Event(), threading.Event()

    def script(wire: Wire, request: Request) -> None:
        busy.set()
        finish.wait(10)
        wire.answer(202, ACCEPTED)

    with FarSide(script) as far:
        provider = provider_for(far.origin, pool_size=1, connect_timeout_seconds=0.1)
        first = threading.Thread(target=provider.send, args=(MESSAGE,))
        first.start()
        assert busy.wait(10)
        outcome = provider.send(MESSAGE)
        assert outcome == Unavailable("every connection to the far side is in use", local=True)
        assert shows_life(outcome) is None
        finish.set()
        first.join(10)
        assert len(far.requests) == 1


def test_cookies_are_neither_kept_nor_sent():
    def script(wire: Wire, request: Request) -> None:
        wire.answer(202, ACCEPTED, {"Set-Cookie": "a=b; Path=/"})

    with FarSide(script) as far:
        provider = provider_for(far.origin)
        provider.send(MESSAGE)
        provider.send(MESSAGE)
        assert ["cookie" in request.headers for request in far.requests] == [False, False]


def test_the_environments_proxy_is_not_used(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{refused_port()}")
    with FarSide() as far:
        assert provider_for(far.origin).send(MESSAGE) == Accepted(UUID)


def test_a_given_proxy_is_used_within_the_same_deadline():
    def script(wire: Wire, request: Request) -> None:
        if len(far.requests) == 1:
            wire.answer(202, ACCEPTED)
        wire.drip(HEAD * 100)

    with FarSide(script) as far:
        provider = hurried("http://plivo.invalid", proxy_url=far.origin)
        assert provider.send(MESSAGE) == Accepted(UUID)
        assert far.requests[0].target == "http://plivo.invalid/v1/Account/MA0123456789ABCDEFGH/Message/"
        started = monotonic()
        assert isinstance(provider.send(MESSAGE), Unknown)
        assert monotonic() - started < 25


def test_a_proxy_that_refuses_or_drips_its_tunnel_is_unavailable():
    def refuse(wire: Wire, request: Request) -> None:
        wire.answer(407)

    with FarSide(refuse) as far:
        outcome = hurried("https://plivo.invalid", proxy_url=far.origin).send(MESSAGE)
        assert far.requests[0].method == "CONNECT"
        assert isinstance(outcome, Unavailable)
    with FarSide(lambda wire, _: wire.drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000)) as far:
        started = monotonic()
        assert isinstance(hurried("https://plivo.invalid", proxy_url=far.origin).send(MESSAGE), Unavailable)
        assert monotonic() - started < 25


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return str(cert), context


def test_a_certificate_is_checked_against_the_given_bundle(certificate):
    ca_file, tls = certificate
    with FarSide(tls=tls) as far:
        assert provider_for(far.origin).send(MESSAGE) == Unavailable("TLS failed")
        assert far.requests == []
        provider = provider_for(far.origin, ca_file=ca_file)
        assert [provider.send(MESSAGE) for _ in range(3)] == [Accepted(UUID)] * 3
        assert (len(far.requests), far.connections) == (3, 1)


def test_a_bundle_that_is_not_there_is_unavailable():
    assert isinstance(provider_for("https://127.0.0.1:1", ca_file="no-such-file.pem").send(MESSAGE), Unavailable)


def test_dripping_inside_tls_ends_with_the_total_time(certificate):
    ca_file, tls = certificate
    with FarSide(lambda wire, _: wire.drip(HEAD * 100), tls=tls) as far:
        started = monotonic()
        outcome = hurried(far.origin, ca_file=ca_file).send(MESSAGE)
        elapsed = monotonic() - started
    assert isinstance(outcome, Unknown)
    assert elapsed < 25

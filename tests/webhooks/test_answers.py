"""What counts as a receiver's answer: the status that ends it, once it is there, from whom the URL names."""

import ssl
import subprocess
import threading

import pytest

from smsapi.webhooks.wire import post
from tests.webhooks.test_addresses import HERE, talker

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>\r\n\r\n"


@pytest.mark.parametrize("before", [HINTS, b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS + HINTS])
def test_what_only_announces_an_answer_is_passed_over(before):
    reply = post(talker(lambda peer: peer.sendall(before + OK)), b"{}", {}, networks=HERE)
    assert (reply.status, reply.error) == (200, None)


def test_who_announces_for_ever_is_not_waited_for():
    def announce(peer):
        try:
            while True:
                peer.sendall(HINTS * 100)
        except OSError:
            pass

    assert post(talker(announce), b"{}", {}, networks=HERE).status is None


def test_an_answer_without_an_end_is_as_fast_as_its_status():
    released = threading.Event()

    def never_end(peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\nthat is")
        released.wait(10)

    reply = post(talker(never_end), b"{}", {}, networks=HERE)
    # Had the end been waited for, it would have been the deadline of fifteen seconds, or the ten above.
    assert not released.is_set()
    released.set()
    assert reply.status == 200
    assert reply.milliseconds < 2000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody but itself vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return str(cert), context


def tls_talker(context, heard):
    def talk(peer):
        try:
            with context.wrap_socket(peer, server_side=True) as wrapped:
                said = b""
                # What is not read when it hangs up would cut its answer off.
                while not said.endswith(b"{}"):
                    said += wrapped.recv(65536)
                heard.append(said)
                wrapped.sendall(OK)
        except OSError:
            pass

    return talker(talk, first=False).replace("http://", "https://")


def test_a_certificate_that_nobody_vouches_for_is_refused_and_nothing_is_said(certificate):
    heard = []
    reply = post(tls_talker(certificate[1], heard), b"{}", {}, networks=HERE)
    assert (reply.status, reply.error, heard) == (None, "the certificate could not be verified", [])


def test_one_that_is_vouched_for_is_taken_and_only_for_its_own_name(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    heard = []
    url = tls_talker(certificate[1], heard)
    assert post(url, b"{}", {}, networks=HERE).status == 200
    elsewhere = tls_talker(certificate[1], heard).replace("127.0.0.1", "localhost")
    assert post(elsewhere, b"{}", {}, networks=HERE).error == "the certificate could not be verified"
    assert len(heard) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.0 200\r\nConnection: close\r\n\r\n",
        HINTS + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_an_answer_in_chunks_or_of_http_1_0_counts_by_its_status(said):
    reply = post(talker(lambda peer: peer.sendall(said)), b"{}", {}, networks=HERE)
    assert (reply.status, reply.error) == (200, None)

"""Where a webhook may go: nothing of our own network, by whatever name or form it is written."""

import socket
import threading
from ipaddress import ip_network

import pytest

from smsapi.webhooks.addresses import check_url, is_allowed
from smsapi.webhooks.wire import post
from tests.webhooks.receiver import Receiver

HERE = (ip_network("127.0.0.0/8"),)
DENIED = (
    *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
    *("100.100.100.200", "169.254.169.254", "168.63.129.16", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.9", "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0"),
    *("fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
    *("2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "100::1", "not an address"),
)


@pytest.mark.parametrize("address", DENIED)
def test_an_address_that_is_not_public_is_refused(address):
    assert not is_allowed(address, ())


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_a_public_address_is_allowed(address):
    assert is_allowed(address, ())


def test_a_setting_allows_its_networks_and_no_others():
    assert is_allowed("127.0.0.1", HERE)
    assert is_allowed("::ffff:127.0.0.1", HERE)
    assert not is_allowed("10.0.0.1", HERE)
    assert not is_allowed("::1", HERE)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "https://", "https:///x", "example.com", "//example.com"),
        *("https://user@example.com/", "https://u:p@example.com/", "https://example.com/#here", "https://example.com#"),
        *("https://example.com:0/", "https://example.com:70000/", "https://exa mple.com/", "https://exämple.com/"),
        *("https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://-a.com/", "https://a..b/"),
        *("https://169.254.169.254/latest/meta-data", "https://[fe80::1%25eth0]/", "https://[v1.x]/", "https://[/"),
        "https://example.com/\r\nX: y",
        "https://example.com/" + "a" * 2000,
    ],
)
def test_a_url_that_leads_nowhere_good_is_refused_before_anything_is_stored(url):
    with pytest.raises(ValueError):
        check_url(url, ())


@pytest.mark.parametrize("url", ["https://example.com", "https://a_b.example.com:8443/x?y=z", "https://1.1.1.1/hook"])
def test_a_good_url_is_taken(url):
    assert check_url(url, ()).scheme == "https"


def test_without_tls_only_the_networks_of_the_setting_are_taken():
    assert check_url("http://127.0.0.1:8080/", HERE).port == 8080
    with pytest.raises(ValueError):
        check_url("http://1.1.1.1/", HERE)


DEFAULT = ((443, 443), (80, 80), (8000, 9999))


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.com/", True),
        ("https://example.com:443/", True),
        ("https://example.com:80/", True),
        ("https://example.com:8000/", True),
        ("https://example.com:9999/", True),
        ("https://example.com:7999/", False),
        ("https://example.com:10000/", False),
        ("https://example.com:22/", False),
        ("https://example.com:25/", False),
        ("https://example.com:6379/", False),
    ],
)
def test_only_the_ports_of_the_setting_are_taken(url, good):
    if good:
        assert check_url(url, (), DEFAULT).hostname == "example.com"
    else:
        with pytest.raises(ValueError, match="port"):
            check_url(url, (), DEFAULT)


def test_an_endpoint_at_another_port_is_refused_and_an_old_one_is_not_called(make_app, make_caller):
    caller = make_caller(make_app())
    refused = caller.post("/v1/webhook-endpoints", {"url": "https://example.com:6379/"})
    assert [error["pointer"] for error in refused.get_json()["errors"]] == ["/url"]
    reply = post("https://192.0.2.1:6379/", b"{}", {}, networks=(), ports=DEFAULT)
    assert reply.status is None


@pytest.fixture
def connections():
    """A server that counts who connects; nobody may."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "localhost."]
)
def test_a_name_or_form_that_leads_here_is_not_connected_to(connections, host):
    port = connections.getsockname()[1]
    reply = post(f"https://{host}:{port}/", b"{}", {}, networks=())
    assert reply.status is None
    assert reply.error in {"the address is not allowed", "the name could not be resolved", "the URL is not allowed"}
    with pytest.raises(TimeoutError):
        connections.accept()


def test_the_name_stays_in_the_request_while_the_checked_address_is_connected_to():
    with Receiver() as receiver:
        reply = post(f"http://localhost:{receiver.port}/x?y=z", b"{}", {"A": "b"}, networks=HERE)
        assert (reply.status, reply.error) == (204, None)
        assert receiver.asked[0].headers["host"] == f"localhost:{receiver.port}"
        assert receiver.asked[0].path == "/x?y=z"


def talker(say, *, first=True):
    """A server on a raw socket that lets ``say`` talk to whoever connects, once it has heard something first."""
    server = socket.create_server(("127.0.0.1", 0))

    def talk():
        with server, server.accept()[0] as peer:
            if first:
                peer.recv(65536)
            say(peer)

    threading.Thread(target=talk, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}/"


def drip(peer):
    try:
        peer.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            peer.sendall(b"X")
            threading.Event().wait(0.02)
    except OSError:
        pass


def flood(peer):
    try:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1600):
            peer.sendall(b"x" * 65536)
    except OSError:
        pass


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for():
    reply = post(talker(drip), b"{}", {}, networks=HERE, total_seconds=0.3)
    assert (reply.status, reply.error) == (None, "timed out")


def test_a_huge_answer_is_not_read():
    assert post(talker(flood), b"{}", {}, networks=HERE).status == 200


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", "the answer is not HTTP"),
    ],
)
def test_what_is_no_answer_is_a_failure_with_a_reason(said, error):
    reply = post(talker(lambda peer: peer.sendall(said)), b"{}", {}, networks=HERE)
    assert (reply.status, reply.error) == (None, error)

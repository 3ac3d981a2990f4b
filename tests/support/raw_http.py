"""HTTP as bytes on a socket, for what no client library would send."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPResponse

import orjson


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Return the problem's code."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(orjson.loads(self.body)["code"])


def exchange(port: int, chunks: Iterable[bytes]) -> RawAnswer:
    """Send the chunks for as long as the far side takes them, and read one answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        # An answer may come before all is sent, and the rest of it is then refused.
        with suppress(ConnectionError):
            for chunk in chunks:
                connection.sendall(chunk)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> RawAnswer:
    """Read one answer."""
    response = HTTPResponse(connection)
    response.begin()
    return RawAnswer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def head(method: str, target: bytes, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a request's first line and headers, as they are given, with Host and the empty line."""
    lines = [f"{name}: {value}".encode("latin-1") for name, value in (("Host", "localhost"), *headers)]
    return b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", b""])

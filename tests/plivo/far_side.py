"""A far side that misbehaves: a server on raw sockets, so that it can say what no HTTP library would let it say."""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

UUID = "0b5c1c3e-7f1d-4a86-9a3e-5c0f0f3b9d21"
ACCEPTED = json.dumps({"api_id": "a", "message": "message(s) queued", "message_uuid": [UUID]}).encode()


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One accepted connection."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self.sock = sock
        self._stopping = stopping
        self._reader = sock.makefile("rb")

    def read_request(self) -> Request | None:
        start = self._reader.readline().decode().split()
        if not start:
            return None
        headers = {}
        while line := self._reader.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Request(start[0], start[1], headers, self._reader.read(int(headers.get("content-length", "0"))))

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.write(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body)

    def drip(self, data: bytes, gap_seconds: float = 0.05) -> None:
        """Send one byte at a time, until done or stopped."""
        for byte in data:
            self.write(bytes([byte]))
            if self._stopping.wait(gap_seconds):
                return

    def hang(self) -> None:
        """Say nothing more while the server lives."""
        self._stopping.wait()

    def close(self) -> None:
        self._reader.close()
        self.sock.close()

    def reset(self) -> None:
        """Close with an RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def accept_everything(wire: Wire, request: Request) -> None:
    wire.answer(202, ACCEPTED)


class FarSide:
    """Listens on 127.0.0.1 and runs ``script`` for each request, or ``on_connect`` for each connection."""

    def __init__(
        self,
        script: Callable[[Wire, Request], None] = accept_everything,
        *,
        on_connect: Callable[[Wire], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.ended = 0
        self._ended = threading.Condition()
        self._script = script
        self._on_connect = on_connect
        self._tls = tls
        self._stopping = threading.Event()
        self._wires: list[Wire] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        # shutdown() wakes a thread that is blocked in accept() or recv(); close() alone does not.
        for sock in [self._listener, *(wire.sock for wire in self._wires)]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
        for wire in self._wires:
            wire.close()

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        # What the client hangs up on, or the test's end, is no failure of the server's.
        with suppress(OSError, ValueError):
            if self._tls is not None:
                try:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                except OSError:
                    sock.close()
                    return
            wire = Wire(sock, self._stopping)
            self._wires.append(wire)
            self.connections += 1
            if self._on_connect is not None:
                self._on_connect(wire)
                return
            while (request := wire.read_request()) is not None:
                self.requests.append(request)
                self._script(wire, request)
            self._note_end()

    def _note_end(self) -> None:
        with self._ended:
            self.ended += 1
            self._ended.notify_all()

    def wait_until_ended(self, count: int) -> None:
        """Wait until that many connections have come to their end."""
        with self._ended:
            assert self._ended.wait_for(lambda: self.ended >= count, 10)

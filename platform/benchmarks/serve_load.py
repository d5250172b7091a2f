"""A lean HTTP load generator: prepared bytes out, whole responses in, nothing parsed but lengths.

It leaves nearly all of the time of an exchange to the server, and keeps several connections busy
from one thread.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass, field

import numpy as np

from ...simulators.interface import Doubles


class BadAnswerError(Exception):
    """The server closed, or answered with another status than 200."""


def post(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a keep-alive POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(slots=True)
class Connection:
    """One kept-alive connection with its unread bytes."""

    socket: socket.socket
    pending: bytearray = field(default_factory=bytearray)
    sent: float = 0.0

    @classmethod
    def open(cls, host: str, port: int) -> Connection:
        """Connect without Nagle's delay."""
        opened = socket.create_connection((host, port), timeout=10.0)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(opened)

    def send(self, payload: bytes) -> None:
        self.sent = time.perf_counter()
        self.socket.sendall(payload)

    def receive(self) -> bytes | None:
        """Read what is there; the body once a response is whole.

        Raises:
            BadAnswerError: closed, or not 200.
        """
        data = self.socket.recv(1 << 20)
        if not data:
            raise BadAnswerError("the server closed the connection")
        self.pending += data
        end = self.pending.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.pending[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise BadAnswerError(bytes(self.pending[:400]).decode("latin-1"))
        length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self.pending) < end + 4 + length:
            return None
        body = bytes(self.pending[end + 4 : end + 4 + length])
        del self.pending[: end + 4 + length]
        return body

    def exchange(self, payload: bytes) -> bytes:
        """Send and wait for the whole answer."""
        self.send(payload)
        while (body := self.receive()) is None:
            pass
        return body

    def close(self) -> None:
        self.socket.close()


def latencies(host: str, port: int, payload: bytes, *, count: int, warm: int) -> Doubles:
    """Seconds of ``count`` exchanges one after another on one connection, after ``warm`` others."""
    connection = Connection.open(host, port)
    try:
        for _ in range(warm):
            connection.exchange(payload)
        found = np.empty(count)
        for index in range(count):
            connection.exchange(payload)
            found[index] = time.perf_counter() - connection.sent
        return found
    finally:
        connection.close()


def throughput(
    host: str, port: int, payload: bytes, *, connections: int, seconds: float
) -> tuple[float, Doubles]:
    """Answers per second with every connection always waiting for one, and their latencies."""
    opened = [Connection.open(host, port) for _ in range(connections)]
    found: list[float] = []
    with selectors.DefaultSelector() as selector:
        for connection in opened:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(payload)
        start = time.perf_counter()
        while (now := time.perf_counter()) - start < seconds:
            for key, _ in selector.select(timeout=1.0):
                connection: Connection = key.data
                if connection.receive() is not None:
                    now = time.perf_counter()
                    found.append(now - connection.sent)
                    connection.send(payload)
    elapsed = time.perf_counter() - start
    for connection in opened:
        connection.close()
    return len(found) / elapsed, np.array(found)

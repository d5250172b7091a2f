"""uvicorn's protocol with what it lacks: time to receive, size of headers, number of connections.

uvicorn 0.54 leaves a half-sent header or body, and a connection that says nothing, open for ever,
and takes a header of any size (measured; its issue 157 asks for it since 2018). Middleware cannot
help: it first sees a request when the header is complete. So the guard sits in the protocol class,
and leans on names of ``HttpToolsProtocol``; the attack table in the tests holds them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any, Literal, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .interface import Meter

_LOG = logging.getLogger(__name__)

SWEEP = 0.25
"""Seconds between two looks at all connections; one timer for all is cheaper than one each."""

WHOLE = 256 * 1024
"""Bytes of a body up to which the application gets it in one piece. uvicorn hands on every piece
that arrives, and stops reading at 64 KiB until it was taken: several turns of the loop for one
observation, and copies between them."""

_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class Guard:
    """The limits of one listening socket, and the connections that it knows.

    Args:
        meter: counts refusals under domain ``none``, as their domain is not known yet.
        receipt: seconds to receive a whole request.
        header: bytes of the request line and all header fields.
        connections: open ones in all.
        per_peer: open ones of one address.
    """

    def __init__(
        self, *, meter: Meter, receipt: float, header: int, connections: int, per_peer: int
    ) -> None:
        self.receipt, self.header = receipt, header
        self.connections, self.per_peer = connections, per_peer
        self.draining = False  # every answer is the last one of its connection
        self._meter = meter
        self._open: set[GuardedProtocol] = set()
        self._peers: Counter[str] = Counter()

    def enter(self, protocol: GuardedProtocol, peer: str) -> bool:
        """Whether one more connection of ``peer`` is acceptable; counts it if so."""
        if len(self._open) >= self.connections or self._peers[peer] >= self.per_peer:
            self.refused("overload")
            return False
        self._open.add(protocol)
        self._peers[peer] += 1
        return True

    def leave(self, protocol: GuardedProtocol, peer: str) -> None:
        """Forget a connection that :meth:`enter` accepted."""
        if protocol in self._open:
            self._open.discard(protocol)
            self._peers[peer] -= 1
            if self._peers[peer] <= 0:
                del self._peers[peer]

    def refused(self, reason: Literal["overload", "timeout", "size", "invalid"]) -> None:
        """Count a refusal that no route has seen."""
        self._meter.count("requests_rejected_total", domain="none", reason=reason)

    async def sweep(self) -> None:
        """Close what takes too long to arrive; runs until cancelled."""
        while True:
            await asyncio.sleep(SWEEP)
            oldest = time.monotonic() - self.receipt
            for protocol in [each for each in self._open if each.pending_since < oldest]:
                protocol.too_slow()

    @property
    def count(self) -> int:
        """Open connections."""
        return len(self._open)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. ``pending_since`` is when the request that is being received began.

    Subclassed per listening socket by :func:`guarded`, which sets ``guard``.
    """

    guard: Guard

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.pending_since = time.monotonic()
        self._peer = ""
        self._subject = ""
        self._refused = False
        self._in_header = True
        self._header_bytes = 0
        self._pieces: list[bytes] = []
        self._held = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else "unix"
        if not self.guard.enter(self, self._peer):
            self._refuse(503, "connections", "too many open connections", retryable=True)
            return
        certificate = cast("dict[str, Any] | None", transport.get_extra_info("peercert"))
        self._subject = _common_name(certificate) if certificate else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.leave(self, self._peer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.pending_since == _IDLE:
            # Also bytes that begin no message (empty lines) must not keep a connection for ever.
            self.pending_since = time.monotonic()
        if self._in_header:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_header and self._header_bytes > self.guard.header and not self._refused:
            self._too_large()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_header = True
        self._pieces, self._held = [], 0
        if self.pending_since == _IDLE:
            self.pending_since = time.monotonic()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Fields after a chunked body would be added to a header that was already judged.
        if self._in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_header = False
        self._header_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.guard.header:
            self._too_large()
        if self._refused:
            return
        if self._subject:
            cast("dict[str, Any]", self.scope)["fairlead.subject"] = self._subject
        super().on_headers_complete()
        if self.guard.draining:
            cast("Any", self.cycle).keep_alive = False

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._held += len(body)
        self._pieces.append(body)
        if self._held > WHOLE:
            super().on_body(self._taken())

    def on_message_complete(self) -> None:
        self.pending_since = _IDLE
        self._in_header, self._header_bytes = True, 0
        body = self._taken()
        if self._refused:
            return
        cycle = cast("Any", self.cycle)
        if not cycle.response_complete:
            # bytes of bytes are no copy; a bytearray would cost two.
            cycle.body = cycle.body + body if cycle.body else body
        super().on_message_complete()

    def _taken(self) -> bytes:
        """The pieces that are held, as one; none are afterwards."""
        pieces = self._pieces
        self._pieces, self._held = [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def shutdown(self) -> None:
        # A request whose header has begun to arrive is still answered; the receipt deadline holds.
        if not self._header_bytes:
            super().shutdown()

    def too_slow(self) -> None:
        """The receipt deadline has passed."""
        self.guard.refused("timeout")
        message = f"the request was not received within {self.guard.receipt:g} s"
        self._refuse(408, "receipt_deadline", message, retryable=True)

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            self.guard.refused("invalid")
            self._refuse(400, "malformed", msg)

    def _unsupported_upgrade_warning(self) -> None:
        # What follows an upgrade is dropped by the parser, so the connection cannot be reused.
        cycle = cast("Any", self.cycle)
        if cycle is not None:
            cycle.keep_alive = False

    def _too_large(self) -> None:
        self.guard.refused("size")
        self._refuse(431, "header_size", f"headers are limited to {self.guard.header} bytes")

    def _refuse(self, status: int, code: str, detail: str, *, retryable: bool = False) -> None:
        """Answer without the application and close; nothing more is read."""
        self._refused = True
        self.pending_since = _IDLE
        cycle = cast("Any", self.cycle)
        mid_response = cycle is not None and cycle.response_started and not cycle.response_complete
        if not mid_response and not self.transport.is_closing():
            body = (
                f'{{"type":"about:blank","title":"{_PHRASES[status]}","status":{status},'
                f'"detail":"{detail}","code":"{code}","retryable":{str(retryable).lower()}}}'
            ).encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, _PHRASES[status].encode(), len(body), body)
            )
        self.transport.close()


_IDLE = float("inf")


def guarded(guard: Guard) -> type[asyncio.Protocol]:
    """The protocol class for a socket with these limits."""
    return type("GuardedProtocol", (GuardedProtocol,), {"guard": guard})


def _common_name(certificate: dict[str, Any]) -> str:
    for relative in certificate.get("subject", ()):
        for key, value in relative:
            if key == "commonName":
                return str(value)
    return ""

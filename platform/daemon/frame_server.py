"""Length-prefixed frames on a unix socket: the shortest way to a decision on the same host."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping

from ..decision.types import Rejected
from ..wire import frames
from ..wire.problems import Problem
from .access import LOCAL
from .desk import EXPECTED, Desk, problem_of
from .interface import Meter
from .outcomes import Outcomes

_LOG = logging.getLogger(__name__)

_PREFIX = 4


class FrameServer:
    """Serves one unix socket; a connection's frames are answered in order.

    Args:
        desks: by domain.
        outcomes: takes reports: frames whose header has the field ``outcome``.
        meter: counts refusals whose domain is not known.
        receipt: seconds from a frame's first byte to its last.
        idle: seconds that a connection may say nothing.
        connections: open ones at most.
    """

    def __init__(
        self,
        *,
        desks: Mapping[str, Desk],
        outcomes: Outcomes,
        meter: Meter,
        receipt: float,
        idle: float,
        connections: int,
    ) -> None:
        self.receipt, self.idle, self.connections = receipt, idle, connections
        self._desks, self._outcomes, self._meter = desks, outcomes, meter
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._draining = False

    async def start(self, listening: socket.socket) -> None:
        """Accept connections of a listening unix socket."""
        self._server = await asyncio.start_unix_server(self._connected, sock=listening)

    async def drain(self, seconds: float) -> None:
        """Accept nobody new, answer what has begun to arrive, close the rest."""
        if self._server is None:
            return
        self._draining = True
        self._server.close()
        for task in self._open - self._busy:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=seconds)
        for task in self._open:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= self.connections or self._draining:
            self._meter.count("requests_rejected_total", domain="none", reason="overload")
            writer.close()
            return
        self._open.add(task)
        try:
            await self._serve(task, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away; nothing is owed to it
        except TimeoutError:
            self._meter.count("requests_rejected_total", domain="none", reason="timeout")
        except asyncio.CancelledError:
            _LOG.debug("frame connection closed by drain")
        finally:
            self._open.discard(task)
            self._busy.discard(task)
            writer.close()

    async def _serve(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        most = max(desk.limits.binary for desk in self._desks.values())
        while not self._draining:
            self._busy.discard(task)
            first = await asyncio.wait_for(reader.readexactly(1), self.idle)
            self._busy.add(task)
            async with asyncio.timeout(self.receipt):
                prefix = first + await reader.readexactly(_PREFIX - 1)
                (length,) = frames.LENGTH.unpack(prefix)
                if length > most:
                    # What follows cannot be told from frames, so the connection ends here.
                    problem = Problem.of("size", f"frame of {length} bytes; at most {most}")
                    self._meter.count("requests_rejected_total", domain="none", reason="size")
                    self._put(writer, frames.problem(problem))
                    await writer.drain()
                    return
                body = await reader.readexactly(length)
            self._put(writer, await self._answer(body))
            async with asyncio.timeout(self.receipt):
                await writer.drain()

    async def _answer(self, body: bytes) -> bytes:
        received = time.monotonic()
        desk: Desk | None = None
        try:
            frame = frames.unpack(body)
            domain = frame.header.get("domain")
            desk = self._desks.get(domain) if isinstance(domain, str) else None
            if desk is None:
                return self._nowhere()
            self._meter.observe("request_size_bytes", len(body), domain=desk.slot.domain)
            if "outcome" in frame.header:
                told = frame.header["outcome"]
                return self._outcomes.frame(desk.slot.domain, told, LOCAL.name)
            found = await desk.serve(
                lambda spec, limits, at: frames.decode_frame(frame, spec, limits, received=at),
                lambda entry, wanted, left: frames.encode(entry, wanted, deadline_left=left),
                principal=LOCAL.name,
                received=received,
            )
        except EXPECTED as error:
            if desk is not None:
                return frames.problem(desk.refused(error))
            reason = "invalid" if isinstance(error, Rejected) else "overload"
            self._meter.count("requests_rejected_total", domain="none", reason=reason)
            return frames.problem(problem_of(error))
        except Exception:  # noqa: BLE001 - one request must not end the others
            _LOG.exception("frame")
            return frames.problem(Problem.of("internal", "see the log of the daemon"))
        return found.body

    def _nowhere(self) -> bytes:
        self._meter.count("requests_rejected_total", domain="none", reason="invalid")
        known = ", ".join(sorted(self._desks))
        return frames.problem(Problem.of("not_found", f"the header's domain is one of: {known}"))

    @staticmethod
    def _put(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(frames.LENGTH.pack(len(body)) + body)

"""What happens, as it happens: one hub, many bounded listeners, server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

KEPT = 256
"""Latest events that a listener gets who reconnects with ``Last-Event-ID``."""

WAITING = 64
"""Events that may wait for one slow listener; it then loses the oldest and is told so."""

LISTENERS = 32
"""Open event streams; more are refused."""


class TooManyListeners(Exception):  # noqa: N818
    """All event streams are taken."""


class Hub:
    """Publishes from any thread; listeners live in the event loop.

    Events are small JSON objects with ``id`` (increasing), ``kind``, ``domain``, ``time`` (unix s)
    and the kind's own fields.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[_Listener] = set()
        self._kept: deque[tuple[int, str, bytes]] = deque(maxlen=KEPT)
        self._count = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver in ``loop`` from now on."""
        self._loop = loop

    def publish(self, kind: str, domain: str, wall: float, detail: Mapping[str, Any]) -> None:
        """Hand out an event; safe from any thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            self._deliver(kind, domain, wall, detail)
            return
        try:
            inside = asyncio.get_running_loop() is loop
        except RuntimeError:
            inside = False
        if inside:
            self._deliver(kind, domain, wall, detail)
        else:
            loop.call_soon_threadsafe(self._deliver, kind, domain, wall, detail)

    def latest(self) -> list[dict[str, Any]]:
        """The kept events, oldest first."""
        return [orjson.loads(data) for _, _, data in self._kept]

    def _deliver(self, kind: str, domain: str, wall: float, detail: Mapping[str, Any]) -> None:
        self._count += 1
        event = {"id": self._count, "kind": kind, "domain": domain, "time": wall, **detail}
        data = orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY, default=str)
        item = (self._count, kind, data)
        if kind != "decision":
            self._kept.append(item)
        for listener in self._listeners:
            listener.offer(item)

    async def stream(self, *, after: int | None = None) -> AsyncIterator[bytes]:
        """Server-sent events until the listener goes away; a comment every second as heart beat.

        Raises:
            TooManyListeners: before the first event.
        """
        if len(self._listeners) >= LISTENERS:
            raise TooManyListeners(f"{LISTENERS} event streams are open; close one")
        listener = _Listener()
        self._listeners.add(listener)
        try:
            yield b"retry: 1000\n\n"
            if after is not None:
                for item in [kept for kept in self._kept if kept[0] > after]:
                    yield _frame(item)
            while (data := await listener.next()) is not None:
                yield data
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End all streams (drain)."""
        for listener in self._listeners:
            listener.end()


class _Listener:
    def __init__(self) -> None:
        self._queue: deque[tuple[int, str, bytes]] = deque()
        self._awake = asyncio.Event()
        self._lost = 0
        self._ended = False

    def offer(self, item: tuple[int, str, bytes]) -> None:
        if len(self._queue) >= WAITING:
            self._queue.popleft()
            self._lost += 1
        self._queue.append(item)
        self._awake.set()

    def end(self) -> None:
        self._ended = True
        self._awake.set()

    async def next(self) -> bytes | None:
        if not self._queue and not self._ended:
            self._awake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), timeout=1.0)
        if self._queue:
            parts = [_frame(item) for item in self._queue]
            self._queue.clear()
            if self._lost:
                parts.insert(0, b'event: lost\ndata: {"events": %d}\n\n' % self._lost)
                self._lost = 0
            return b"".join(parts)
        return None if self._ended else b": alive\n\n"


def _frame(item: tuple[int, str, bytes]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (item[0], item[1].encode(), item[2])

"""The latest decisions of a slot: for exact repeats, the page, and latency figures."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from ..decision.types import Request
from .interface import Entry

ENTRIES = 512
"""Entries kept at most."""

FEWEST = 4
"""Entries kept whatever their size, so that a retry finds its answer."""


class Memory:
    """Entries by id and by request, bounded in number and in bytes of their arrays.

    Args:
        limit: bytes of observations and decisions kept.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._entries: deque[tuple[Entry, int, float]] = deque()
        self._by_id: dict[str, Entry] = {}
        self._by_request: dict[tuple[str, str, int], Entry] = {}

    def add(self, entry: Entry, seconds: float) -> None:
        """Remember an entry that took ``seconds``."""
        size = _size(entry)
        self._entries.append((entry, size, seconds))
        self._by_id[entry.id] = entry
        if entry.request.seq >= 0:
            self._by_request[_key(entry.request)] = entry
        self._bytes += size
        while len(self._entries) > ENTRIES or (
            self._bytes > self._limit and len(self._entries) > FEWEST
        ):
            self._drop()

    def repeated(self, request: Request) -> Entry | None:
        """The entry of the same client, episode and seq, if it is still known."""
        return None if request.seq < 0 else self._by_request.get(_key(request))

    def find(self, entry: str) -> Entry | None:
        """The entry with this id, if it is still known."""
        return self._by_id.get(entry)

    def latest(self, count: int) -> Sequence[Entry]:
        """Newest first."""
        found: list[Entry] = []
        for entry, _, _ in reversed(self._entries):
            if len(found) >= count:
                break
            found.append(entry)
        return found

    @property
    def size(self) -> int:
        """Bytes of the arrays kept."""
        return self._bytes

    def durations(self) -> tuple[float, float]:
        """Median and 99th percentile of a decision's time over the entries kept, s (NaN: none)."""
        if not self._entries:
            return float("nan"), float("nan")
        seconds = np.array([each for _, _, each in self._entries])
        half, most = np.quantile(seconds, [0.5, 0.99])
        return float(half), float(most)

    def rate(self, now: float, span: float = 30.0) -> float:
        """Decisions per second over the last ``span`` seconds (of the entries kept)."""
        times = [e.clock.mono for e, _, _ in self._entries if now - e.clock.mono <= span]
        if len(times) < 2:
            return 0.0
        # A full memory that is younger than the span must not look like a slow stream.
        reach = span if len(times) < len(self._entries) else max(now - times[0], 1e-3)
        return len(times) / reach

    def _drop(self) -> None:
        entry, size, _ = self._entries.popleft()
        self._bytes -= size
        if self._by_id.get(entry.id) is entry:
            del self._by_id[entry.id]
        key = _key(entry.request)
        if self._by_request.get(key) is entry:
            del self._by_request[key]


def _key(request: Request) -> tuple[str, str, int]:
    return request.client, request.episode, request.seq


def _size(entry: Entry) -> int:
    seen, decided = entry.request.observation, entry.decision
    arrays = (
        *(seen.agent, seen.candidates, seen.target, seen.mask, seen.low, seen.high),
        *(decided.actions, decided.wanted, decided.preference, decided.deviation),
    )
    return sum(array.nbytes for array in arrays if array is not None)

"""Random failures and repairs of units and branches, as callbacks on the event calendar.

Every item alternates between up and down, with exponential times of its own means (a two-state
Markov process, as in the IEEE Reliability Test System 1996: forced outage rate FOR =
MTTR / (MTTF + MTTR)). Each item draws from a stream of its own, so its history depends on the seed
and its own index only: neither on how many other items there are, nor on what happens to them.

The calendar holds one entry for all of them, the next change, so thousands of items that seldom
fail cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heapreplace
from math import inf
from typing import Any

import numpy as np

from ..calendar import Calendar, Wake
from ..interface import Bools, Doubles

HOUR = 3600.0
YEAR_HOURS = 8760.0


def unavailability(up_hours: Doubles, down_hours: Doubles) -> Doubles:
    """Long-run share of time down, MTTR / (MTTF + MTTR) (0 where MTTF is infinite)."""
    finite = np.isfinite(up_hours)
    total = np.where(finite, up_hours, 1.0) + down_hours
    return np.where(finite, down_hours / total, 0.0)


def branch_hours(outage_rate: Doubles, outage_hours: Doubles) -> tuple[Doubles, Doubles]:
    """Mean hours up and down of branches with ``outage_rate`` outages per year of service.

    Branches without outages, or with outages of no length, never fail: ``inf`` and 0.
    """
    fails = (outage_rate > 0.0) & (outage_hours > 0.0)
    up = np.divide(YEAR_HOURS, outage_rate, out=np.full(fails.shape, inf), where=fails)
    return up, np.where(fails, outage_hours, 0.0)


class Failures:
    """Failure and repair of N items on a calendar whose time is seconds.

    Args:
        calendar: event list; only its future matters.
        up_hours: ``[N]`` mean time to failure, h; ``inf`` for items that never fail.
        down_hours: ``[N]`` mean time to repair, h.
        rng: gives the seed of all items' streams (and is advanced by one draw).
        on_change: called with the item and whether it is up now, after ``up`` has changed.
        begun: the process has been running forever: the first state is drawn from the stationary
            distribution, and ``on_change`` is not called for it. Otherwise all items are up.

    Attributes:
        up: ``[N]`` present state.
        changes: how many changes have happened.

    Raises:
        ValueError: lengths that differ, a mean that is not positive (item and value named).
    """

    def __init__(
        self,
        calendar: Calendar,
        *,
        up_hours: Doubles,
        down_hours: Doubles,
        rng: np.random.Generator,
        on_change: Callable[[int, bool], None],
        begun: bool,
    ):
        _check(up_hours, down_hours)
        self.changes = 0
        self._calendar = calendar
        self._on_change = on_change
        self._key = int(rng.integers(1 << 63))
        self._streams: dict[int, np.random.Generator] = {}
        self._means = (down_hours * HOUR, up_hours * HOUR)
        # Two numbers an item, item after item: more items only lengthen the list.
        first = self._stream(-1).random((len(up_hours), 2))
        unavailable = unavailability(up_hours, down_hours)
        down = first[:, 0] < unavailable if begun else np.zeros(len(up_hours), np.bool_)
        self.up: Bools = ~down
        # Without memory: what remains of a time that began long ago has the law of a whole one.
        # 1 - u is in (0, 1].
        wait = -np.log1p(-first[:, 1]) * np.where(down, *self._means)
        failing = np.flatnonzero(np.isfinite(up_hours))
        times = calendar.now + wait[failing]
        self._next: list[tuple[float, int]] = list(
            zip(times.tolist(), failing.tolist(), strict=True)
        )
        heapify(self._next)
        self._wake = Wake([])
        self._schedule()

    def _stream(self, item: int) -> np.random.Generator:
        # Philox is keyed: no hashing, and streams of different keys are independent.
        words = np.array([self._key, item % (1 << 64)], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=words))

    def _schedule(self) -> None:
        if self._next:
            self._wake.callbacks = [self._change]
            self._calendar.at(self._next[0][0], self._wake)

    def _change(self, _: Any) -> None:
        time, item = self._next[0]
        up = not self.up[item]
        self.up[item] = up
        self.changes += 1
        stream = self._streams.get(item)
        if stream is None:
            stream = self._streams[item] = self._stream(item)
        mean = self._means[1 if up else 0][item]
        heapreplace(self._next, (time + stream.exponential(mean), item))
        self._schedule()
        self._on_change(item, up)


def _check(up_hours: Doubles, down_hours: Doubles) -> None:
    if up_hours.shape != down_hours.shape or up_hours.ndim != 1:
        raise ValueError(
            f"up_hours {up_hours.shape} and down_hours {down_hours.shape} must have one row an item"
        )
    wrong = ~(up_hours > 0.0) | ~(down_hours >= 0.0) | ~np.isfinite(down_hours)
    wrong |= np.isfinite(up_hours) & (down_hours == 0.0)
    for item in np.flatnonzero(wrong):
        raise ValueError(
            f"item {item} has a mean time to failure of {up_hours[item]} h and to repair of "
            f"{down_hours[item]} h; expected positive hours (or inf and any finite repair time)"
        )

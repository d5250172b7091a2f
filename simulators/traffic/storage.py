"""Room on lanes: what stands on them, and what has left but whose space is not usable yet.

Freed space becomes usable at the upstream end after the time that a wave takes over the lane
(Newell's link model); without a wave at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

import numpy as np

from ..interface import Doubles
from .layout import Layout

_ROUNDING = 1e-9
"""m that sums of vehicles' lengths may be off."""


class Storage:
    """Room of all lanes of one episode.

    Args:
        layout: of the network.
    """

    def __init__(self, layout: Layout) -> None:
        lanes = len(layout.lane_link)
        self._room, self._clear = layout.room, layout.clear
        self._used = [0.0] * lanes
        self._freeing: list[deque[tuple[float, float]]] = [deque() for _ in range(lanes)]

    def find(self, lanes: Sequence[int], space: float, now: float) -> int:
        """The emptiest of ``lanes`` that has ``space`` m now, or -1; an empty one takes any."""
        best, least = -1, inf
        room, used = self._room, self._used
        for lane in lanes:
            freeing = self._freeing[lane]
            while freeing and freeing[0][0] <= now:
                used[lane] -= freeing.popleft()[1]
            taken = used[lane]
            if taken < least and (taken + space <= room[lane] + _ROUNDING or taken <= _ROUNDING):
                best, least = lane, taken
        return best

    def take(self, lane: int, space: float) -> None:
        """A vehicle enters."""
        self._used[lane] += space

    def free(self, lane: int, space: float, now: float) -> float:
        """A vehicle leaves; returns when its space is usable."""
        clear = self._clear[lane]
        if clear > 0.0:
            self._freeing[lane].append((now + clear, space))
        else:
            self._used[lane] -= space
        return now + clear

    def next(self, lanes: Sequence[int], now: float) -> float:
        """When space that has been left becomes usable on one of ``lanes``, inf if none will."""
        soonest = inf
        for lane in lanes:
            freeing = self._freeing[lane]
            if freeing and now < freeing[0][0] < soonest:
                soonest = freeing[0][0]
        return soonest

    def fits_in_the_end(self, lane: int, space: float) -> bool:
        """Whether ``space`` m are free once all that was left is usable."""
        taken = self._used[lane] - sum(left for _, left in self._freeing[lane])
        return taken + space <= self._room[lane] + _ROUNDING or taken <= _ROUNDING

    def used(self, now: float) -> Doubles:
        """``[P]`` m of every lane that are taken or not yet usable at ``now``."""
        taken = np.array(self._used)
        for lane, freeing in enumerate(self._freeing):
            taken[lane] -= sum(left for time, left in freeing if time <= now)
        return taken

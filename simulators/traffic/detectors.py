"""Detector readings of the streets at one instant, from arrays, without touching any vehicle.

A spatial queue knows when vehicles would be at the stop line, not where they are. Where they stand
follows: a vehicle cannot be nearer than those before it allow, and a queue moves as the start wave
reaches it, one vehicle after another.
"""

from __future__ import annotations

import numpy as np

from ..interface import Doubles
from .layout import Layout
from .readings import NEAR, RANGE, Readings
from .streets import Streets

START = 1.3
"""Seconds after which the next vehicle of a standing queue begins to move (7.5 m at 5.7 m/s)."""


class Detectors:
    """Reads lanes.

    Args:
        layout: of the network.
        interval: s that ``soon`` looks ahead.
    """

    def __init__(self, layout: Layout, *, interval: float) -> None:
        self._lanes = len(layout.lane_link)
        self._interval = interval
        self._space = float(np.mean([kind.space for kind in layout.kinds]))

    def read(self, streets: Streets) -> Readings:
        """What detectors tell now."""
        lane_of = np.frombuffer(streets.lane_of, dtype=np.int64)
        there = np.flatnonzero(lane_of >= 0)
        lane = lane_of[there]
        now = streets.calendar.now
        ready = np.frombuffer(streets.ready)[there]
        speed = np.frombuffer(streets.speed)[there]
        place = np.frombuffer(streets.place, dtype=np.int64)[there]
        motion = streets.motion
        started = np.frombuffer(motion.started)
        moves = started < np.inf
        # Where a queue moves, who has not started yet stands where it stood before.
        gone = np.frombuffer(motion.gone, dtype=np.int64)
        before = np.where(moves, np.frombuffer(motion.gone_before, dtype=np.int64), gone)
        rested = np.where(moves, np.frombuffer(motion.last_before), np.frombuffer(motion.last))
        slot = place - before[lane]
        tail = slot * self._space  # m from the stop line to where it stands
        free = (ready - now) * speed
        halted = ready - tail / speed  # when it came there
        standing = (free <= tail) & ((now - started[lane]) <= START * slot)
        tail = np.where(standing, tail, (place - gone[lane]) * self._space)
        distance = np.maximum(free, tail)
        in_range = distance <= RANGE
        since = np.maximum(halted, rested[lane])
        waited = np.where(standing, np.maximum(now - since, 0.0), 0.0)
        standing &= in_range
        soon = ~standing & (free <= self._interval * speed)
        longest = np.zeros(self._lanes)
        np.maximum.at(longest, lane, np.where(in_range, waited, 0.0))
        return Readings(
            queue=self._count(lane, standing),
            near=self._count(lane, distance <= NEAR),
            seen=self._count(lane, in_range),
            soon=self._count(lane, soon),
            count=self._count(lane, None),
            wait=self._count(lane, np.where(in_range, waited, 0.0)),
            longest=longest,
        )

    def _count(self, lane: np.ndarray, weight: np.ndarray | None) -> Doubles:
        counted = np.bincount(lane, weights=weight, minlength=self._lanes)
        return counted.astype(np.float64, copy=False)

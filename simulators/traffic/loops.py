"""Induction loops before the stop lines of our streets, for controllers that count passages."""

from __future__ import annotations

import numpy as np

from ..interface import Bools
from .approaches import Approaches
from .layout import Layout
from .streets import Streets


class Loops:
    """One loop a lane, for one episode.

    Args:
        layout: of the network.
        approaches: lanes of phases.
        seconds: of driving at the limit that loops lie before the stop line (where the lane begins
            if it is shorter).
    """

    def __init__(self, layout: Layout, approaches: Approaches, *, seconds: float) -> None:
        network = layout.network
        self._approaches = approaches
        self._before = (network.speed * seconds)[network.lane_link]
        self._space = float(np.mean([kind.space for kind in layout.kinds]))
        self._passed = np.zeros(network.lane_link.size, dtype=np.int64)

    def detected(self, streets: Streets) -> Bools:
        """``[A, P]`` whether anybody passed or stood on a loop of each phase since the last look.

        Vehicles are where free driving or the queue before them puts them, as in
        :class:`.detectors.Detectors`.
        """
        lane_of = np.frombuffer(streets.lane_of, dtype=np.int64)
        there = np.flatnonzero(lane_of >= 0)
        lane = lane_of[there]
        gone = np.frombuffer(streets.gone, dtype=np.int64)
        ahead = np.frombuffer(streets.place, dtype=np.int64)[there] - gone[lane]
        free = np.frombuffer(streets.ready)[there] - streets.calendar.now
        free *= np.frombuffer(streets.speed)[there]
        beyond = self._before[lane] - np.maximum(free, ahead * self._space)
        inside = beyond >= 0.0
        lanes = self._passed.size
        passed = gone + np.bincount(lane[inside], minlength=lanes)
        standing = np.bincount(lane[inside & (beyond < self._space)], minlength=lanes)
        seen = (passed > self._passed) | (standing > 0)
        self._passed = passed
        found = self._approaches
        served = found.whole.most(seen.astype(np.float64), found.legal.size)
        return served.reshape(found.legal.shape) > 0.0

"""Induction loops before the stop lines of our streets, for controllers that count passages."""

from __future__ import annotations

import numpy as np

from ..interface import Bools
from .approaches import Approaches, Groups
from .layout import Layout
from .programme import GREEN
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
        self._before = (network.speed * seconds)[network.lane_link]
        self._lanes = Groups.of(_counting(approaches))
        self._size = approaches.legal.shape
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
        found = self._lanes.most(seen.astype(np.float64), self._size[0] * self._size[1])
        return found.reshape(self._size) > 0.0


def _counting(approaches: Approaches) -> list[list[tuple[int, float]]]:
    """Lanes whose loops speak for each phase, agent by agent.

    As in SUMO, all that leave such a lane go in the phase: a vehicle that waits for another one
    would prolong it for nothing.
    """
    network, rows = approaches.network, list[list[tuple[int, float]]]()
    for signal in approaches.agents.tolist():
        own = np.flatnonzero(network.connection_signal == signal)
        lane, index = network.connection_lane[own], network.connection_index[own].tolist()
        greens = network.signals[signal].greens
        for phase in range(approaches.most):
            letters = greens[phase] if phase < len(greens) else "r" * len(greens[0])
            stays = lane[[letters[at] not in GREEN for at in index]]
            rows.append([(at, 1.0) for at in np.setdiff1d(lane, stays).tolist()])
    return rows

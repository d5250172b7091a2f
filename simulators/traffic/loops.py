"""Induction loops before the stop lines of our streets, for controllers that count passages."""

from __future__ import annotations

from math import inf

import numpy as np

from ..interface import Bools
from .approaches import Approaches, Groups
from .layout import Layout
from .streets import Streets

PASSING, SPACE = 1.9, 7.5
"""s between two cars of a queue and m of a standing one, as SUMO reckons where loops may lie."""


class Loops:
    """One loop a lane, for one episode.

    Args:
        layout: of the network.
        approaches: lanes of phases.
        seconds: of driving at the limit that loops lie before the stop line (where the lane begins
            if it is shorter).
        least: s of the shortest green. Loops lie no further away than it lets a queue move, as in
            SUMO: else a standing queue would end its green before it moves over them.
    """

    def __init__(
        self, layout: Layout, approaches: Approaches, *, seconds: float, least: float = inf
    ) -> None:
        network = layout.network
        furthest = (least / PASSING + 0.5) * SPACE
        self._before = np.minimum(network.speed * seconds, furthest)[network.lane_link]
        self._lanes = Groups.of(_counting(approaches))
        self._size = approaches.legal.shape
        self._space = float(np.mean([kind.space for kind in layout.kinds]))
        self._body = float(np.mean([kind.length for kind in layout.kinds]))
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
        standing = np.bincount(lane[inside & (beyond < self._body)], minlength=lanes)
        seen = (passed > self._passed) | (standing > 0)
        self._passed = passed
        found = self._lanes.most(seen.astype(np.float64), self._size[0] * self._size[1])
        return found.reshape(self._size) > 0.0


def _counting(approaches: Approaches) -> list[list[tuple[int, float]]]:
    """Lanes whose loops speak for each phase, agent by agent.

    As in SUMO, all that leave such a lane go in the phase: a vehicle that waits for another one
    would prolong it for nothing. So would one that waits for a gap. A green that gives way counts
    only on a link's single lane, or beside one with right of way if its movement has no better
    green in another phase or turns back.
    """
    network, rows = approaches.network, list[list[tuple[int, float]]]()
    for signal in approaches.agents.tolist():
        own = np.flatnonzero(network.connection_signal == signal)
        lane, index = network.connection_lane[own], network.connection_index[own]
        states = network.signals[signal].greens
        letters = np.array([list(state) for state in states])[:, index]
        first = letters == "G"
        single = network.lanes[network.lane_link[lane]] == 1
        back = np.array([network.turn[move] == "t" for move in network.connection_move[own]])
        secondary = ~first.any(axis=0) | back
        for phase in range(len(states)):
            beside = np.isin(lane, lane[first[phase]])
            goes = first[phase] | ((letters[phase] == "g") & (single | (beside & secondary)))
            rows.append([(at, 1.0) for at in np.setdiff1d(lane, lane[~goes]).tolist()])
        rows += [[] for _ in range(approaches.most - len(states))]
    return rows

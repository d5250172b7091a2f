"""Queues that the store-and-forward optimum keeps: a reference state from forecast demand alone.

The network is planned window after window, each from where the last one ended, for the departures
that the demand foresees. What the plan keeps standing on a movement is spread over the lanes that
serve it.
"""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.traffic.town import Town
from .network_movements import Service, movement_graph
from .store_forward import StoreForward
from .store_forward_layout import Costs
from .turning import turning_ratios

INTERVAL = 60.0
"""s of an interval of the plan."""
WINDOW = 10
"""Intervals that are planned at once."""


class ReferencePlan:
    """Reference queues of a scenario; windows are solved when first asked for, and kept.

    Args:
        town: streets and demand.
    """

    def __init__(self, town: Town) -> None:
        network, scenario = town.network, town.scenario
        self._demand, self._scale = town.demand, scenario.scale
        self._turning = turning_ratios(network, town.demand, seconds=scenario.seconds)
        space = float(np.mean([kind.space for kind in town.demand.kinds]))
        graph = movement_graph(
            network, self._turning.flow, self._turning.ratio, service=Service(spacing=space)
        )
        self._program = StoreForward(
            graph,
            interval=INTERVAL,
            horizon=WINDOW,
            costs=Costs(objective="quadratic"),
            pass_through=True,
            # Interior point without crossover ends undecided on some windows of real maps.
            method="simplex",
        )
        self._windows: list[Doubles] = []
        lanes = np.bincount(network.connection_move, minlength=network.move_from.size)
        self._lane, self._move = network.connection_lane, network.connection_move
        self._part = 1.0 / np.maximum(lanes, 1)[self._move]
        self._lanes = network.lane_link.size

    def at(self, time: float) -> Doubles:
        """``[lanes]`` vehicles that the plan keeps at ``time`` s of the episode.

        Raises:
            RuntimeError: HiGHS proved no optimum (status named).
        """
        window, step = divmod(int(time // INTERVAL), WINDOW)
        while len(self._windows) <= window:
            self._windows.append(self._solve(len(self._windows)))
        queues = self._windows[window][step]
        weight = queues[self._move] * self._part
        lanes = np.bincount(self._lane, weights=weight, minlength=self._lanes)
        return lanes.astype(np.float64, copy=False)

    def _solve(self, window: int) -> Doubles:
        empty = np.zeros(self._turning.flow.size)
        start = self._windows[-1][-1] if self._windows else empty
        coming = self._turning.arrivals(
            self._demand, start=window * WINDOW * INTERVAL, interval=INTERVAL, horizon=WINDOW
        )
        plan = self._program.solve(start, coming * self._scale)
        return np.maximum(plan.queues, 0.0)  # an interior point may end a rounding error below

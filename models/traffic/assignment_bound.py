"""A bound of Beckmann's objective by linear programs in HiGHS, for small networks.

Kelley's cutting planes ("The cutting-plane method for solving convex programs", 1960): every link's
integral is replaced by the tangents met so far, trips of one origin are one commodity, and the
optimum of the linear program lies below the objective of every assignment. It shares neither
routes nor searches with :mod:`.assignment`, so it is a check of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from ...simulators.interface import Doubles, Ints
from ...simulators.traffic.static_network import StaticNetwork
from .bpr import Latency
from .shortest_paths import ShortestPaths

GAP = 1e-6
"""Relative distance of the bounds at which to stop."""
_AROUND = np.array([0.5, 0.9, 0.99, 1.0, 1.01, 1.1, 1.5])
"""Multiples of given volumes at which the first tangents touch."""
_TIGHT = 1e-12
"""Share of the objective by which a tangent may lie too low at the volumes found."""


@dataclass(frozen=True, eq=False, slots=True)
class Bounds:
    """Between what the least objective lies.

    Attributes:
        lower: optimum of the last linear program; upper: objective of the best volumes met.
        volume: ``[L]`` those volumes.
        rounds: linear programs solved.
    """

    lower: float
    upper: float
    volume: Doubles
    rounds: int


def objective_bounds(
    network: StaticNetwork,
    latency: Latency,
    *,
    around: Doubles | None = None,
    gap: float = GAP,
    rounds: int = 100,
) -> Bounds:
    """Bounds of the least summed integral of ``latency`` over all assignments of the trips.

    Args:
        network: up to some thousand links times origins.
        latency: of :func:`.bpr.bpr`; its ``marginal()`` for the system optimum.
        around: ``[L]`` volumes near which to look first; the bounds hold whatever they are.
        gap: relative distance of the bounds at which to stop.
        rounds: most linear programs.

    Raises:
        RuntimeError: HiGHS proves no optimum (trips without a route).
    """
    program = _Tangents(network)
    links = np.arange(network.links)
    program.cut(links, latency, np.zeros(network.links))
    for multiple in () if around is None else _AROUND.tolist():
        program.cut(links, latency, multiple * around)
    lower, upper, best, done = -np.inf, np.inf, np.zeros(network.links), 0
    while done < rounds:
        done += 1
        lower, volume, below = program.solve()
        objective = latency.integral(volume)
        if objective < upper:
            upper, best = objective, volume
        if upper - lower <= gap * abs(upper):
            break
        above = latency.integrals(volume) > below + _TIGHT * upper
        program.cut(np.flatnonzero(above), latency, volume)
    return Bounds(lower, upper, best, done)


class _Tangents:
    """The linear program; columns: each origin's flows on all links, then volumes, then costs."""

    def __init__(self, network: StaticNetwork) -> None:
        paths = ShortestPaths(network)
        origins = np.unique(paths.origin)
        self.links = network.links
        flows = origins.size * network.links
        self._volume = np.arange(network.links) + flows
        self._cost = self._volume + network.links
        balance = np.zeros((origins.size, paths.size))
        np.add.at(
            balance, (np.searchsorted(origins, paths.origin), paths.destination), paths.demand
        )
        balance[np.arange(origins.size), paths.source[origins]] -= balance.sum(axis=1)
        rows, columns, values = self._matrix(network, paths, origins.size)
        bounds = np.concatenate([balance.ravel(), np.zeros(network.links)])
        program = highspy.HighsLp()
        program.num_col_ = flows + 2 * network.links
        program.num_row_ = bounds.size
        program.col_cost_ = np.repeat([0.0, 1.0], [flows + network.links, network.links])
        program.col_lower_ = np.zeros(program.num_col_)
        program.col_upper_ = np.full(program.num_col_, highspy.kHighsInf)
        program.row_lower_ = program.row_upper_ = bounds
        order = np.lexsort((columns, rows))
        starts = np.searchsorted(rows[order], np.arange(bounds.size + 1))
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = starts.astype(np.int32)
        program.a_matrix_.index_ = columns[order].astype(np.int32)
        program.a_matrix_.value_ = values[order]
        # highspy's stubs miss methods that its Highs class has.
        self._highs: Any = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),
            ("random_seed", 1),
            ("solver", "simplex"),
        ):
            self._highs.setOptionValue(name, value)
        self._checked(self._highs.passModel(program), "pass the model")

    def _matrix(
        self, network: StaticNetwork, paths: ShortestPaths, origins: int
    ) -> tuple[Ints, Ints, Doubles]:
        """Triplets: what enters less what leaves each node, and volumes less the origins' flows."""
        flow = np.arange(origins * self.links)
        origin, link = np.divmod(flow, self.links)
        loop = paths.tail[link] == network.head[link]
        one = np.where(loop, 0.0, 1.0)
        sums = origins * paths.size + np.arange(self.links)
        return (
            np.concatenate(
                [
                    origin * paths.size + network.head[link],
                    origin * paths.size + paths.tail[link],
                    sums[link],
                    sums,
                ]
            ),
            np.concatenate([flow, flow, flow, self._volume]),
            np.concatenate([one, -one, -np.ones(flow.size), np.ones(self.links)]),
        )

    def cut(self, links: Ints, latency: Latency, volume: Doubles) -> None:
        """Costs of ``links`` lie above their tangents at ``volume`` ``[L]``."""
        slope = latency.cost(volume)[links]
        height = (latency.integrals(volume) - latency.cost(volume) * volume)[links]
        index = np.stack([self._cost[links], self._volume[links]], axis=1).ravel()
        values = np.stack([np.ones(links.size), -slope], axis=1).ravel()
        status = self._highs.addRows(
            links.size,
            height,
            np.full(links.size, highspy.kHighsInf),
            2 * links.size,
            2 * np.arange(links.size, dtype=np.int32),
            index.astype(np.int32),
            values,
        )
        self._checked(status, "add tangents")

    def solve(self) -> tuple[float, Doubles, Doubles]:
        """The optimum, its volumes and what the tangents say they cost, ``[L]``."""
        # Hot starts break down on tangents that nearly coincide.
        self._checked(self._highs.clearSolver(), "forget the last basis")
        self._checked(self._highs.run(), "run")
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise RuntimeError(
                f"HiGHS ended with {self._highs.modelStatusToString(status)!r}; do all trips "
                "have a route?"
            )
        x = np.array(self._highs.getSolution().col_value)
        objective = float(self._highs.getInfo().objective_function_value)
        return objective, x[self._volume], x[self._cost]

    @staticmethod
    def _checked(status: highspy.HighsStatus, action: str) -> None:
        if status == highspy.HighsStatus.kError:
            raise RuntimeError(f"HiGHS could not {action}")

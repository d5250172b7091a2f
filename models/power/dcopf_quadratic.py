"""DC optimal power flow with the quadratic costs themselves, as a quadratic program in HiGHS.

HiGHS's quadratic solver is not dependable (it ends in "Solve error" on PGLib's case793_goc, and its
hot starts have been wrong), so this form is for comparison, not for loops. Every answer is checked
against the problem; one that fails is replaced by the piecewise-linear form, and that is counted
and said in the result, never silent.
"""

from __future__ import annotations

from typing import Any

import highspy
import numpy as np
from scipy.sparse import coo_array

from ...simulators.interface import Doubles
from ...simulators.power.network import Network
from .dcopf import DcOpf, Dispatch, Interval

BALANCE = 1e-5
"""MW by which a bus may be out of balance in an accepted answer."""
OBJECTIVE = 1e-6
"""Relative difference between the reported and the recomputed cost of an accepted answer."""


class QuadraticDcOpf:
    """Quadratic program in angles, from scratch at every call, with the linear form behind it.

    Args:
        network: without islands apart; every unit needs its polynomial (``Units.quadratic``).
        pwl: the piecewise-linear form to fall back to; it decides on slack.

    Attributes:
        solves, fallbacks: how many calls there were, and how many needed the other form.
        failure: what was wrong with the last answer that was refused, or empty.

    Raises:
        ValueError: a unit without polynomial cost; names it.
    """

    def __init__(self, network: Network, pwl: DcOpf | None = None) -> None:
        grid = network.grid
        for unit in np.flatnonzero(~np.isfinite(grid.units.quadratic).all(axis=1)).tolist():
            raise ValueError(
                f"grid {grid.name!r}: unit {grid.units.name[unit]!r} has a piecewise cost; "
                "the quadratic form needs polynomials, use the piecewise-linear one"
            )
        self.network = network
        self._quadratic = grid.units.quadratic
        self._matrix = _angle_rows(network)
        self._pushed = network.base * network.susceptance * network.shift
        self.pwl = DcOpf(network) if pwl is None else pwl
        self.solves = self.fallbacks = 0
        self.failure = ""

    def solve(self, interval: Interval | None = None) -> Dispatch:
        """The cheapest dispatch; ``form`` says which program gave it.

        ``Interval.topology`` and ``Interval.around`` are for the linear form only.

        Raises:
            ValueError: as :meth:`DcOpf.solve`, or an interval with outages or a proximal point.
            RuntimeError: neither form has an optimum.
        """
        interval = interval or Interval()
        if interval.topology is not None or interval.around is not None:
            raise ValueError("the quadratic form knows no outages and no proximal term")
        self.solves += 1
        attempt = self._attempt(interval)
        if isinstance(attempt, Dispatch):
            return attempt
        self.fallbacks += 1
        self.failure = attempt
        return self.pwl.solve(interval)

    def _attempt(self, interval: Interval) -> Dispatch | str:
        """The optimum of the quadratic program, or what is wrong with HiGHS's answer."""
        network = self.network
        quadratic = self._quadratic
        if interval.on is not None:
            quadratic = np.where(interval.on[:, None], quadratic, 0.0)
        program = self._program(interval, quadratic)
        highs: Any = highspy.Highs()
        for name, value in (("output_flag", False), ("threads", 1), ("random_seed", 1)):
            highs.setOptionValue(name, value)
        if highs.passModel(program) == highspy.HighsStatus.kError:
            return "the model was not accepted"
        run, status = highs.run(), highs.getModelStatus()
        if run == highspy.HighsStatus.kError or status != highspy.HighsModelStatus.kOptimal:
            return f"status {highs.modelStatusToString(status).lower()!r}"
        solution, info = highs.getSolution(), highs.getInfo()
        x, dual = np.array(solution.col_value), np.array(solution.row_dual)
        power = x[: quadratic.shape[0]]
        cost = float(((quadratic[:, 0] * power + quadratic[:, 1]) * power + quadratic[:, 2]).sum())
        activity = self._matrix @ x
        wrong = _defect(activity, program.lp_, cost, float(info.objective_function_value))
        if wrong:
            return wrong
        nothing = np.zeros(network.buses)
        return Dispatch(
            power=power,
            flow=activity[network.buses :] - self._pushed,
            dc_flow=x[quadratic.shape[0] + network.buses :],
            lmp=dual[: network.buses],
            congestion=-dual[network.buses :],
            shed=nothing,
            surplus=nothing,
            overload=np.zeros(network.branches),
            cost=cost,
            objective=cost,
            iterations=int(info.qp_iteration_count + info.simplex_iteration_count),
            rounds=1,
            form="qp",
        )

    def _program(self, interval: Interval, quadratic: Doubles) -> Any:
        network, grid = self.network, self.network.grid
        low, high, load, rate, dc_limit = _numbers(network, interval)
        demand = load + grid.buses.shunt
        demand -= np.bincount(network.start, self._pushed, network.buses)
        demand += np.bincount(network.end, self._pushed, network.buses)
        free = np.full(network.buses, np.inf)
        free[network.references] = 0.0
        program: Any = highspy.HighsModel()
        linear = program.lp_
        linear.num_row_, linear.num_col_ = self._matrix.shape
        linear.col_lower_ = np.concatenate([low, -free, -dc_limit])
        linear.col_upper_ = np.concatenate([high, free, dc_limit])
        linear.col_cost_ = np.pad(quadratic[:, 1], (0, linear.num_col_ - quadratic.shape[0]))
        linear.offset_ = float(quadratic[:, 2].sum())
        linear.row_lower_ = np.concatenate([demand, np.maximum(network.low, -rate) + self._pushed])
        linear.row_upper_ = np.concatenate([demand, np.minimum(network.high, rate) + self._pushed])
        linear.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        linear.a_matrix_.start_ = self._matrix.indptr
        linear.a_matrix_.index_ = self._matrix.indices
        linear.a_matrix_.value_ = self._matrix.data
        bent = np.flatnonzero(quadratic[:, 0] > 0.0)
        if bent.shape[0]:
            program.hessian_.dim_ = linear.num_col_
            program.hessian_.format_ = highspy.HessianFormat.kTriangular
            program.hessian_.start_ = np.searchsorted(bent, np.arange(linear.num_col_ + 1))
            program.hessian_.index_ = bent.astype(np.int32)
            program.hessian_.value_ = 2.0 * quadratic[bent, 0]
        return program


def _numbers(network: Network, interval: Interval) -> tuple[Doubles, ...]:
    """Box of every unit, load, ratings and DC limits of an interval, the grid's where None."""
    grid = network.grid
    low = grid.units.low if interval.low is None else interval.low
    high = grid.units.high if interval.high is None else interval.high
    if interval.on is not None:
        low, high = np.where(interval.on, low, 0.0), np.where(interval.on, high, 0.0)
    load = grid.buses.load if interval.load is None else interval.load
    rate = np.full(network.branches, np.inf) if interval.rate is None else interval.rate
    dc_limit = grid.dc_lines.limit if interval.dc_limit is None else interval.dc_limit
    return low, high, load, rate, dc_limit


def _angle_rows(network: Network) -> Any:
    """Sparse rows: balance of every bus, flow of every line; columns: units, angles, DC lines."""
    grid = network.grid
    buses, units, lines = network.buses, len(grid.units.name), len(grid.dc_lines.name)
    start, end = network.start, network.end
    weight = network.base * network.susceptance
    flow, dc = buses + np.arange(network.branches), units + buses + np.arange(lines)
    triplets = (
        (grid.units.bus, np.arange(units), np.ones(units)),
        (start, units + start, -weight),
        (start, units + end, weight),
        (end, units + start, weight),
        (end, units + end, -weight),
        (flow, units + start, weight),
        (flow, units + end, -weight),
        (grid.dc_lines.start, dc, -np.ones(lines)),
        (grid.dc_lines.end, dc, np.ones(lines)),
    )
    row, column, value = (np.concatenate(part) for part in zip(*triplets, strict=True))
    return coo_array(
        (value, (row, column)), shape=(buses + network.branches, units + buses + lines)
    ).tocsr()


def _defect(activity: Doubles, linear: Any, cost: float, reported: float) -> str:
    below = np.asarray(linear.row_lower_) - activity
    above = activity - np.asarray(linear.row_upper_)
    worst = float(np.maximum(below, above).max())
    if not worst <= BALANCE:
        return f"a balance or limit is broken by {worst:.3g} MW"
    if not abs(cost - reported) <= OBJECTIVE * max(abs(cost), 1.0):
        return f"the reported cost {reported:.9g} is not that of the dispatch, {cost:.9g}"
    return ""

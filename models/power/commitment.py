"""Unit commitment as a mixed-integer program in HiGHS, with its proven bound.

``commitment_layout`` states the formulation. What leaves a solve is feasible and says how good it
is: the bound that the solver proved and the gap to it. After the search the binaries are fixed and
the dispatch solved once more as a linear program, so that outputs are exact for the commitment and
energy and reserve have prices.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from ...simulators.interface import Bools, Doubles
from ...simulators.power.files.pglib_uc import CommitmentInstance
from .commitment_layout import CommitmentLayout, Slack

GAP = 1e-3
"""Relative gap at which the search stops."""
TIME_LIMIT = 120.0
"""Seconds after which it stops anyway."""
LARGE = 30_000
"""Binaries from which a search is guided by the linear relaxation first."""
DECIDED = 1e-6
"""Distance from 0 or 1 at which the relaxation counts as decided."""

_ENDED = {
    highspy.HighsModelStatus.kOptimal: "optimal",
    highspy.HighsModelStatus.kTimeLimit: "time limit",
}


@dataclass(frozen=True, slots=True)
class CommitmentSolution:
    """A feasible commitment and how good it is.

    Attributes:
        on, start, stop: ``[T, G]`` bool.
        power: ``[T, G]`` MW, 0 while off; reserve: ``[T, G]`` MW.
        renewable: ``[T, W]`` MW.
        shed, surplus, short: ``[T]`` MW; 0 where they are not allowed.
        price, reserve_price: ``[T]`` $/MWh of demand and of reserve, commitment fixed.
        objective: $; bound: $ that no commitment undercuts, proven; gap: relative to objective.
        seconds: of the search; nodes: branched on.
        status: ``"optimal"`` (within the gap asked for) or ``"time limit"`` (feasible, see gap).
    """

    on: Bools
    start: Bools
    stop: Bools
    power: Doubles
    reserve: Doubles
    renewable: Doubles
    shed: Doubles
    surplus: Doubles
    short: Doubles
    price: Doubles
    reserve_price: Doubles
    objective: float
    bound: float
    gap: float
    seconds: float
    nodes: int
    status: str


@dataclass(frozen=True, slots=True)
class CommitmentRelaxation:
    """Optimum of the linear relaxation: ``on`` ``[T, G]`` between 0 and 1, prices as above."""

    objective: float
    on: Doubles
    price: Doubles
    reserve_price: Doubles
    status: str


class UnitCommitment:
    """Which units run when, at least cost, for one instance.

    Args:
        instance: see ``simulators.power.files.pglib_uc`` (and ``commitment_grid`` for other grids).
        slack: prices of shedding, surplus and missing reserve; none of them by default.

    Raises:
        ValueError: a cost curve that is not convex, start costs that fall with the time off.
    """

    def __init__(self, instance: CommitmentInstance, *, slack: Slack | None = None) -> None:
        self.instance = instance
        self.layout = CommitmentLayout(instance, Slack() if slack is None else slack)

    def solve(self, *, gap: float = GAP, time_limit: float = TIME_LIMIT) -> CommitmentSolution:
        """Search until the relative gap or the time limit (s) is reached.

        Raises:
            RuntimeError: infeasible, or nothing feasible found in time; names the status.
        """
        layout = self.layout
        begun = time.perf_counter()
        guide, floor = self._guide(gap, time_limit / 2.0)
        left = max(time_limit - (time.perf_counter() - begun), 1.0)
        solver, status = self._search(layout.lower, layout.upper, (gap, left), guide)
        info = solver.getInfo()
        if status not in _ENDED or not _feasible(solver):
            words = solver.modelStatusToString(status).lower()
            raise RuntimeError(f"HiGHS found no commitment of {self.instance.name!r}: {words}")
        binary = self._rounded(solver)
        bound, nodes = max(float(info.mip_dual_bound), floor), int(info.mip_node_count)
        seconds = time.perf_counter() - begun
        objective, x, price, reserve_price = self._dispatch(binary)
        renewable = self._renewables(x[layout.renewable])
        power = x[layout.on] * self.instance.thermals.low
        np.add.at(power.T, layout.part_unit, (x[layout.part] * layout.part_power).T)
        return CommitmentSolution(
            on=binary[layout.on] > 0.5,
            start=binary[layout.start] > 0.5,
            stop=binary[layout.stop] > 0.5,
            power=power,
            reserve=x[layout.reserve],
            renewable=renewable,
            shed=x[layout.shed],
            surplus=x[layout.surplus],
            short=x[layout.short],
            price=price,
            reserve_price=reserve_price,
            objective=objective,
            bound=min(bound, objective),
            gap=max(objective - bound, 0.0) / max(abs(objective), 1e-9),
            seconds=seconds,
            nodes=nodes,
            status=_ENDED[status],
        )

    def relax(self) -> CommitmentRelaxation:
        """Solve the linear relaxation: a quick lower bound.

        Raises:
            RuntimeError: no optimum was proven; names the status.
        """
        layout = self.layout
        objective, x, price, reserve_price = self._linear(layout.lower, layout.upper)
        return CommitmentRelaxation(
            objective=objective,
            on=x[layout.on],
            price=price,
            reserve_price=reserve_price,
            status="optimal",
        )

    def _guide(self, gap: float, time_limit: float) -> tuple[Doubles | None, float]:
        """A first commitment for large programs, and the relaxation's bound.

        What the relaxation leaves on or off is fixed and the rest searched. ``None`` (and no bound)
        for small programs, which need no help, and where the fixed part leaves no commitment.
        """
        layout = self.layout
        if np.count_nonzero(layout.integer) < LARGE:
            return None, -np.inf
        floor, x, _, _ = self._linear(layout.lower, layout.upper)
        lower, upper = layout.lower.copy(), layout.upper.copy()
        on = x[layout.on]
        lower[layout.on] = np.where(on > 1.0 - DECIDED, 1.0, lower[layout.on])
        upper[layout.on] = np.where(on < DECIDED, 0.0, upper[layout.on])
        solver, _ = self._search(lower, upper, (gap, time_limit), None)
        return (self._rounded(solver) if _feasible(solver) else None), floor

    def _search(
        self, lower: Doubles, upper: Doubles, limits: tuple[float, float], first: Doubles | None
    ) -> tuple[Any, highspy.HighsModelStatus]:
        """The solver after its search within ``limits`` (gap, seconds), and its status."""
        solver = self._solver(integer=True)
        _option(solver, "mip_rel_gap", limits[0])
        _option(solver, "time_limit", limits[1])
        columns = np.arange(lower.shape[0], dtype=np.int32)
        _checked(solver.changeColsBounds(lower.shape[0], columns, lower, upper), "set bounds")
        if first is not None:
            whole = np.flatnonzero(self.layout.integer).astype(np.int32)
            _checked(solver.setSolution(whole.shape[0], whole, first[whole]), "set a start")
        _checked(solver.run(), "run")
        return solver, solver.getModelStatus()

    def _rounded(self, solver: Any) -> Doubles:
        """The point found, its binaries exact."""
        x = np.array(solver.getSolution().col_value, dtype=np.float64)
        return np.where(self.layout.integer, np.round(x), x)

    def _dispatch(self, binary: Doubles) -> tuple[float, Doubles, Doubles, Doubles]:
        layout = self.layout
        lower = np.where(layout.integer, binary, layout.lower)
        upper = np.where(layout.integer, binary, layout.upper)
        return self._linear(lower, upper)

    def _linear(self, lower: Doubles, upper: Doubles) -> tuple[float, Doubles, Doubles, Doubles]:
        """Objective, point, and prices of demand and reserve within these bounds."""
        solver = self._solver(integer=False)
        columns = np.arange(lower.shape[0], dtype=np.int32)
        _checked(solver.changeColsBounds(lower.shape[0], columns, lower, upper), "set bounds")
        _checked(solver.run(), "run")
        status = solver.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            words = solver.modelStatusToString(status).lower()
            raise RuntimeError(f"HiGHS found no dispatch of {self.instance.name!r}: {words}")
        solution = solver.getSolution()
        dual = np.array(solution.row_dual, dtype=np.float64)
        return (
            float(solver.getInfo().objective_function_value),
            np.array(solution.col_value, dtype=np.float64),
            dual[self.layout.balance],
            dual[self.layout.requirement],
        )

    def _renewables(self, total: Doubles) -> Doubles:
        """Shares of all renewables ``[T, W]``: everybody uses the same part of its room."""
        low, high = self.instance.renewable_low, self.instance.renewable_high
        room = (high - low).sum(axis=1)
        share = np.divide(total - low.sum(axis=1), room, out=np.zeros_like(total), where=room > 0.0)
        return low + np.clip(share, 0.0, 1.0)[:, None] * (high - low)

    def _solver(self, *, integer: bool) -> Any:
        layout = self.layout
        program = highspy.HighsLp()
        rows, columns, values = layout.rows.entries()
        row_lower, row_upper = layout.rows.bounds()
        program.num_col_, program.num_row_ = layout.cost.shape[0], row_lower.shape[0]
        program.col_cost_ = layout.cost
        program.col_lower_, program.col_upper_ = layout.lower, layout.upper
        program.row_lower_, program.row_upper_ = row_lower, row_upper
        order = np.lexsort((columns, rows))
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = np.searchsorted(
            rows[order], np.arange(row_lower.shape[0] + 1)
        ).astype(np.int32)
        program.a_matrix_.index_ = columns[order].astype(np.int32)
        program.a_matrix_.value_ = values[order]
        if integer:
            kind = highspy.HighsVarType
            program.integrality_ = [
                kind.kInteger if whole else kind.kContinuous for whole in layout.integer.tolist()
            ]
        # highspy's stubs miss methods that its Highs class has.
        solver: Any = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("solver", "simplex"),
            ("threads", 1),
            ("random_seed", 1),
        ):
            _option(solver, name, value)
        _checked(solver.passModel(program), "pass the model")
        return solver


def _feasible(solver: Any) -> bool:
    found = solver.getInfo().primal_solution_status
    return found == highspy.SolutionStatus.kSolutionStatusFeasible


def _option(solver: Any, name: str, value: object) -> None:
    _checked(solver.setOptionValue(name, value), f"set option {name}")


def _checked(status: highspy.HighsStatus, action: str) -> None:
    if status == highspy.HighsStatus.kError:
        raise RuntimeError(f"HiGHS could not {action}: status error")

"""A linear program in HiGHS whose matrix stays while bounds change, with a bound that is proven.

The algorithm is named, the status always checked. The proven bound comes from the duals alone
(weak duality, as Neumaier and Shcherbina, Mathematical Programming 99, 2004, use it): it holds
however far the solver was from the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import highspy
import numpy as np
from scipy.sparse import csr_array

from ...simulators.interface import Doubles

Method = Literal["simplex", "ipm"]

TOLERANCE = 1e-9
"""Primal and dual feasibility tolerance of the simplex."""
GAP = 1e-9
"""Relative duality gap at which the interior point method stops."""


@dataclass(frozen=True, slots=True)
class Box:
    """Bounds: of columns, and of rows."""

    lower: Doubles
    upper: Doubles
    row_lower: Doubles
    row_upper: Doubles


@dataclass(frozen=True, slots=True)
class Optimum:
    """Optimum of ``min cost'x``.

    Attributes:
        objective: its value.
        x: ``[columns]``.
        row_dual: ``[rows]`` change of the optimum per unit of a row's right-hand side.
        iterations: of the algorithm in this solve.
        seconds: that the solver took.
    """

    objective: float
    x: Doubles
    row_dual: Doubles
    iterations: int
    seconds: float


class HotProgram:
    """``min cost'x  s.t.  row_lower <= matrix x <= row_upper, lower <= x <= upper``.

    Args:
        cost: ``[columns]``.
        matrix: ``[rows, columns]``.
        method: ``"simplex"`` starts from the last basis; ``"ipm"`` is the interior point method
            without crossover, which never does and returns no vertex.
        time_limit: s after which a solve is given up, with an error.
    """

    def __init__(
        self, cost: Doubles, matrix: csr_array, method: Method, *, time_limit: float
    ) -> None:
        self.cost, self.matrix, self.time_limit = cost, matrix, time_limit
        self.method: Method = method
        shape: Any = matrix.shape
        rows, columns = shape
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = columns, rows
        program.col_cost_ = cost
        program.col_lower_, program.col_upper_ = np.zeros(columns), np.zeros(columns)
        program.row_lower_, program.row_upper_ = np.full(rows, -np.inf), np.full(rows, np.inf)
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = matrix.indptr.astype(np.int32)
        program.a_matrix_.index_ = matrix.indices.astype(np.int32)
        program.a_matrix_.value_ = np.asarray(matrix.data, np.float64)
        # highspy's stubs miss methods that its Highs class has.
        self._highs: Any = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("solver", method),
            ("run_crossover", "off"),
            ("threads", 1),
            ("random_seed", 1),
            ("primal_feasibility_tolerance", TOLERANCE),
            ("dual_feasibility_tolerance", TOLERANCE),
            ("ipm_optimality_tolerance", GAP),
        ):
            _checked(self._highs.setOptionValue(name, value), f"set option {name}")
        _checked(self._highs.passModel(program), "pass the model")
        self._columns = np.arange(columns, dtype=np.int32)
        self._rows = np.arange(rows, dtype=np.int32)

    def solve(self, box: Box) -> Optimum:
        """Solve within ``box``, from the last basis where the method has one.

        Raises:
            RuntimeError: no optimum was proven; names the solver's status.
        """
        _checked(
            self._highs.changeColsBounds(self._columns.size, self._columns, box.lower, box.upper),
            "change column bounds",
        )
        _checked(
            self._highs.changeRowsBounds(self._rows.size, self._rows, box.row_lower, box.row_upper),
            "change row bounds",
        )
        before = float(self._highs.getRunTime())
        # HiGHS's clock runs on from solve to solve, and its limit is one of the clock.
        limit = before + self.time_limit
        _checked(self._highs.setOptionValue("time_limit", limit), "set the time limit")
        _checked(self._highs.run(), "run")
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            words = self._highs.modelStatusToString(status).lower()
            raise RuntimeError(f"HiGHS found no optimum: the linear program is {words}")
        solution, info = self._highs.getSolution(), self._highs.getInfo()
        interior = self.method == "ipm"
        count = info.ipm_iteration_count if interior else info.simplex_iteration_count
        return Optimum(
            objective=float(info.objective_function_value),
            x=np.array(solution.col_value, dtype=np.float64),
            row_dual=np.array(solution.row_dual, dtype=np.float64),
            iterations=int(count),
            seconds=float(self._highs.getRunTime()) - before,
        )

    def dual_parts(self, row_dual: Doubles, box: Box) -> tuple[float, Doubles]:
        """The Lagrangian of any row duals: its constant, and its slope ``[columns]`` in x.

        The constant plus the least of the slope times x over the columns' box is a bound that no
        feasible x goes below.
        """
        # A dual whose sign asks for a side that is open proves nothing there.
        dual = np.where(np.isinf(box.row_lower), np.minimum(row_dual, 0.0), row_dual)
        dual = np.where(np.isinf(box.row_upper), np.maximum(dual, 0.0), dual)
        side = np.where(dual > 0.0, box.row_lower, box.row_upper)
        paid = np.where(np.isinf(side), 0.0, side) @ dual
        return float(paid), self.cost - self.matrix.T @ dual


def _checked(status: highspy.HighsStatus, action: str) -> None:
    if status == highspy.HighsStatus.kError:
        raise RuntimeError(f"HiGHS could not {action}: status error")

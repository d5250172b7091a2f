"""A linear program that is built once in HiGHS and re-solved hot.

Only bounds, right-hand sides, costs and single coefficients change between two solves; the matrix
stays in the solver. The algorithm is named explicitly, the status is always checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import highspy
import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Doubles, Ints

Method = Literal["simplex", "ipm"]

TOLERANCE = 1e-9
"""Primal and dual feasibility tolerance of every solve."""


@dataclass(frozen=True, slots=True)
class LinearSolution:
    """Optimum of a linear program ``min cost'x``.

    Attributes:
        objective: optimal value.
        x: ``[columns]`` optimal point.
        row_dual: ``[rows]`` change of the optimum per unit of a row's right-hand side.
        iterations: simplex iterations of this solve (few when it was hot).
        status: always ``"optimal"``.
    """

    objective: float
    x: Doubles
    row_dual: Doubles
    iterations: int
    status: str


class HotProgram:
    """``min cost'x  s.t.  row_lower <= A x <= row_upper, lower <= x <= upper`` in HiGHS.

    ``A`` is given as triplets (``rows``, ``columns``, ``values``). With ``hot=False`` a solve
    forgets the last basis, so that its result depends on the data alone and not on the history
    of solves (degenerate programs have several optima). ``method`` is HiGHS's ``"simplex"``, or
    ``"ipm"``: its interior point method without crossover, for large degenerate programs on which
    the simplex's factorisation breaks down; it ignores ``hot``.
    """

    def __init__(
        self,
        *,
        cost: Doubles,
        lower: Doubles,
        upper: Doubles,
        row_lower: Doubles,
        row_upper: Doubles,
        rows: Ints,
        columns: Ints,
        values: Doubles,
        method: Method = "simplex",
    ) -> None:
        program = highspy.HighsLp()
        program.num_col_ = cost.shape[0]
        program.num_row_ = row_lower.shape[0]
        program.col_cost_ = cost
        program.col_lower_ = lower
        program.col_upper_ = upper
        program.row_lower_ = row_lower
        program.row_upper_ = row_upper
        order = np.lexsort((columns, rows))
        starts = np.searchsorted(rows[order], np.arange(row_lower.shape[0] + 1))
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = starts.astype(np.int32)
        program.a_matrix_.index_ = columns[order].astype(np.int32)
        program.a_matrix_.value_ = values[order]
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
        ):
            self._checked(self._highs.setOptionValue(name, value), f"set option {name}")
        self._checked(self._highs.passModel(program), "pass the model")
        self._all_rows = np.arange(row_lower.shape[0], dtype=np.int32)
        self._all_columns = np.arange(cost.shape[0], dtype=np.int32)

    def set_rows(self, lower: Doubles, upper: Doubles) -> None:
        """New right-hand sides of all rows."""
        self._checked(
            self._highs.changeRowsBounds(
                self._all_rows.shape[0], self._all_rows, _flat(lower), _flat(upper)
            ),
            "change row bounds",
        )

    def set_columns(self, lower: Doubles, upper: Doubles) -> None:
        """New bounds of all columns."""
        self._checked(
            self._highs.changeColsBounds(
                self._all_columns.shape[0], self._all_columns, _flat(lower), _flat(upper)
            ),
            "change column bounds",
        )

    def set_coefficient(self, row: int, column: int, value: float) -> None:
        """One new matrix entry."""
        self._checked(self._highs.changeCoeff(row, column, float(value)), "change a coefficient")

    def solve(self, *, hot: bool = True) -> LinearSolution:
        """Solve from the last basis, or from scratch with ``hot=False``.

        Raises:
            RuntimeError: no optimum was proven; names the solver's status.
        """
        if not hot:
            self._checked(self._highs.clearSolver(), "clear the last basis")
        self._checked(self._highs.run(), "run")
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            words = self._highs.modelStatusToString(status).lower()
            raise RuntimeError(f"HiGHS found no optimum: the linear program is {words}")
        solution = self._highs.getSolution()
        info = self._highs.getInfo()
        return LinearSolution(
            objective=float(info.objective_function_value),
            x=np.array(solution.col_value, dtype=np.float64),
            row_dual=np.array(solution.row_dual, dtype=np.float64),
            iterations=int(info.simplex_iteration_count),
            status="optimal",
        )

    @staticmethod
    def _checked(status: highspy.HighsStatus, action: str) -> None:
        if status == highspy.HighsStatus.kError:
            raise RuntimeError(f"HiGHS could not {action}: status error")


def _flat(values: Doubles) -> NDArray[np.float64]:
    return np.ascontiguousarray(values, dtype=np.float64)

"""A linear program in HiGHS that is re-solved hot and grows by rows with slack at a price.

Bounds, right-hand sides and single costs change between two solves; the matrix stays in the solver
and so does its basis. Rows that were added can be dropped again. The algorithm is named explicitly,
and the status is always checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import highspy
import numpy as np

from ...simulators.interface import Doubles, Ints

Method = Literal["simplex", "ipm"]

TOLERANCE = 1e-9
"""Primal and dual feasibility tolerance of the simplex."""
GAP = 1e-9
"""Relative duality gap at which the interior point method stops."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """Optimum of ``min cost'x``.

    Attributes:
        objective: optimal value.
        x: ``[columns]``.
        row_dual: ``[rows]`` change of the optimum per unit of a row's right-hand side.
        iterations: of the algorithm in this solve.
    """

    objective: float
    x: Doubles
    row_dual: Doubles
    iterations: int


class GrowingProgram:
    """``min cost'x  s.t.  row_lower <= A x <= row_upper, lower <= x <= upper`` in HiGHS.

    ``A`` is given as triplets (``rows``, ``columns``, ``values``). ``method`` is HiGHS's
    ``"simplex"`` or ``"ipm"`` (interior point without crossover, for bounds over long horizons;
    it never starts hot).
    """

    def __init__(
        self,
        *,
        cost: Doubles,
        row_count: int,
        rows: Ints,
        columns: Ints,
        values: Doubles,
        method: Method = "simplex",
    ) -> None:
        self.cost = cost.copy()
        self._entries = [(rows, columns, values)]
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = cost.shape[0], row_count
        program.col_cost_ = cost
        program.col_lower_, program.col_upper_ = np.zeros_like(cost), np.zeros_like(cost)
        program.row_lower_ = np.full(row_count, -np.inf)
        program.row_upper_ = np.full(row_count, np.inf)
        order = np.lexsort((columns, rows))
        starts = np.searchsorted(rows[order], np.arange(row_count + 1))
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = starts.astype(np.int32)
        program.a_matrix_.index_ = columns[order].astype(np.int32)
        program.a_matrix_.value_ = values[order]
        # highspy's stubs miss methods that its Highs class has.
        self._highs: Any = highspy.Highs()
        self.interior = method == "ipm"
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
            self._checked(self._highs.setOptionValue(name, value), f"set option {name}")
        self._checked(self._highs.passModel(program), "pass the model")
        self._rows = np.arange(row_count, dtype=np.int32)
        self._columns = np.arange(cost.shape[0], dtype=np.int32)
        self.added = 0
        self.slack_price = 0.0
        self._bounds = (np.zeros(0),) * 4
        self._added_bounds = (np.zeros(0), np.zeros(0))

    def bounds(self) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """Bounds of the columns it was built with, and of all rows, added ones last."""
        lower, upper, row_lower, row_upper = self._bounds
        low, high = self._added_bounds
        return lower, upper, np.concatenate([row_lower, low]), np.concatenate([row_upper, high])

    def entries(self) -> tuple[Ints, Ints, Doubles]:
        """Triplets of all rows, without the slacks of added ones."""
        row, column, value = zip(*self._entries, strict=True)
        return np.concatenate(row), np.concatenate(column), np.concatenate(value)

    def set_bounds(
        self, lower: Doubles, upper: Doubles, row_lower: Doubles, row_upper: Doubles
    ) -> None:
        """New bounds of all columns and rows that the program was built with."""
        self._bounds = (_flat(lower), _flat(upper), _flat(row_lower), _flat(row_upper))
        self._checked(
            self._highs.changeColsBounds(self._columns.shape[0], self._columns, *self._bounds[:2]),
            "change column bounds",
        )
        self._checked(
            self._highs.changeRowsBounds(self._rows.shape[0], self._rows, *self._bounds[2:]),
            "change row bounds",
        )

    def set_costs(self, columns: Ints, cost: Doubles) -> None:
        """New costs of some columns; the solver hears of it only where one differs."""
        if np.array_equal(self.cost[columns], cost):
            return
        self.cost[columns] = cost
        self._checked(
            self._highs.changeColsCost(columns.shape[0], columns.astype(np.int32), _flat(cost)),
            "change costs",
        )

    def add_rows(
        self, count: int, rows: Ints, columns: Ints, values: Doubles, price: float
    ) -> None:
        """Append ``count`` rows, each with a slack column downwards and one upwards at ``price``.

        Triplets name rows from 0 and ascend in them. The new rows are open until ``set_added``
        closes them.
        """
        base = self._rows.shape[0] + self.added
        open_end = np.full(count, np.inf)
        self._checked(
            self._highs.addRows(
                count,
                -open_end,
                open_end,
                columns.shape[0],
                np.searchsorted(rows, np.arange(count)).astype(np.int32),
                columns.astype(np.int32),
                _flat(values),
            ),
            "add rows",
        )
        slacks = 2 * count
        self._checked(
            self._highs.addCols(
                slacks,
                np.full(slacks, price),
                np.zeros(slacks),
                np.full(slacks, np.inf),
                slacks,
                np.arange(slacks, dtype=np.int32),
                np.repeat(np.arange(base, base + count, dtype=np.int32), 2),
                np.tile([-1.0, 1.0], count),
            ),
            "add slacks",
        )
        self.added += count
        self.slack_price = price
        self._entries.append((rows + base, columns, values))

    def set_added(self, lower: Doubles, upper: Doubles) -> None:
        """Bounds of all added rows."""
        if self.added == 0:
            return
        base = self._rows.shape[0]
        rows = np.arange(base, base + self.added, dtype=np.int32)
        self._added_bounds = (_flat(lower), _flat(upper))
        self._checked(
            self._highs.changeRowsBounds(self.added, rows, *self._added_bounds),
            "change bounds of added rows",
        )

    def drop_added(self) -> None:
        """Remove every added row and its slacks."""
        if self.added == 0:
            return
        base, first = self._rows.shape[0], self._columns.shape[0]
        rows = np.arange(base, base + self.added, dtype=np.int32)
        columns = np.arange(first, first + 2 * self.added, dtype=np.int32)
        self._checked(self._highs.deleteCols(columns.shape[0], columns), "drop slacks")
        self._checked(self._highs.deleteRows(rows.shape[0], rows), "drop rows")
        self.added = 0
        self._entries = self._entries[:1]
        self._added_bounds = (np.zeros(0), np.zeros(0))

    def solve(self) -> Optimum:
        """Solve, from the last basis where there is one.

        Raises:
            RuntimeError: no optimum was proven; names the solver's status.
        """
        self._checked(self._highs.run(), "run")
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            words = self._highs.modelStatusToString(status).lower()
            raise RuntimeError(f"HiGHS found no optimum: the linear program is {words}")
        solution, info = self._highs.getSolution(), self._highs.getInfo()
        count = info.ipm_iteration_count if self.interior else info.simplex_iteration_count
        return Optimum(
            objective=float(info.objective_function_value),
            x=np.array(solution.col_value, dtype=np.float64),
            row_dual=np.array(solution.row_dual, dtype=np.float64),
            iterations=int(count),
        )

    @staticmethod
    def _checked(status: highspy.HighsStatus, action: str) -> None:
        if status == highspy.HighsStatus.kError:
            raise RuntimeError(f"HiGHS could not {action}: status error")


def _flat(values: Doubles) -> Doubles:
    return np.ascontiguousarray(values, dtype=np.float64).ravel()

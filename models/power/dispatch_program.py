"""The linear program of an optimal dispatch in HiGHS: hot, with rows for the lines that matter.

Columns stay, rows come one by one: first only the balances, then a row for every line that some
optimum would have overloaded. HiGHS keeps its basis over all changes. The algorithm is named
explicitly, the status is always checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from ...simulators.interface import Doubles

TOLERANCE = 1e-9
"""Primal and dual feasibility tolerance."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """Optimum of ``min price'x``; ``row_dual`` is its change per unit of a right-hand side."""

    objective: float
    x: Doubles
    row_dual: Doubles
    iterations: int


class DispatchProgram:
    """``min price'x  s.t.  row_lower <= A x <= row_upper, lower <= x <= upper``.

    ``fixed`` rows ``[rows, columns]`` are dense and stay; more rows are appended and dropped.
    """

    def __init__(self, *, price: Doubles, fixed: Doubles) -> None:
        program = highspy.HighsLp()
        program.num_col_ = price.shape[0]
        program.num_row_ = fixed.shape[0]
        program.col_cost_ = price
        program.col_lower_ = np.zeros(price.shape[0])
        program.col_upper_ = np.zeros(price.shape[0])
        program.row_lower_ = np.zeros(fixed.shape[0])
        program.row_upper_ = np.zeros(fixed.shape[0])
        row, column = np.nonzero(fixed)
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = np.searchsorted(row, np.arange(fixed.shape[0] + 1))
        program.a_matrix_.index_ = column.astype(np.int32)
        program.a_matrix_.value_ = fixed[row, column]
        # highspy's stubs miss methods that its Highs class has.
        self._highs: Any = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("solver", "simplex"),
            ("simplex_strategy", 1),  # dual: what changes between two solves are bounds
            ("threads", 1),
            ("random_seed", 1),
            ("primal_feasibility_tolerance", TOLERANCE),
            ("dual_feasibility_tolerance", TOLERANCE),
        ):
            self._checked(self._highs.setOptionValue(name, value), f"set option {name}")
        self._checked(self._highs.passModel(program), "pass the model")
        self._columns = np.arange(price.shape[0], dtype=np.int32)
        self._bounds = np.zeros(price.shape[0]), np.zeros(price.shape[0])
        self._fixed_rows, self._slacks = fixed.shape[0], 0
        self._rows = np.arange(fixed.shape[0], dtype=np.int32)

    def set_columns(self, lower: Doubles, upper: Doubles) -> None:
        """New bounds of all columns; the solver hears of it only where one differs."""
        if np.array_equal(upper, self._bounds[1]) and np.array_equal(lower, self._bounds[0]):
            return
        self._bounds = lower.copy(), upper.copy()
        self._checked(
            self._highs.changeColsBounds(self._columns.shape[0], self._columns, lower, upper),
            "change columns",
        )

    def set_prices(self, price: Doubles) -> None:
        """New prices of the first columns."""
        some = self._columns[: price.shape[0]]
        self._checked(self._highs.changeColsCost(some.shape[0], some, price), "change prices")

    def set_rows(self, lower: Doubles, upper: Doubles) -> None:
        """New sides of all rows, the appended ones last."""
        rows = self._rows
        self._checked(self._highs.changeRowsBounds(rows.shape[0], rows, lower, upper), "set rows")

    def append(self, rows: Doubles, lower: Doubles, upper: Doubles, price: float | None) -> None:
        """Append dense ``rows`` ``[n, columns]``; with ``price`` they may be broken at it."""
        count, width = rows.shape
        starts = np.arange(count, dtype=np.int32) * width
        index = np.tile(self._columns, count)
        values = np.ascontiguousarray(rows).ravel()
        self._checked(
            self._highs.addRows(count, lower, upper, count * width, starts, index, values),
            "append rows",
        )
        before = self._rows.shape[0]
        self._rows = np.arange(before + count, dtype=np.int32)
        if price is None:
            return
        slacks = 2 * count
        done = self._highs.addCols(
            slacks,
            np.full(slacks, price),
            np.zeros(slacks),
            np.full(slacks, np.inf),
            slacks,
            np.arange(slacks, dtype=np.int32),
            np.repeat(self._rows[before:], 2),
            np.tile([-1.0, 1.0], count),
        )
        self._checked(done, "append slacks")
        self._slacks += slacks

    def drop(self) -> None:
        """Drop all appended rows and what lets them be broken."""
        added = self._rows[self._fixed_rows :]
        if not added.shape[0]:
            return
        if self._slacks:
            first = self._columns.shape[0]
            slacks = np.arange(first, first + self._slacks, dtype=np.int32)
            self._checked(self._highs.deleteCols(self._slacks, slacks), "drop slacks")
        self._checked(self._highs.deleteRows(added.shape[0], added), "drop rows")
        self._rows, self._slacks = self._rows[: self._fixed_rows], 0

    def forget(self) -> None:
        """Forget the basis, so that the next solve depends on its data alone."""
        self._checked(self._highs.clearSolver(), "forget the basis")

    def solve(self) -> Optimum:
        """Solve from the last basis.

        Raises:
            RuntimeError: no optimum was proven; names the solver's status.
        """
        highs = self._highs
        self._checked(highs.run(), "run")
        status = highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            words = highs.modelStatusToString(status).lower()
            raise RuntimeError(f"HiGHS found no optimum: the dispatch is {words}")
        solution, info = highs.getSolution(), highs.getInfo()
        return Optimum(
            objective=float(info.objective_function_value),
            x=np.array(solution.col_value)[: self._columns.shape[0]],
            row_dual=np.array(solution.row_dual),
            iterations=int(info.simplex_iteration_count),
        )

    @staticmethod
    def _checked(status: highspy.HighsStatus, action: str) -> None:
        if status == highspy.HighsStatus.kError:
            raise RuntimeError(f"HiGHS could not {action}: status error")

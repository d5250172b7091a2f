"""HiGHS for Pyomo's linear programs: named algorithm, one thread, and only a proven optimum."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import pyomo.environ as pyo
from pyomo.contrib.appsi.base import TerminationCondition
from pyomo.contrib.appsi.solvers import highs

TOLERANCE = 1e-9
"""Primal and dual feasibility tolerance."""


class QuietHighs(highs.Highs):
    """Pyomo's interface to HiGHS without its redirection of the process's output.

    Pyomo captures file descriptors around every build and every run, with threads that read pipes;
    where another tool captures them as well (pytest's workers), a flush can wait for ever. There is
    nothing to capture: HiGHS prints nothing here.
    """

    def set_instance(self, model: Any) -> None:
        with _nothing_captured():
            super().set_instance(model)

    def _solve(self, timer: Any) -> Any:
        with _nothing_captured():
            return super()._solve(timer)


@contextmanager
def _nothing_captured() -> Generator[None]:
    before = highs.capture_output
    highs.capture_output = lambda *_, **__: nullcontext()
    try:
        yield
    finally:
        highs.capture_output = before


def make_solver() -> Any:
    """A persistent solver; the model it is given first may be changed and solved again."""
    solver: Any = QuietHighs()
    solver.config.load_solution = False
    solver.highs_options = {
        "output_flag": False,
        "solver": "simplex",
        "threads": 1,
        "random_seed": 1,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": TOLERANCE,
    }
    return solver


def solve(model: Any, what: str, solver: Any = None, *, duals: bool = True) -> Any:
    """Solve in place and return the duals by constraint (``None`` where integers have none).

    Raises:
        RuntimeError: no optimum was proven; names ``what`` and the solver's status.
    """
    solver = make_solver() if solver is None else solver
    condition = solver.solve(model).termination_condition
    if condition != TerminationCondition.optimal:
        raise RuntimeError(f"HiGHS found no optimum of the {what}: it is {condition.name}")
    solver.load_vars()
    return solver.get_duals() if duals else None


def number(expression: Any) -> float:
    """Value of a variable or expression at the solution."""
    value: Any = pyo.value(expression)
    return float(value)

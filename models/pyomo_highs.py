"""HiGHS for Pyomo's linear programs: named algorithm, one thread, and only a proven optimum."""

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo
from pyomo.contrib.appsi.base import TerminationCondition
from pyomo.contrib.appsi.solvers.highs import Highs

TOLERANCE = 1e-9
"""Primal and dual feasibility tolerance."""


def make_solver() -> Any:
    """A persistent solver; the model it is given first may be changed and solved again."""
    solver: Any = Highs()
    solver.config.load_solution = False
    solver.highs_options = {
        "solver": "simplex",
        "threads": 1,
        "random_seed": 1,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": TOLERANCE,
    }
    return solver


def solve(model: Any, what: str, solver: Any = None) -> Any:
    """Solve in place and return the duals by constraint.

    Raises:
        RuntimeError: no optimum was proven; names ``what`` and the solver's status.
    """
    solver = make_solver() if solver is None else solver
    condition = solver.solve(model).termination_condition
    if condition != TerminationCondition.optimal:
        raise RuntimeError(f"HiGHS found no optimum of the {what}: it is {condition.name}")
    solver.load_vars()
    return solver.get_duals()


def number(expression: Any) -> float:
    """Value of a variable or expression at the solution."""
    value: Any = pyo.value(expression)
    return float(value)

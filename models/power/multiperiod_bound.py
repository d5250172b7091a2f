"""What a whole episode costs at least: dispatch with perfect foresight, and a proof of it.

The multi-period dispatch over all intervals of an episode, given what really happened (load,
availability, outages, commitment). It is no harder than any simulated episode with these data: no
reserve, any storage end at what it is worth, starts that reach any output at once, free storage
cycling, shedding of any bus. As a copper plate it bounds episodes with and without a network; with
limits it holds only where these limits held throughout.

The value reported is not the solver's word but a dual point's: by weak duality any row prices give
a lower bound once every column takes the end of its range that is cheapest at them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.power.grid import Grid
from ...simulators.power.scenario import Prices
from .multiperiod import DispatchSolution, MultiPeriodDispatch
from .multiperiod_inputs import DispatchInputs, DispatchState, FlowLimits, StorageEnd
from .multiperiod_program import GrowingProgram, Method


@dataclass(frozen=True, slots=True)
class ForesightBound:
    """Cost of perfect foresight.

    Attributes:
        value: $ that no dispatch of these data undercuts (dual point).
        objective: $ of the solver's dispatch; equals ``value`` up to its tolerance.
        dispatch: the whole solution.
        status: always ``"optimal"``.
    """

    value: float
    objective: float
    dispatch: DispatchSolution
    status: str


def lower_bound(
    grid: Grid,
    trajectory: DispatchInputs,
    state: DispatchState,
    *,
    step: float,
    prices: Prices | None = None,
    network: FlowLimits | None = None,
    method: Method = "simplex",
) -> ForesightBound:
    """Lower bound of the cost of an episode of T intervals.

    Args:
        grid: checked.
        trajectory: what happened, T intervals; its ``reserve`` is not used, any storage end is
            allowed where it states none.
        state: at the start.
        step: interval in s.
        prices: of the scenario.
        network: limits that held in every interval, or none (see the module).
        method: ``"simplex"`` or ``"ipm"`` (interior point without crossover).

    Raises:
        ValueError: inputs of a wrong shape or value (named).
        RuntimeError: no optimum was proven; names the solver's status.
    """
    load = trajectory.load
    if network is None and load.ndim == 2:
        load = load.sum(axis=1)
    problem = MultiPeriodDispatch(
        grid,
        horizon=load.shape[0],
        step=step,
        network=network,
        prices=prices,
        wear=0.0,
        method=method,
        relaxed=True,
    )
    end = trajectory.end
    if end is None:
        end = StorageEnd.free(len(grid.storages.name))
    given = replace(trajectory, load=load, reserve=None, end=end)
    solution = problem.solve(state, given)
    shift = solution.objective - problem.program_value * problem.layout.hours
    value = dual_bound(problem.program, problem.row_dual) * problem.layout.hours + shift
    return ForesightBound(
        value=min(value, solution.objective),
        objective=solution.objective,
        dispatch=solution,
        status="optimal",
    )


def dual_bound(program: GrowingProgram, row_dual: Doubles) -> float:
    """Largest value that weak duality proves for these row prices.

    Prices that pull at an open end of a row, or that an added row's slack undercuts, are cut.
    """
    lower, upper, row_lower, row_upper = program.bounds()
    count = row_dual.shape[0] - program.added
    price = row_dual.copy()
    price[count:] = np.clip(price[count:], -program.slack_price, program.slack_price)
    price[(price > 0.0) & np.isneginf(row_lower)] = 0.0
    price[(price < 0.0) & np.isposinf(row_upper)] = 0.0
    rows, columns, values = program.entries()
    reduced = program.cost - np.bincount(
        columns, weights=values * price[rows], minlength=program.cost.shape[0]
    )
    active = np.where(price > 0.0, row_lower, row_upper)
    held = float(np.sum(price[price != 0.0] * active[price != 0.0]))
    return held + float(np.sum(reduced * np.where(reduced > 0.0, lower, upper)))

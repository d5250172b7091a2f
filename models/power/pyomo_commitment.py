"""Unit commitment in Pyomo: the readable statement, and the check of the array form.

After the reference model of PGLib-UC (see ``commitment_layout`` for the source), one rule at a time
and without the array form's tightenings. For small instances; it is rebuilt at every call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from ...simulators.power.files.pglib_uc import CommitmentInstance
from ..pyomo_highs import QuietHighs, number, solve


def commitment_pyomo(instance: CommitmentInstance) -> float:
    """Optimal cost in $.

    Raises:
        RuntimeError: HiGHS proved no optimum (status named).
    """
    units = instance.thermals
    model: Any = pyo.ConcreteModel()
    model.times, model.units = range(instance.demand.shape[0]), range(len(units.name))
    lags = [[lag for lag in row if np.isfinite(lag)] for row in units.start_lag.tolist()]
    model.kinds = [(g, s) for g in model.units for s in range(len(lags[g]))]
    model.points = [(g, k) for g in model.units for k in range(units.curve.power.shape[1])]
    for name in ("on", "start", "stop"):
        setattr(model, name, pyo.Var(model.times, model.units, within=pyo.Binary))
    model.kind = pyo.Var(model.times, model.kinds, within=pyo.Binary)
    model.share = pyo.Var(model.times, model.points, within=pyo.UnitInterval)
    model.above = pyo.Var(model.times, model.units, within=pyo.NonNegativeReals)
    model.held = pyo.Var(model.times, model.units, within=pyo.NonNegativeReals)
    low, high = instance.renewable_low, instance.renewable_high
    model.renewable = pyo.Var(
        model.times,
        range(low.shape[1]),
        bounds=lambda _m, t, w: (float(low[t, w]), float(high[t, w])),
    )
    _states(model, instance)
    _start_kinds(model, instance, lags)
    _outputs(model, instance)
    _ramps(model, instance)
    _system(model, instance)
    share: Any = model.share
    kind: Any = model.kind
    model.objective = pyo.Objective(
        expr=pyo.quicksum(
            float(units.curve.cost[g, k]) * share[t, g, k]
            for t in model.times
            for g, k in model.points
        )
        + pyo.quicksum(
            float(units.start_cost[g, s]) * kind[t, g, s]
            for t in model.times
            for g, s in model.kinds
        )
    )
    solver: Any = QuietHighs()
    solver.config.load_solution = False
    solver.config.mip_gap = 0.0
    solver.highs_options = {
        "output_flag": False,
        "threads": 1,
        "random_seed": 1,
        "mip_abs_gap": 1e-9,
    }
    solve(model, "commitment", solver, duals=False)
    return number(model.objective)


def _states(model: Any, instance: CommitmentInstance) -> None:
    """On, start, stop; minimum times, with the hours before the start."""
    units = instance.thermals
    model.logic = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: (
            m.on[t, g] - (int(units.on[g]) if t == 0 else m.on[t - 1, g])
            == m.start[t, g] - m.stop[t, g]
        ),
    )

    def recent(variable: Any, t: int, g: int, hours: int) -> Any:
        return sum(variable[i, g] for i in range(max(0, t - max(hours, 1) + 1), t + 1))

    model.min_up = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: recent(m.start, t, g, int(units.min_up[g])) <= m.on[t, g],
    )
    model.min_down = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: recent(m.stop, t, g, int(units.min_down[g])) <= 1 - m.on[t, g],
    )
    for t in model.times:
        for g in model.units:
            if units.must_run[g] or (units.on[g] and units.up[g] + t < units.min_up[g]):
                model.on[t, g].setlb(1)
            if not units.on[g] and units.down[g] + t < units.min_down[g]:
                model.on[t, g].setub(0)


def _start_kinds(model: Any, instance: CommitmentInstance, lags: list[list[float]]) -> None:
    """A start is of one kind; all but the coldest need a stop of the right age."""
    units = instance.thermals
    model.one_kind = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: sum(m.kind[t, g, s] for s in range(len(lags[g]))) == m.start[t, g],
    )

    def young(m: Any, t: int, g: int, s: int) -> Any:
        if s == len(lags[g]) - 1:
            return pyo.Constraint.Skip
        first, last = (1 if s == 0 else int(lags[g][s])), int(lags[g][s + 1])
        stops = sum(m.stop[t - age, g] for age in range(first, last) if age <= t)
        age = int(units.down[g]) + t
        known = 1 if not units.on[g] and first <= age < last else 0
        return m.kind[t, g, s] <= stops + known

    model.young = pyo.Constraint(model.times, model.kinds, rule=young)


def _outputs(model: Any, instance: CommitmentInstance) -> None:
    """Points of the cost curve, and room for output and reserve around starts and stops."""
    units = instance.thermals
    points, last = range(units.curve.power.shape[1]), len(model.times) - 1
    rise = units.curve.power - units.low[:, None]
    model.curve = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: sum(m.share[t, g, k] for k in points) == m.on[t, g],
    )
    model.output = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: (
            sum(float(rise[g, k]) * m.share[t, g, k] for k in points) == m.above[t, g]
        ),
    )

    def room(m: Any, t: int, g: int, limit: float, event: Any) -> Any:
        lost = max(float(units.high[g]) - limit, 0.0)
        return (
            m.above[t, g] + m.held[t, g]
            <= float(units.high[g] - units.low[g]) * m.on[t, g] - lost * event
        )

    model.room_start = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: room(m, t, g, float(units.ramp_start[g]), m.start[t, g]),
    )
    model.room_stop = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: room(
            m, t, g, float(units.ramp_stop[g]), m.stop[t + 1, g] if t < last else 0
        ),
    )
    for g in model.units:
        if units.on[g] and units.power[g] > units.ramp_stop[g]:
            model.stop[0, g].setub(0)


def _ramps(model: Any, instance: CommitmentInstance) -> None:
    units = instance.thermals

    def before(m: Any, t: int, g: int) -> Any:
        if t > 0:
            return m.above[t - 1, g]
        return float(units.power[g] - units.low[g]) if units.on[g] else 0.0

    model.ramp_up = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: (
            m.above[t, g] + m.held[t, g] - before(m, t, g) <= float(units.ramp_up[g])
        ),
    )
    model.ramp_down = pyo.Constraint(
        model.times,
        model.units,
        rule=lambda m, t, g: before(m, t, g) - m.above[t, g] <= float(units.ramp_down[g]),
    )


def _system(model: Any, instance: CommitmentInstance) -> None:
    units, others = instance.thermals, range(instance.renewable_low.shape[1])
    model.balance = pyo.Constraint(
        model.times,
        rule=lambda m, t: (
            sum(m.above[t, g] + float(units.low[g]) * m.on[t, g] for g in model.units)
            + sum(m.renewable[t, w] for w in others)
            == float(instance.demand[t])
        ),
    )
    model.reserve = pyo.Constraint(
        model.times,
        rule=lambda m, t: sum(m.held[t, g] for g in model.units) >= float(instance.reserves[t]),
    )

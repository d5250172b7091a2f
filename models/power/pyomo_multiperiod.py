"""The multi-period dispatch in Pyomo: its readable statement, and the check of the hot form.

Outputs are variables here, costs the upper envelope of a curve's lines, and every branch limit is
a row from the start. Rebuilt at every call and not meant for a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from ...simulators.interface import Doubles
from ...simulators.power.costs import CostTable
from ...simulators.power.grid import Grid
from ...simulators.power.scenario import Prices
from ..pyomo_highs import number, solve
from .multiperiod import WEAR
from .multiperiod_inputs import (
    DispatchData,
    DispatchInputs,
    DispatchState,
    FlowLimits,
    checked_inputs,
)
from .multiperiod_layout import RESERVE_MINUTES


@dataclass(frozen=True, slots=True)
class PyomoDispatch:
    """Optimum of the Pyomo form; fields as in ``multiperiod.DispatchSolution``."""

    power: Doubles
    soc: Doubles
    price: Doubles
    water_value: Doubles
    objective: float
    status: str


def multiperiod_pyomo(
    grid: Grid,
    state: DispatchState,
    inputs: DispatchInputs,
    *,
    step: float,
    network: FlowLimits | None = None,
    prices: Prices | None = None,
    wear: float = WEAR,
) -> PyomoDispatch:
    """Dispatch the horizon of ``inputs`` from ``state``; with reserve where inputs ask for it.

    Storages may charge and discharge at once, as in the relaxed form.

    Raises:
        ValueError: inputs of a wrong shape or value (named).
        RuntimeError: HiGHS proved no optimum (status named).
    """
    horizon = inputs.low.shape[0]
    buses = len(grid.buses.name) if network is not None else 0
    data = checked_inputs(grid, horizon, buses, step, state, inputs)
    price, hours = Prices() if prices is None else prices, step / 3600.0
    model: Any = pyo.ConcreteModel()
    times, units = range(horizon), range(len(grid.units.name))
    _variables(model, grid, data, nodal=network is not None)
    _production(model, grid, data)
    _ramps(model, grid, data, step)
    _storages(model, grid, data, hours)
    _reserve(model, grid, data)

    def balance(m: Any, t: int) -> Any:
        give = pyo.quicksum(m.power[t, u] for u in units)
        stored = pyo.quicksum(m.discharge[t, r] - m.charge[t, r] for r in model.stores)
        shed = pyo.quicksum(m.shed[t, b] for b in model.nodes)
        return give + stored + shed - m.surplus[t] == float(data.load[t].sum())

    model.balance = pyo.Constraint(times, rule=balance)
    overload: Any = 0.0
    if network is not None:
        _limits(model, grid, data, network)
        overload = price.overload * pyo.quicksum(model.overload.values())
    wasted = grid.units.renewable & grid.units.curtailable
    waste = pyo.quicksum(
        data.high[t, u] - model.power[t, u] for t in times for u in units if wasted[u]
    )
    last = horizon - 1
    model.objective = pyo.Objective(
        expr=hours
        * (
            pyo.quicksum(model.cost.values())
            + price.shed * pyo.quicksum(model.shed.values())
            + price.surplus * pyo.quicksum(model.surplus.values())
            + price.curtailment * waste
            + overload
            + price.reserve * pyo.quicksum(model.short.values())
            + wear / 2.0 * pyo.quicksum((*model.charge.values(), *model.discharge.values()))
        )
        - pyo.quicksum(float(data.end.value[r]) * model.soc[last, r] for r in model.stores)
    )
    dual = solve(model, "dispatch")
    return _result(model, grid, network, dual, hours, horizon)


def _variables(model: Any, grid: Grid, data: DispatchData, *, nodal: bool) -> None:
    times, units = range(data.low.shape[0]), range(len(grid.units.name))
    stores, energy = range(len(grid.storages.name)), grid.storages.energy
    model.stores = stores
    model.nodes = range(len(grid.buses.name)) if nodal else range(1)
    model.lines = range(len(grid.dc_lines.name)) if nodal else range(0)
    load = data.load.reshape(len(times), -1)
    model.power = pyo.Var(
        times, units, bounds=lambda _m, t, u: (float(data.low[t, u]), float(data.high[t, u]))
    )
    model.cost = pyo.Var(times, units)
    most = lambda _m, t, r: (0.0, float(data.storage_power[t, r]))  # noqa: E731
    model.charge = pyo.Var(times, stores, bounds=most)
    model.discharge = pyo.Var(times, stores, bounds=most)
    model.soc = pyo.Var(times, stores, bounds=lambda _m, _t, r: (0.0, float(energy[r])))
    model.shed = pyo.Var(
        times, model.nodes, bounds=lambda _m, t, b: (0.0, max(float(load[t, b]), 0.0))
    )
    model.surplus = pyo.Var(times, within=pyo.NonNegativeReals)
    limit = grid.dc_lines.limit
    model.dc = pyo.Var(times, model.lines, bounds=lambda _m, _t, h: (-limit[h], limit[h]))


def _production(model: Any, grid: Grid, data: DispatchData) -> None:
    """Cost of every unit above all lines of its curve; nothing while it is off."""
    table = CostTable(grid.units.curve)
    times, units = range(data.low.shape[0]), range(len(grid.units.name))

    def line(m: Any, t: int, u: int, k: int) -> Any:
        if not data.on[t, u]:
            return m.cost[t, u] >= 0.0
        return m.cost[t, u] >= float(table.fixed[u, k]) + float(table.slope[u, k]) * m.power[t, u]

    model.line = pyo.Constraint(times, units, range(table.slope.shape[1]), rule=line)


def _ramps(model: Any, grid: Grid, data: DispatchData, step: float) -> None:
    times, units = range(data.low.shape[0]), range(len(grid.units.name))

    def ramp(m: Any, t: int, u: int) -> Any:
        limit = float(grid.units.ramp[u]) * step / 60.0
        if not np.isfinite(limit) or data.ramp_free[t]:
            return pyo.Constraint.Skip
        before = float(data.power[u]) if t == 0 else m.power[t - 1, u]
        low, high = (
            (float(data.power[u]),) * 2 if t == 0 else (data.low[t - 1, u], data.high[t - 1, u])
        )
        # A box that moves further than the ramp takes the unit with it; a start comes in at its
        # minimum and ramps from there.
        down = min(-limit, float(data.high[t, u] - high))
        up = max(limit, float(data.low[t, u] - low))
        if high <= 0.0 < data.high[t, u]:
            up = limit + float(data.low[t, u])
        return (down, m.power[t, u] - before, up)

    model.ramp = pyo.Constraint(times, units, rule=ramp)


def _storages(model: Any, grid: Grid, data: DispatchData, hours: float) -> None:
    times, efficiency = range(data.low.shape[0]), grid.storages.efficiency

    def energy(m: Any, t: int, r: int) -> Any:
        before = float(data.soc[r]) if t == 0 else m.soc[t - 1, r]
        gained = float(efficiency[r]) * m.charge[t, r] - m.discharge[t, r]
        return m.soc[t, r] - hours * gained == before

    model.energy = pyo.Constraint(times, model.stores, rule=energy)
    last = len(times) - 1
    model.end = pyo.Constraint(
        model.stores,
        rule=lambda m, r: (float(data.end.low[r]), m.soc[last, r], float(data.end.high[r])),
    )


def _reserve(model: Any, grid: Grid, data: DispatchData) -> None:
    """What committed units can add within ten minutes; the rest is missing at a price."""
    units = [u for u in range(len(grid.units.name)) if not grid.units.renewable[u]]
    times, ramp = range(data.low.shape[0]), grid.units.ramp * RESERVE_MINUTES
    model.held = pyo.Var(
        times, units, bounds=lambda _m, _t, u: (0.0, float(min(ramp[u], grid.units.high[u])))
    )
    model.short = pyo.Var(times, within=pyo.NonNegativeReals)
    model.headroom = pyo.Constraint(
        times, units, rule=lambda m, t, u: m.power[t, u] + m.held[t, u] <= float(data.high[t, u])
    )
    model.requirement = pyo.Constraint(
        times,
        rule=lambda m, t: sum(m.held[t, u] for u in units) + m.short[t] >= float(data.reserve[t]),
    )


def _limits(model: Any, grid: Grid, data: DispatchData, network: FlowLimits) -> None:
    """Flow of every branch within its limits, but for overload at a price."""
    times, branches = range(data.low.shape[0]), range(network.high.shape[0])
    load = np.maximum(grid.buses.load, 0.0)
    count = load.shape[0]
    sink = load / load.sum() if load.any() else np.full(count, 1.0 / count)
    model.overload = pyo.Var(times, branches, within=pyo.NonNegativeReals)

    def flow(m: Any, t: int, branch: int) -> Any:
        share = network.ptdf[branch]
        total = float(network.offset[branch] - share @ data.load[t])
        for names, terms in (
            (grid.units.bus, {u: m.power[t, u] for u in range(len(grid.units.name))}),
            (grid.storages.bus, {r: m.discharge[t, r] - m.charge[t, r] for r in m.stores}),
            (np.arange(count), {b: m.shed[t, b] - sink[b] * m.surplus[t] for b in m.nodes}),
            (grid.dc_lines.end, {h: m.dc[t, h] for h in m.lines}),
            (grid.dc_lines.start, {h: -m.dc[t, h] for h in m.lines}),
        ):
            total = total + pyo.quicksum(float(share[names[i]]) * terms[i] for i in terms)
        return total

    def above(m: Any, t: int, branch: int) -> Any:
        if not np.isfinite(network.high[branch]):
            return pyo.Constraint.Skip
        return flow(m, t, branch) - m.overload[t, branch] <= float(network.high[branch])

    def below(m: Any, t: int, branch: int) -> Any:
        if not np.isfinite(network.low[branch]):
            return pyo.Constraint.Skip
        return flow(m, t, branch) + m.overload[t, branch] >= float(network.low[branch])

    model.above = pyo.Constraint(times, branches, rule=above)
    model.below = pyo.Constraint(times, branches, rule=below)


def _result(
    model: Any, grid: Grid, network: FlowLimits | None, dual: Any, hours: float, horizon: int
) -> PyomoDispatch:
    times, units = range(horizon), range(len(grid.units.name))
    price = np.array([[dual[model.balance[t]]] for t in times]) / hours
    if network is not None:
        congestion = np.zeros((horizon, network.high.shape[0]))
        for rows in (model.above, model.below):
            for t, branch in rows:
                congestion[t, branch] += dual[rows[t, branch]] / hours
        price = price + congestion @ network.ptdf
    stores = model.stores
    return PyomoDispatch(
        power=np.array([[number(model.power[t, u]) for u in units] for t in times]),
        soc=np.array([[number(model.soc[t, r]) for r in stores] for t in times]).reshape(
            horizon, len(stores)
        ),
        price=price,
        water_value=np.array([[-dual[model.energy[t, r]] for r in stores] for t in times]).reshape(
            horizon, len(stores)
        ),
        objective=number(model.objective),
        status="optimal",
    )

"""Economic dispatch and DC-OPF in Pyomo: the readable statement, and the check of the fast forms.

The network is written with angles, the fast form with a PTDF and rows on demand, so the two share
nothing but the grid. Solved by HiGHS through Pyomo's persistent interface: a change of loads or
boxes is a change of parameters, and the model is neither rebuilt nor translated again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from ...simulators.interface import Bools, Doubles
from ...simulators.power.costs import CostTable
from ...simulators.power.grid import Curves
from ...simulators.power.network import Network
from ..pyomo_highs import make_solver, solve
from .dcopf import Dispatch, Interval, SlackPrices
from .economic import EconomicDispatch, segment_room


def economic_pyomo(
    curves: Curves, demand: float, *, low: Doubles, high: Doubles, on: Bools
) -> EconomicDispatch:
    """The economic dispatch of ``economic.merit_order`` as a linear program.

    ``price`` and ``next_price`` are both the dual of the balance, ``response`` is NaN.

    Raises:
        RuntimeError: HiGHS proved no optimum (no dispatch meets the demand; status named).
    """
    low, high = np.where(on, low, 0.0), np.where(on, high, 0.0)
    room = segment_room(curves, low, high)
    slope = curves.slope
    model: Any = pyo.ConcreteModel()
    model.used = pyo.Var(
        list(np.ndindex(*room.shape)), bounds=lambda _m, u, k: (0.0, float(room[u, k]))
    )
    _add_economic_rows(model, slope, float(demand - low.sum()))
    dual = solve(model, "economic dispatch")
    power = low + _values(model.used, room.shape).sum(axis=1)
    price = float(dual[model.balance])
    total = float(CostTable(curves).cost(power, on).sum())
    return EconomicDispatch(power, price, price, total, np.full(len(low), np.nan), 0.0)


def _add_economic_rows(model: Any, slope: Doubles, demand: float) -> None:
    model.balance = pyo.Constraint(expr=pyo.quicksum(model.used.values()) == demand)
    model.cost = pyo.Objective(
        expr=pyo.quicksum(float(slope[pair]) * model.used[pair] for pair in model.used)
    )


class PyomoDcOpf:
    """The DC-OPF of ``dcopf.DcOpf`` in angles; built once, re-solved with new parameters.

    Args:
        network: names grid and convention.
        slack: prices of shed load and surplus (lines keep their limits whatever it costs).
        closed: ``[L]`` branches in service (default: all).
    """

    def __init__(
        self,
        network: Network,
        *,
        slack: SlackPrices | None = None,
        closed: Bools | None = None,
    ) -> None:
        self.network, self.slack = network, slack
        self.closed = np.ones(network.branches, dtype=bool) if closed is None else closed
        self._curves = network.grid.units.curve
        self._table = CostTable(self._curves)
        self._model = self._build()
        self._solver = make_solver()
        self._dual: Any = None
        update = self._solver.update_config
        # What does not change is not looked for; that is most of the time of a re-solve.
        update.check_for_new_or_removed_constraints = False
        update.check_for_new_or_removed_vars = False
        update.check_for_new_or_removed_params = False
        update.check_for_new_objective = False
        update.update_constraints = False
        update.update_objective = False
        update.update_named_expressions = False
        self._boxes: tuple[Doubles, Doubles] | None = None

    def solve(self, interval: Interval | None = None) -> Dispatch:
        """The cheapest dispatch of an interval, as ``DcOpf.solve``; no outages, no proximal term.

        Raises:
            RuntimeError: HiGHS proved no optimum (status named).
            ValueError: an interval with outages, other ratings or a proximal point.
        """
        interval = interval or Interval()
        if any(x is not None for x in (interval.topology, interval.rate, interval.around)):
            raise ValueError("the Pyomo form takes loads, boxes, units that are on and DC limits")
        grid, model = self.network.grid, self._model
        low, high, on = self._box(interval)
        load = grid.buses.load if interval.load is None else interval.load
        demand = load + grid.buses.shunt
        given = demand - np.bincount(grid.units.bus, low, self.network.buses)
        for bus, value in enumerate(given.tolist()):
            model.demand[bus] = value
        self._set_bounds(low, high, demand, interval)
        self._dual = solve(model, f"dispatch of grid {grid.name!r}", self._solver)
        return self._result(low, on)

    def _build(self) -> Any:
        model: Any = pyo.ConcreteModel()
        self._add_variables(model)
        self._add_rows(model)
        self._add_cost(model)
        return model

    def _add_variables(self, model: Any) -> None:
        buses = range(self.network.buses)
        model.demand = pyo.Param(buses, mutable=True, initialize=0.0)
        model.used = pyo.Var(list(np.ndindex(*self._curves.slope.shape)), bounds=(0.0, 0.0))
        model.angle = pyo.Var(buses)
        model.dc = pyo.Var(range(len(self.network.grid.dc_lines.name)), bounds=(0.0, 0.0))
        model.shed = pyo.Var(buses, bounds=(0.0, 0.0))
        model.surplus = pyo.Var(buses, bounds=(0.0, None if self.slack else 0.0))

    def _add_rows(self, model: Any) -> None:
        network, lines = self.network, self.network.grid.dc_lines
        for bus in network.references.tolist():
            model.angle[bus].fix(0.0)
        closed = np.flatnonzero(self.closed).tolist()
        start, end = network.start.tolist(), network.end.tolist()
        weight = (network.base * network.susceptance).tolist()
        shift = network.shift.tolist()

        def flow(m: Any, line: int) -> Any:
            return weight[line] * (m.angle[start[line]] - m.angle[end[line]] - shift[line])

        model.flow = pyo.Expression(closed, rule=flow)
        into: list[list[Any]] = [
            [model.shed[bus] - model.surplus[bus]] for bus in range(network.buses)
        ]
        for unit, segment in model.used:
            into[self.network.grid.units.bus[unit]].append(model.used[unit, segment])
        for line in closed:
            into[start[line]].append(-flow(model, line))
            into[end[line]].append(flow(model, line))
        for cable in model.dc:
            into[lines.start[cable]].append(-model.dc[cable])
            into[lines.end[cable]].append(model.dc[cable])
        model.balance = pyo.Constraint(
            range(network.buses), rule=lambda m, bus: sum(into[bus]) == m.demand[bus]
        )

        def limit(m: Any, line: int) -> Any:
            low, high = float(network.low[line]), float(network.high[line])
            if np.isinf(low) and np.isinf(high):
                return pyo.Constraint.Skip
            return (low if low > -np.inf else None, flow(m, line), high if high < np.inf else None)

        model.limit = pyo.Constraint(closed, rule=limit)

    def _add_cost(self, model: Any) -> None:
        slope = self._curves.slope
        cost: Any = pyo.quicksum(float(slope[pair]) * model.used[pair] for pair in model.used)
        if self.slack is not None:
            cost += self.slack.shed * pyo.quicksum(model.shed.values())
            cost += self.slack.surplus * pyo.quicksum(model.surplus.values())
        model.cost = pyo.Objective(expr=cost)

    def _box(self, interval: Interval) -> tuple[Doubles, Doubles, Bools]:
        units = self.network.grid.units
        on = np.ones(len(units.name), dtype=bool) if interval.on is None else interval.on
        low = units.low if interval.low is None else interval.low
        high = units.high if interval.high is None else interval.high
        return np.where(on, low, 0.0), np.where(on, high, 0.0), on

    def _set_bounds(self, low: Doubles, high: Doubles, demand: Doubles, interval: Interval) -> None:
        model, lines = self._model, self.network.grid.dc_lines
        limit = lines.limit if interval.dc_limit is None else interval.dc_limit
        moved = [np.asarray(limit, dtype=np.float64), low, high]
        if self.slack is not None:
            moved.append(np.maximum(demand, 0.0))
        now = (np.concatenate(moved), demand)
        fresh = self._boxes is None or not np.array_equal(self._boxes[0], now[0])
        self._solver.update_config.update_vars = fresh
        if not fresh:
            return
        self._boxes = now
        room = segment_room(self._curves, low, high)
        for pair in model.used:
            model.used[pair].setub(float(room[pair]))
        for cable in model.dc:
            model.dc[cable].setlb(-float(limit[cable]))
            model.dc[cable].setub(float(limit[cable]))
        if self.slack is not None:
            for bus in model.shed:
                model.shed[bus].setub(float(max(demand[bus], 0.0)))

    def _result(self, low: Doubles, on: Bools) -> Dispatch:
        model, network = self._model, self.network
        dual = self._dual
        shape = self._curves.slope.shape
        power = low + _values(model.used, shape).sum(axis=1)
        flow, congestion = np.zeros(network.branches), np.zeros(network.branches)
        for line in model.flow:
            flow[line] = pyo.value(model.flow[line])
        for line in model.limit:
            congestion[line] = -dual[model.limit[line]]
        fixed = float(self._table.cost(low, on).sum())
        objective: Any = pyo.value(model.cost)
        buses = (network.buses,)
        return Dispatch(
            power=power,
            flow=flow,
            dc_flow=_values(model.dc, (len(network.grid.dc_lines.name),)),
            lmp=np.array([dual[model.balance[bus]] for bus in range(network.buses)]),
            congestion=congestion,
            shed=_values(model.shed, buses),
            surplus=_values(model.surplus, buses),
            overload=np.zeros(network.branches),
            cost=float(self._table.cost(power, on).sum()),
            objective=float(objective) + fixed,
            iterations=0,
            rounds=1,
            form="pyomo",
        )


def _values(variables: Any, shape: tuple[int, ...]) -> Doubles:
    return np.array([variables[key].value for key in variables], dtype=np.float64).reshape(shape)

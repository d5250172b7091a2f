"""Multi-period economic dispatch as a linear program that is built once and re-solved hot.

Units with given commitment, ramps, storages, renewables, shedding, reserve and, if asked, branch
limits, over H intervals from a measured state: the look-ahead dispatch of a rolling horizon (Wood,
Wollenberg, Sheble, Power Generation, Operation and Control, 3rd ed., chapters 3 and 8).
``multiperiod_layout`` states the rows.

**Charging and discharging at once** wastes energy, which pays only where energy has a negative
price (surplus or curtailment that costs). With positive prices no optimum does it, and a little
wear keeps it away where energy is free. Where it still pays, the storage's direction in that
interval is fixed to its net one and the program solved again; ``lower_bound`` then is the optimum
before, and ``objective`` what the physical dispatch costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Bools, Doubles
from ...simulators.power.grid import Grid
from ...simulators.power.scenario import Prices
from .multiperiod_inputs import (
    DispatchData,
    DispatchInputs,
    DispatchState,
    FlowLimits,
    checked_inputs,
)
from .multiperiod_layout import Layout
from .multiperiod_lines import LineRows
from .multiperiod_program import GrowingProgram, Method, Optimum

WEAR = 1e-3
"""$/MWh through a storage; breaks the tie between idling and running in circles."""
AT_ONCE = 1e-6
"""MW of charge and of discharge from which a storage counts as doing both."""


@dataclass(frozen=True, slots=True)
class DispatchSolution:
    """An optimal dispatch and its prices.

    Attributes:
        power: ``[H, U]`` MW.
        charge, discharge: ``[H, R]`` MW at the terminals; soc: ``[H, R]`` MWh after the interval.
        shed: ``[H, B]`` MW, ``[H, 1]`` without a network; surplus: ``[H]`` MW.
        held: ``[H, U]`` MW of reserve; short: ``[H]`` MW of reserve missing.
        dc_flow: ``[H, lines]`` MW; flow, overload: ``[H, L]`` MW; no columns without a network.
        price: LMP, $/MWh, ``[H, B]``, ``[H, 1]`` without a network.
        energy_price: ``[H]`` $/MWh at the slack of the PTDF.
        congestion: ``[H, L]`` $/MWh: change of cost per MW of more (signed) flow limit.
        ramp_price: ``[H, U]`` $/MWh: change of cost per MW by which the step may end higher.
        water_value: ``[H, R]`` $/MWh of stored energy; negative duals of the energy rows.
        reserve_price: ``[H]`` $/MWh.
        cost: ``[H]`` $ of production (without slacks, curtailment and wear).
        objective: $ of everything over the horizon.
        lower_bound: $ below which no dispatch of these data lies.
        iterations: of the solver; rounds: linear programs solved.
        status: always ``"optimal"``.
    """

    power: Doubles
    charge: Doubles
    discharge: Doubles
    soc: Doubles
    shed: Doubles
    surplus: Doubles
    held: Doubles
    short: Doubles
    dc_flow: Doubles
    flow: Doubles
    overload: Doubles
    price: Doubles
    energy_price: Doubles
    congestion: Doubles
    ramp_price: Doubles
    water_value: Doubles
    reserve_price: Doubles
    cost: Doubles
    objective: float
    lower_bound: float
    iterations: int
    rounds: int
    status: str


class MultiPeriodDispatch:
    """``min`` cost of H intervals; hot after the first solve.

    ``row_dual`` and ``program_value`` are those of the last linear program, for proofs.

    Args:
        grid: checked; its storages are the ones dispatched (flexible loads among them).
        horizon: H.
        step: interval in s.
        network: limits of the branches; ``None`` is a copper plate.
        prices: of shedding, surplus, overload, missing reserve and curtailment.
        wear: $/MWh through a storage.
        reserve: hold the reserve that inputs ask for.
        method: ``"simplex"``, or ``"ipm"`` for long horizons (interior point without crossover:
            prices and objective to 1e-8 relative, no vertex, never hot).
        relaxed: a start may reach any output at once, and storages may charge and discharge at
            once; only for lower bounds.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        horizon: int,
        step: float,
        network: FlowLimits | None = None,
        prices: Prices | None = None,
        wear: float = WEAR,
        reserve: bool = False,
        method: Method = "simplex",
        relaxed: bool = False,
    ) -> None:
        if horizon < 1 or not step > 0.0:
            raise ValueError(f"horizon {horizon} and step {step} must be positive")
        self.grid, self.horizon, self.step = grid, horizon, step
        self.layout = Layout(
            grid,
            horizon=horizon,
            step=step,
            prices=Prices() if prices is None else prices,
            wear=wear,
            nodal=network is not None,
            reserve=reserve,
        )
        rows, columns, values = self.layout.matrix()
        self.program = GrowingProgram(
            cost=np.tile(self.layout.cost, horizon),
            row_count=horizon * self.layout.height,
            rows=rows,
            columns=columns,
            values=values,
            method=method,
        )
        self.lines = None if network is None else LineRows(self.layout, network)
        self._pending: FlowLimits | None = None
        self._relaxed = relaxed
        self.row_dual, self.program_value = np.zeros(0), 0.0
        self._buses = 0 if network is None else len(grid.buses.name)

    def set_network(self, limits: FlowLimits) -> None:
        """Other flows and limits from the next solve on (a branch out or back).

        Raises:
            ValueError: the problem was built as a copper plate.
        """
        if self.lines is None:
            raise ValueError("this dispatch was built without a network and cannot take one")
        self._pending = limits

    def solve(self, state: DispatchState, inputs: DispatchInputs) -> DispatchSolution:
        """Dispatch the horizon from ``state``.

        Raises:
            ValueError: inputs of a wrong shape or value (named).
            RuntimeError: no optimum was proven; names the solver's status.
        """
        layout = self.layout
        data = checked_inputs(self.grid, self.horizon, self._buses, self.step, state, inputs)
        lower, upper = layout.columns(data)
        row_lower, row_upper = layout.rows(data, starts_free=self._relaxed)
        self.program.set_bounds(lower, upper, row_lower, row_upper)
        last = (self.horizon - 1) * layout.width
        self.program.set_costs(
            np.arange(last + layout.energy.start, last + layout.energy.stop),
            -data.end.value / layout.hours,
        )
        fixed = self._fixed(data)
        optimum, rounds, iterations = self._within_limits(fixed)
        bound = optimum.objective
        while (both := self._at_once(optimum, upper)) is not None:
            upper = both
            self.program.set_bounds(lower, upper, row_lower, row_upper)
            optimum, more, count = self._within_limits(fixed)
            rounds, iterations = rounds + more, iterations + count
        constant = float(layout.fixed_cost(data).sum())
        self.row_dual, self.program_value = optimum.row_dual, optimum.objective
        return self._solution(data, optimum, fixed, (constant + bound, rounds, iterations))

    def _fixed(self, data: DispatchData) -> Doubles:
        """Fixed injections ``[H, B]``, with rows of limits brought up to date."""
        if self.lines is None:
            return np.zeros((self.horizon, 0))
        fixed = self.lines.fixed(data)
        if self._pending is None:
            self.lines.update(self.program, fixed)
        else:
            self.lines.exchange(self.program, self._pending, fixed)
            self._pending = None
        return fixed

    def _within_limits(self, fixed: Doubles) -> tuple[Optimum, int, int]:
        """Solve and add rows until no limit without a row is broken."""
        rounds = iterations = 0
        while True:
            optimum = self.program.solve()
            rounds, iterations = rounds + 1, iterations + optimum.iterations
            if self.lines is None:
                return optimum, rounds, iterations
            flow = self.lines.flows(self._point(optimum), fixed)
            interval, branch = self.lines.violated(flow)
            if not interval.size:
                return optimum, rounds, iterations
            self.lines.add(self.program, interval, branch, fixed)

    def _point(self, optimum: Optimum) -> Doubles:
        size = self.horizon * self.layout.width
        return optimum.x[:size].reshape(self.horizon, self.layout.width)

    def _at_once(self, optimum: Optimum, upper: Doubles) -> Doubles | None:
        """Column limits that end charging and discharging at once; ``None`` if nothing does."""
        layout, x = self.layout, self._point(optimum)
        charge, discharge = x[:, layout.charge], x[:, layout.discharge]
        both: Bools = np.minimum(charge, discharge) > AT_ONCE
        if not both.any() or self._relaxed:
            return None
        filling = self.grid.storages.efficiency * charge >= discharge
        fixed = upper.copy()
        fixed[:, layout.discharge][both & filling] = 0.0
        fixed[:, layout.charge][both & ~filling] = 0.0
        return fixed

    def _solution(
        self,
        data: DispatchData,
        optimum: Optimum,
        fixed: Doubles,
        totals: tuple[float, int, int],
    ) -> DispatchSolution:
        layout, x = self.layout, self._point(optimum)
        bound, rounds, iterations = totals
        size = self.horizon * layout.height
        dual = optimum.row_dual[:size].reshape(self.horizon, layout.height)
        power = data.low + (layout.by_unit @ x[:, layout.segments].T).T
        constant = layout.fixed_cost(data)
        waste = np.where(layout.wasted, data.high - data.low, 0.0).sum(axis=1)
        burnt = constant - layout.prices.curtailment * waste
        burnt = burnt + x[:, layout.segments] @ layout.parts.slope
        units = (self.horizon, power.shape[1])
        held, ramp_price = np.zeros(units), np.zeros(units)
        held[:, layout.holders] = x[:, layout.held]
        ramp_price[:, layout.ramped] = dual[:, layout.ramp]
        price, flow, overload, congestion = self._network_part(optimum, x, fixed, dual[:, :1])
        hours = layout.hours
        return DispatchSolution(
            power=power,
            charge=x[:, layout.charge],
            discharge=x[:, layout.discharge],
            soc=x[:, layout.energy],
            shed=x[:, layout.shed],
            surplus=x[:, layout.surplus.start],
            held=held,
            short=x[:, layout.short].sum(axis=1),
            dc_flow=x[:, layout.dc],
            flow=flow,
            overload=overload,
            price=price,
            energy_price=dual[:, 0],
            congestion=congestion,
            ramp_price=ramp_price,
            water_value=-dual[:, layout.storage] * hours,
            reserve_price=dual[:, layout.total].sum(axis=1),
            cost=burnt * hours,
            objective=(float(constant.sum()) + optimum.objective) * hours,
            lower_bound=bound * hours,
            iterations=iterations,
            rounds=rounds,
            status="optimal",
        )

    def _network_part(
        self, optimum: Optimum, x: Doubles, fixed: Doubles, energy: Doubles
    ) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """LMP, flow, overload and congestion prices."""
        if self.lines is None:
            nothing = np.zeros((self.horizon, 0))
            return energy, nothing, nothing, nothing
        limits = self.lines.limits
        flow = self.lines.flows(x, fixed)
        overload = np.maximum(np.maximum(flow - limits.high, limits.low - flow), 0.0)
        congestion = self.lines.scattered(optimum.row_dual[self.horizon * self.layout.height :])
        # A MW of load takes its flow off the right-hand side of a limit's row.
        return energy + congestion @ limits.ptdf, flow, overload, congestion

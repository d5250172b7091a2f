"""DC optimal power flow in torch: whole batches at once, certified by duality, differentiable.

The same problem as ``dcopf`` solves one interval at a time with HiGHS. Here B intervals of one
network are solved together with products and small dense systems only, on any device:
``dual_ascent`` has the bounds, ``active_set`` the solution, ``torch_kkt`` the derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...simulators.power.grid import Grid
from ...simulators.power.network import Network
from .active_set import Solved, solve_flow
from .dual_ascent import FlowProblem, Prices
from .economic import VOLL
from .torch_costs import CostTensors, unit_costs
from .torch_kkt import KktSolution, differentiable_solution

FAR = 1e7
"""MW that stand for no limit of a branch."""


@dataclass(frozen=True, slots=True)
class BatchDispatch:
    """Optimal dispatches of a batch; all but the certificate are differentiable.

    Attributes:
        dispatch: ``[B, U]`` MW; dc_flow: ``[B, H]`` MW; flow: ``[B, L]`` MW.
        shed, surplus: ``[B, buses]`` MW.
        lmp: ``[B, buses]`` $/MWh; congestion: ``[B, L]`` $/MWh, positive at upper limits.
        cost: ``[B]`` $/h of production; objective: ``[B]`` with shed and surplus.
        lower_bound: ``[B]`` $/h, proven by weak duality; gap: ``[B]`` objective less bound.
        violation: ``[B]`` MW by which balance or the worst branch is missed.
        degenerate: ``[B]`` bool: dispatch or prices are not unique here, derivatives one-sided.
        rounds: proximal point iterations of the batch.
    """

    dispatch: Tensor
    dc_flow: Tensor
    flow: Tensor
    shed: Tensor
    surplus: Tensor
    lmp: Tensor
    congestion: Tensor
    cost: Tensor
    objective: Tensor
    lower_bound: Tensor
    gap: Tensor
    violation: Tensor
    degenerate: Tensor
    rounds: int


class BatchDcOpf:
    """The program of one network, built once.

    Args:
        network: of one island; names grid and convention.
        costs: of the grid's units; default their curves.
        shed_price, surplus_price: $/MWh at every bus.
        dtype: float64, or float32 where 1e-4 of the cost will do.
        device: where to solve.

    Raises:
        ValueError: a network of several islands.
    """

    def __init__(
        self,
        network: Network,
        *,
        costs: CostTensors | None = None,
        shed_price: float = VOLL,
        surplus_price: float = VOLL,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        grid = network.grid
        if network.references.shape[0] != 1:
            raise ValueError(
                f"grid {grid.name!r}: the batched DC-OPF needs one island, found "
                f"{network.references.shape[0]}"
            )
        self._to: dict[str, Any] = {"dtype": dtype, "device": device}
        self.grid, self.network = grid, network
        self.prices = (shed_price, surplus_price)
        units = grid.units
        self.costs = unit_costs(units, **self._to) if costs is None else costs
        self._ptdf = self._tensor(network.ptdf)
        effect = np.concatenate(
            [network.ptdf[:, units.bus], network.dc_effect, network.ptdf], axis=1
        )
        lines = len(grid.dc_lines.name)
        self._balance = self._tensor(
            np.concatenate([np.ones(len(units.name)), np.zeros(lines), np.ones(network.buses)])
        )
        self._effect = self._tensor(effect)
        self._offset = self._tensor(network.offset)
        self.flow_low = self._tensor(np.maximum(network.low, -FAR))
        self.flow_high = self._tensor(np.minimum(network.high, FAR))
        self._unit_bus = torch.tensor(units.bus, device=device)
        self._sizes = [len(units.name), lines, network.buses]

    def solve(
        self,
        load: Tensor | None = None,
        low: Tensor | None = None,
        high: Tensor | None = None,
        *,
        on: Tensor | None = None,
        flow_limits: tuple[Tensor, Tensor] | None = None,
        tolerance: float = 1e-9,
        warm: BatchDispatch | None = None,
    ) -> BatchDispatch:
        """Solve a batch. Gradients run to all tensors and to the costs' slope, bend and origin.

        Args:
            load: ``[B, buses]`` or ``[buses]`` MW without shunts; default the grid's.
            low: ``[B, U]`` or ``[U]`` MW; default the units'. It gives way to ``high``.
            high: likewise.
            on: ``[B, U]`` bool; the others give nothing for nothing.
            flow_limits: lower and upper ``[L]`` or ``[B, L]`` MW instead of the network's.
            tolerance: relative gap, and violation per MW of demand, to stop at. What was reached
                is in the result.
            warm: an earlier result of the same batch size to begin from.

        Raises:
            ValueError: a load or limit that is not finite.
        """
        load = self._tensor(self.grid.buses.load) if load is None else load
        load = load.expand(1, -1) if load.dim() == 1 else load
        low = self._tensor(self.grid.units.low) if low is None else low
        high = self._tensor(self.grid.units.high) if high is None else high
        shape = (load.shape[0], self._sizes[0])
        low, high = low.expand(shape), high.expand(shape)
        if on is not None:
            low, high = torch.where(on, low, 0.0), torch.where(on, high, 0.0)
        low = torch.minimum(low, high)
        limits = (self.flow_low, self.flow_high) if flow_limits is None else flow_limits
        problem = self.problem(load, low, high, limits)
        with torch.no_grad():
            start = None if warm is None else self._warm(warm)
            found = solve_flow(
                problem.detached(),
                shed_price=2.0 * max(self.prices),
                tolerance=tolerance,
                warm=start,
            )
        solution = differentiable_solution(problem, found)
        return self._result(problem, solution, on)

    def _tensor(self, values: np.ndarray[Any, Any]) -> Tensor:
        return torch.tensor(values, **self._to)

    def _warm(self, warm: BatchDispatch) -> tuple[Tensor, Prices]:
        # What congestion adds to an LMP is known, the rest is the price of the balance.
        balance = (warm.lmp + warm.congestion @ self._ptdf).mean(1)
        controls = torch.cat([warm.dispatch, warm.dc_flow, warm.shed - warm.surplus], 1)
        return controls.detach(), Prices(balance.detach(), warm.congestion.detach())

    def problem(
        self, load: Tensor, low: Tensor, high: Tensor, limits: tuple[Tensor, Tensor]
    ) -> FlowProblem:
        demand = load + self._tensor(self.grid.buses.shunt)
        finite = torch.isfinite(demand.sum(1) + low.sum(1) + high.sum(1))
        if not bool(finite.all()):
            member = int((~finite).nonzero()[0, 0])
            raise ValueError(f"member {member}: load, low and high must be finite numbers")
        batch = load.shape[0]
        limit = self._tensor(self.grid.dc_lines.limit).expand(batch, -1)
        # What no unit can stop giving is taken at the bus itself, at a price.
        spill = high.detach().clamp(min=0.0).amax(0).sum() + (-demand.detach()).clamp(min=0).sum()
        return FlowProblem(
            costs=self._control_costs(),
            low=torch.cat([low, -limit, (-1.0 - spill).expand_as(demand)], 1),
            high=torch.cat([high, limit, demand.clamp(min=0.0)], 1),
            balance=self._balance,
            demand=demand.sum(1),
            effect=self._effect,
            offset=self._offset - demand @ self._ptdf.T,
            flow_low=limits[0].expand(batch, -1),
            flow_high=limits[1].expand(batch, -1),
            capacity=self._capacity(demand, low, high),
        )

    def _capacity(self, demand: Tensor, low: Tensor, high: Tensor) -> Tensor:
        lines = self._tensor(2.0 * self.grid.dc_lines.limit)
        parts = [(high - low).amax(0), lines, demand.amax(0)]
        return torch.cat(parts).detach().clamp(min=1.0)

    def _control_costs(self) -> CostTensors:
        """Costs of units, DC lines (free) and slack of buses, brought to one number of segments."""
        _, lines, buses = self._sizes
        own, segments = self.costs, max(self.costs.slope.shape[1], 2)
        extra = segments - own.slope.shape[1]
        power = torch.cat([own.power, own.power[:, -1:].expand(-1, extra)], 1)
        slope = torch.cat([own.slope, own.slope[:, -1:].expand(-1, extra)], 1)
        other = slope.new_zeros(lines + buses)
        steps = torch.arange(-1.0, segments, **self._to)
        prices = slope.new_full((lines + buses, segments), self.prices[0])
        prices[:, 0] = -self.prices[1]
        prices[:lines] = 0.0
        base = torch.cat([other[:lines], other[lines:] + self.prices[1]])
        return CostTensors(
            power=torch.cat([power, steps.expand(lines + buses, -1)]),
            slope=torch.cat([slope, prices]),
            base=torch.cat([own.base, torch.where(prices[:, 0] < 0.0, base, 0.0)]),
            bend=torch.cat([own.bend, other]),
            origin=torch.cat([own.origin, other]),
        )

    def _result(
        self, problem: FlowProblem, solution: KktSolution, on: Tensor | None
    ) -> BatchDispatch:
        power, lines, slack = solution.controls.split(self._sizes, 1)
        branch = solution.prices.branch
        each = self.costs.total(power)
        # Units that are off have a cost at 0 MW in the program, which nobody pays.
        idle = 0.0 if on is None else torch.where(on, 0.0, each).sum(1)
        cost = each.sum(1) - idle
        shed, surplus = slack.clamp(min=0.0), (-slack).clamp(min=0.0)
        objective = cost + self.prices[0] * shed.sum(1) + self.prices[1] * surplus.sum(1)
        certificate: Solved = solution.certificate
        return BatchDispatch(
            dispatch=power,
            dc_flow=lines,
            flow=problem.flows(solution.controls),
            shed=shed,
            surplus=surplus,
            lmp=solution.prices.balance[:, None] - branch @ self._ptdf,
            congestion=branch,
            cost=cost,
            objective=objective,
            lower_bound=(certificate.bound - idle).detach(),
            gap=certificate.gap,
            violation=certificate.violation,
            degenerate=solution.degenerate,
            rounds=certificate.rounds,
        )


def solve_dcopf(
    grid: Grid,
    network: Network,
    load: Tensor | np.ndarray[Any, Any] | None = None,
    **options: Any,
) -> BatchDispatch:
    """One batch (or with ``load`` ``[buses]`` one interval, a batch of one), in float64.

    For repeated solves keep a ``BatchDcOpf``. ``options`` are those of ``BatchDcOpf.solve``.

    Raises:
        ValueError: the network is of another grid, or as ``BatchDcOpf`` says.
    """
    if network.grid is not grid:
        raise ValueError(f"the network is of grid {network.grid.name!r}, not of {grid.name!r}")
    values = torch.as_tensor(load, dtype=torch.float64) if load is not None else None
    return BatchDcOpf(network).solve(values, **options)

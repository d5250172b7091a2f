"""The reference of a dispatch interval: a DC-OPF inside the box of every agent.

Three ways of guiding towards it, each a sum of one term an agent, so that no agent's guidance
depends on another's action (arXiv 2602.20078):

``augmented``: own cost less what the own bus's LMP pays, plus a quadratic pull to the reference
output (the augmented Lagrangian at the reference). The linear part says what an hour at the wrong
end of the box costs; where it says nothing, because the unit sets the price, the pull decides. It
is stronger at congested buses, where the right output has to be met and not only approached.
``marginal``: the linear part alone. ``proximal``: the distance to the reference alone.

A small proximal term makes the reference unique and continuous in the demand. It sees what the
agents' dispatch centre sees: forecasts, not what will come.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...simulators.interface import Doubles, Observation
from ...simulators.power.costs import CostTable
from ...simulators.power.exogenous import Outlook, Packing
from ...simulators.power.lodf import Topology
from ...simulators.power.network import Network, Susceptance
from ...simulators.power.scenario import PowerScenario
from ...simulators.power.system import System
from ..interface import Reference, SetPointInfluence
from .agents import agent_units, follow, injections_as_load, one_bus
from .costs import Proximal
from .dcopf import DcOpf, Dispatch, Interval, SlackPrices
from .guidance import BoxFit, proximal_weight

REFERENCES = ("augmented", "proximal", "marginal")

NEAR = 2.0
"""$/MWh at which a unit resists a move by its whole capacity, in the proximal term."""


PULL = 20.0
"""$/MWh at which the augmented form pulls a unit that is a whole capacity off."""

MARGIN = 0.96
"""Share of branch limits that the reference uses: who learns it meets it on average, and an
overload costs more than what is left unused."""

CONGESTED = 5.0
"""Added to that, per $/MWh by which a unit's LMP differs from the price without congestion."""


class DispatchModel:
    """Implements ``AnalyticalModel`` for the power scenarios.

    Args:
        scenario: its values.
        system: its grid and agents.
        reference: one of :data:`REFERENCES`.

    Raises:
        ValueError: no such reference.
    """

    def __init__(self, scenario: PowerScenario, system: System, *, reference: str) -> None:
        if reference not in REFERENCES:
            known = ", ".join(REFERENCES)
            raise ValueError(f"no reference {reference!r} for power; known: {known}")
        fleet = system.fleet
        self.mode = reference
        self.packing: Packing = system.packing(scenario.leads)
        self.grid = agent_units(system.grid, fleet)
        self._layout = system.layout
        self._limited = system.network is not None
        convention: Susceptance = "x" if system.network is None else system.network.convention
        self._network = Network(self.grid, convention=convention) if self._limited else None
        self._topology = None if self._network is None else Topology(self._network)
        self._rate = self.grid.branches.rate * scenario.limit_scale * MARGIN
        self._capacity = np.maximum(fleet.capacity, 1.0)
        self._solver = self._make_solver(scenario)
        self._weight = proximal_weight(self.grid.units.curve, fleet.capacity)
        self._fit = BoxFit(self.grid.units.curve)
        self._table = CostTable(self.grid.units.curve)
        self._agents = np.arange(fleet.size)[:, None, None]
        self._thermal = fleet.thermal
        self._asked: tuple[Doubles, Reference] | None = None

    @property
    def state_size(self) -> int:
        return self.packing.agents

    def dispatch(self, outlook: Outlook) -> Dispatch:
        """The optimal dispatch of the coming interval."""
        if self._topology is not None:
            follow(self._topology, outlook.closed)
        injection = self._layout.injection(outlook.load[0], outlook.available[0])
        load = injections_as_load(self.grid, injection)
        interval = Interval(
            load=load if self._limited else np.array([load.sum()]),
            low=outlook.low,
            high=outlook.high,
            on=(outlook.high > outlook.low) | (outlook.top > 0.0),
            topology=self._topology,
            rate=self._rate if self._limited else None,
            around=np.clip(outlook.power, outlook.low, outlook.high),
        )
        return self._solver.solve(interval, hot=False)

    def optimum(self, exogenous: Doubles) -> Doubles:
        """Set-points ``[A]`` MW of the optimal dispatch."""
        return self.dispatch(self.packing.unpack(exogenous)).power

    def aim(self, exogenous: Doubles) -> Doubles:
        """Outputs ``[A]`` MW to head for: the optimal dispatch if ramps did not bind."""
        outlook = self.packing.unpack(exogenous)
        low = np.where(self._thermal & (outlook.top > 0.0), self.grid.units.low, outlook.low)
        high = np.where(self._thermal, outlook.top, outlook.high)
        low = np.minimum(low, high)
        return self.dispatch(replace(outlook, low=low, high=high)).power

    def reference(self, exogenous: Doubles) -> Reference:
        """Reference of the coming interval; ``prices`` are the LMPs ``[A]`` at the agents' buses.

        Raises:
            RuntimeError: the solver did not prove an optimum.
        """
        if self._asked is not None and np.array_equal(self._asked[0], exogenous):
            return self._asked[1]
        found = self.dispatch(self.packing.unpack(exogenous))
        prices = found.lmp[self._solver.network.grid.units.bus]
        reference = Reference(
            x_ref=found.power,
            weight=self._weight_at(prices),
            prices=prices,
            objective=found.objective,
            lower_bound=found.objective,
            status=found.status,
        )
        self._asked = (exogenous.copy(), reference)
        return reference

    def influence(self, observation: Observation) -> SetPointInfluence:
        """Every agent moves its own output; in marginal mode its cost less its price is added."""
        origin = observation.state[:, None].copy()
        gain = np.ones_like(origin)[:, :, None]
        if self.mode == "proximal":
            # Distance only; the other two add what the set-point costs and earns.
            return SetPointInfluence(index=self._agents, gain=gain, origin=origin)
        price = self.reference(observation.exogenous).prices
        slope, curvature = self._fit(
            observation.low[:, 0].astype(np.float64),
            observation.high[:, 0].astype(np.float64),
            origin[:, 0],
            price,
        )
        return SetPointInfluence(
            index=self._agents,
            gain=gain,
            origin=origin,
            slope=slope[:, None],
            curvature=curvature[:, None],
        )

    def _weight_at(self, prices: Doubles) -> Doubles:
        """Curvature ``[A]`` of the pull, $/h per MW^2."""
        if self.mode == "proximal":
            return self._weight
        if self.mode == "marginal":
            return np.zeros_like(self._weight)
        apart = np.abs(prices - np.median(prices))
        return (PULL + CONGESTED * apart) / self._capacity

    def _make_solver(self, scenario: PowerScenario) -> DcOpf:
        network = self._network
        if network is None:
            network = Network(one_bus(self.grid), convention="x")
        near = Proximal(NEAR * float(np.median(self._capacity)))
        prices = scenario.prices
        slack = SlackPrices(prices.shed, prices.surplus, overload=prices.overload)
        return DcOpf(network, slack=slack, proximal=near)

"""Gradient through the model as a rule: every interval it descends the cost of the next few.

No network and no reserve: what the differentiable copper-plate model knows (:mod:`.torch_descent`).
"""

from __future__ import annotations

import numpy as np
import torch

from ...simulators.interface import Doubles
from ...simulators.power.scenario import PowerScenario
from ...simulators.power.system import System
from .agents import agent_units
from .torch_costs import unit_costs
from .torch_descent import descend

HORIZON = 3
"""Intervals that are looked at."""

STEPS = 15
"""Gradient steps of a decision."""


class GradientPlan:
    """Set-points by gradient descent through the unrolled dispatch model.

    Args:
        scenario: its values.
        system: its grid and agents.
    """

    def __init__(self, scenario: PowerScenario, system: System) -> None:
        self._system, self._fleet = system, system.fleet
        self._packing = system.packing(scenario.leads)
        self._horizon = min(HORIZON, scenario.leads)
        self._hours = scenario.interval / 3600.0
        self._costs = unit_costs(agent_units(system.grid, system.fleet).units)
        self._ramp = torch.from_numpy(np.where(system.fleet.curtailed, np.inf, system.fleet.ramp))

    def plan(self, exogenous: Doubles) -> Doubles:
        """Set-points ``[A]`` MW of the coming interval."""
        outlook, fleet, horizon = self._packing.unpack(exogenous), self._fleet, self._horizon
        layout = self._system.layout
        demand = -layout.injection(outlook.load[:horizon], outlook.available[:horizon]).sum(axis=1)
        runs = outlook.top > 0.0
        high = np.where(fleet.curtailed, layout.limits(outlook.available[:horizon]), outlook.top)
        high = np.where(runs, high, 0.0)
        low = np.where(fleet.thermal & runs, fleet.low, 0.0)
        low = np.where(fleet.store, outlook.low, np.broadcast_to(low, high.shape))
        high = np.where(fleet.store, outlook.high, high)
        low[0], high[0] = outlook.low, outlook.high
        found = descend(
            self._costs,
            torch.from_numpy(demand)[None],
            torch.from_numpy(np.minimum(low, high))[None],
            torch.from_numpy(high)[None],
            previous=torch.from_numpy(np.clip(outlook.power, low[0], high[0]))[None],
            ramp=self._ramp,
            hours=self._hours,
            steps=STEPS,
        )
        return found.dispatch[0, 0].numpy()

"""Generated scenarios: streets, a fixed plan that suits the demand, and the demand."""

from __future__ import annotations

from dataclasses import replace

from .demand import Demand
from .generated import arterial_network, grid_network
from .generated_demand import grid_demand, movement_flows
from .network import Network
from .scenario import ArterialScenario, GridScenario
from .webster import webster


def generated(scenario: GridScenario | ArterialScenario) -> tuple[Network, Demand]:
    """Network with a plan by Webster's method, and the demand of the city's seed."""
    if isinstance(scenario, GridScenario):
        network = grid_network(
            scenario.rows,
            scenario.columns,
            spacing=scenario.spacing,
            lanes=scenario.lanes,
            phases="mixed" if scenario.mixed else "4",
            seed=scenario.city,
        )
    else:
        network = arterial_network(scenario.signals, spacing=scenario.spacing)
    demand = grid_demand(network, rate=scenario.rate, seconds=scenario.seconds, seed=scenario.city)
    signals = webster(network, movement_flows(network, demand))
    return replace(network, signals=signals), demand

"""Streets and demand of a scenario, built once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ..interface import Doubles, Ints
from ..tables import locate
from .approaches import Approaches
from .demand import Demand
from .effects import Effects
from .layout import Layout
from .network import Network
from .scenario import (
    ArterialScenario,
    Cologne1Scenario,
    Cologne3Scenario,
    Cologne8Scenario,
    GridScenario,
    HangzhouScenario,
    JinanScenario,
    Scenario,
    SumoScenario,
)
from .turning import Turning, turning


@dataclass(frozen=True, eq=False)
class Town:
    """What all episodes of a scenario share.

    Attributes:
        scenario: its values; network, demand: as read or generated.
        source: the SUMO configuration that it was read from, ``None`` elsewhere.
    """

    scenario: Scenario
    network: Network
    demand: Demand
    source: Path | None = None

    @cached_property
    def turning(self) -> Turning:
        """How the demand spreads over movements."""
        return turning(self.network, self.demand)

    @cached_property
    def layout(self) -> Layout:
        """The network compiled for the event loop."""
        return Layout(self.network, self.demand.kinds, self.scenario.driving)

    @cached_property
    def approaches(self) -> Approaches:
        """Phases and lanes; ``coming`` looks as far as one drives in an interval."""
        fast = float(np.median(self.network.speed))
        return Approaches(self.network, self.turning, reach=fast * self.scenario.interval)

    @cached_property
    def rate(self) -> Doubles:
        """``[P]`` vehicles/s that each lane discharges, the mean over its movements."""
        layout, network = self.layout, self.network
        head = np.array(layout.head[0])
        weight = self.turning.of_lane
        lane = network.connection_lane
        mean = np.bincount(lane, weights=weight * head, minlength=network.lane_link.size)
        return np.divide(1.0, mean, out=np.zeros_like(mean), where=mean > 0.0)

    @cached_property
    def effects(self) -> Effects:
        """What every phase lets go in an interval."""
        scenario, timing = self.scenario, self.scenario.timing
        return Effects(
            self.approaches,
            self.turning,
            rate=self.rate,
            interval=scenario.interval,
            lost=timing.yellow + timing.all_red + scenario.driving.lost,
            seconds=scenario.seconds,
        )

    @cached_property
    def storage(self) -> Doubles:
        """``[L]`` vehicles that each link holds, at least 1."""
        space = float(np.mean([kind.space for kind in self.demand.kinds]))
        return np.maximum(self.network.length * self.network.lanes / space, 1.0)

    @cached_property
    def owner(self) -> Ints:
        """``[P]`` agent that most of a lane's vehicles come to next, -1 for none."""
        return _owners(self.network, self.approaches, self.turning)


def _owners(network: Network, approaches: Approaches, shares: Turning) -> Ints:
    agent_of = np.full(len(network.signals), -1, dtype=np.int64)
    agent_of[approaches.agents] = np.arange(len(approaches.agents))
    owner = np.full(len(network.links), -1, dtype=np.int64)
    signal = network.connection_signal
    owner[network.move_from[network.connection_move[signal >= 0]]] = agent_of[signal[signal >= 0]]
    # Towards links that have no owner yet, from those that the signals stand at.
    order = np.argsort(-shares.flow, kind="stable")
    start, into = network.move_from[order].tolist(), network.move_to[order].tolist()
    for _ in range(len(network.links)):
        changed = False
        for one, two in zip(start, into, strict=True):
            if owner[one] < 0 <= owner[two]:
                owner[one] = owner[two]
                changed = True
        if not changed:
            break
    return owner[network.lane_link]


@lru_cache(maxsize=4)
def town_of(scenario: Scenario) -> Town:
    """Read or generate a scenario's streets.

    Raises:
        DataError: a file is missing or cannot be used.
    """
    if isinstance(scenario, GridScenario | ArterialScenario):
        from .generated_town import generated

        return Town(scenario, *generated(scenario))
    if isinstance(scenario, JinanScenario | HangzhouScenario):
        from .files.cityflow import read_cityflow_flow, read_cityflow_roadnet

        size = "3_4" if isinstance(scenario, JinanScenario) else "4_4"
        network = read_cityflow_roadnet(locate(f"cityflow/roadnet_{size}.json", scenario.data))
        name = f"cityflow/anon_{size}_{scenario.name}_{scenario.flow}.json"
        flow = locate(name, scenario.data)
        return Town(scenario, network, read_cityflow_flow(flow, network, end=scenario.seconds))
    from .files.sumo_config import read_sumo_scenario

    source = _config(scenario)
    return Town(scenario, *read_sumo_scenario(source), source)


def _config(scenario: Scenario) -> Path:
    if isinstance(scenario, SumoScenario):
        return locate(scenario.config, scenario.data)
    if isinstance(scenario, Cologne1Scenario | Cologne3Scenario | Cologne8Scenario):
        name = scenario.name
        return locate(f"resco/{name}/{name}.sumocfg", scenario.data)
    raise TypeError(f"{type(scenario).__name__} is no traffic scenario")

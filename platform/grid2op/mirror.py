"""What the agents of our simulator would observe of a system that is not our simulator.

The same observer that trains policies looks at a plant whose state comes from outside: outputs,
contents, lines and the forecasts that a control room has. So a bundle meets in service the features
that it was trained on, with one difference: beyond the leads that the forecast has, the last one
stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Bools, Doubles, Observation, Spec
from ...simulators.power.costs import CostTable
from ...simulators.power.flows import Flows
from ...simulators.power.limits import Limits
from ...simulators.power.network import IslandError
from ...simulators.power.observer import Observer, Present
from ...simulators.power.plant import HOUR, Plant, Rules
from ...simulators.power.scenario import PowerScenario
from ...simulators.power.series import Series
from ...simulators.power.system import System

CONNECTED_SINCE = -24.0 * HOUR
"""s; units are as they are for a day when an episode begins, as in our simulator."""


@dataclass(frozen=True, slots=True)
class Reading:
    """State of a system at the end of an interval, and the forecast of the next one.

    Attributes:
        time: calendar time of the next interval.
        power: ``[A]`` MW outputs; stored: ``[A]`` MWh.
        load: ``[areas]`` MW now; available: ``[V]`` MW that renewables could give now.
        next_load: ``[areas]`` MW expected; next_available: ``[V]`` likewise.
        working: ``[A]`` bool; closed: ``[L]`` bool, branches in service.
        moved: MW by which the plant moved away from the last set-points by itself.
    """

    time: np.datetime64
    power: Doubles
    stored: Doubles
    load: Doubles
    available: Doubles
    next_load: Doubles
    next_available: Doubles
    working: Bools
    closed: Bools
    moved: float


class Mirror:
    """Observes readings as agents of ``system``.

    Args:
        scenario: its values, those of the bundle.
        system: grid and agents.
        spec: of the bundle.

    Raises:
        ValueError: the bundle was trained on other agents or features.
    """

    def __init__(self, scenario: PowerScenario, system: System, spec: Spec) -> None:
        fleet = self._fleet = system.fleet
        self._leads, self._interval = scenario.leads, scenario.interval
        self._layout = system.layout
        self._flows = Flows(system, scenario)
        self._plant = Plant(fleet, Rules.of(fleet, system.grid.units), self._flows.topology)
        self._table = CostTable(fleet.curve)
        self._observer = Observer(
            scenario,
            system,
            plant=self._plant,
            limits=Limits(fleet, scenario.interval),
            flows=self._flows,
            table=self._table,
        )
        if spec.agents != fleet.size or spec.agent_features != self._observer.view.agent:
            raise ValueError(
                f"the bundle is about {spec.agents} agents with {len(spec.agent_features)} "
                f"features; the system has {fleet.size} with {len(self._observer.view.agent)}"
            )
        self._start: np.datetime64 | None = None

    def look(self, reading: Reading) -> Observation:
        """The observation that belongs to a reading."""
        self._follow(reading)
        leads = self._leads
        now = Series(
            start=reading.time,
            step=self._interval,
            load=reading.load[None],
            available=reading.available[None],
            reserve=np.zeros(1),
        )
        day = self._layout.day(
            now,
            np.broadcast_to(reading.next_load, (1, leads, reading.next_load.size)),
            np.broadcast_to(reading.next_available, (1, leads, reading.next_available.size)),
            1,
        )
        self._flows.begin(day)
        self._observer.begin(day)
        self._flows.update(0, reading.power)
        own = self._table.cost(reading.power, reading.power > 0.0) * ~self._fleet.store
        return self._observer.look(
            Present(
                epoch=0,
                power=reading.power,
                stored=reading.stored,
                demand=float(reading.power.sum()),
                fuel=float(own.sum()),
                moved=reading.moved,
                reserve_left=1.0,
            )
        ).observation

    def _follow(self, reading: Reading) -> None:
        """Units and branches as the reading has them."""
        plant, topology = self._plant, self._flows.topology
        if self._start is None or reading.time < self._start:
            self._start = reading.time
        elapsed = float((reading.time - self._start) / np.timedelta64(1, "s"))
        plant.on, plant.failed = reading.working.copy(), ~reading.working
        plant.stop_at = np.full(self._fleet.size, np.inf)
        # Seen from the reading's own time, which is 0 in its day.
        plant.since = np.full(self._fleet.size, CONNECTED_SINCE - elapsed)
        plant.changed = True
        if topology is None:
            return
        for branch in np.flatnonzero(topology.closed != reading.closed).tolist():
            if reading.closed[branch]:
                topology.close(branch)
                continue
            try:
                topology.open(branch)
            except IslandError:
                # A DC model of one island cannot show it; the plant itself will tell.
                continue

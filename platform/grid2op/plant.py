"""A Grid2Op environment as a plant: readings out of its observations, actions out of set-points.

Grid2Op units follow a schedule; what a controller sets is the distance from it (redispatching), a
limit below what wind and sun give (curtailment), and storages. The environment rebalances what it
was told, so asked and applied differ and the applied dispatch has to be read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.power.fleet import Fleet
from ...simulators.power.grid import Grid
from ...simulators.power.grid2op_case import chronics_of
from .mirror import Reading

SMALLEST = 1e-2
"""MW below which a change is not sent."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the next interval brings if nobody redispatches.

    Attributes:
        production: ``[U]`` MW; of renewables what they could give.
        load: ``[loads]`` MW, scaled to the production.
    """

    production: Doubles
    load: Doubles


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of the environment.

    Attributes:
        action: for ``env.action_space``.
        dispatch: ``[U]`` MW distance from the schedule that the units shall have.
    """

    action: dict[str, Any]
    dispatch: Doubles


class Plant:
    """One environment.

    Args:
        env: of Grid2Op.
        grid: made of it (:func:`...simulators.power.grid2op_case.read_grid`).
        fleet: its agents.
    """

    def __init__(self, env: Any, grid: Grid, fleet: Fleet) -> None:
        self._env, self._fleet = env, fleet
        self._unit = np.flatnonzero(fleet.unit >= 0)
        self._store = np.flatnonzero(fleet.store)
        self._renewable = np.flatnonzero(grid.units.renewable)
        self._site = np.zeros((env.n_load, len(grid.buses.name)))
        self._site[np.arange(env.n_load), env.load_to_subid] = 1.0
        self._ramp_up = np.asarray(env.gen_max_ramp_up, np.float64)
        self._ramp_down = np.asarray(env.gen_max_ramp_down, np.float64)
        self._redispatchable = np.asarray(env.gen_redispatchable, bool)
        self._high = np.asarray(env.gen_pmax, np.float64)

    def schedule(self, seen: Any) -> Schedule:
        """The forecast, with what a unit now gives beyond its schedule (the slack's losses)."""
        load, _, production, _, _ = seen.get_forecast_arrays()
        planned = np.asarray(production[min(1, len(production) - 1)], np.float64).copy()
        expected = np.asarray(load[min(1, len(load) - 1)], np.float64)
        _, scheduled = chronics_of(self._env)
        now = scheduled[min(int(seen.current_step), len(scheduled) - 1)]
        beyond = np.asarray(seen.gen_p, np.float64) - now - np.asarray(seen.actual_dispatch)
        planned += np.where(self._redispatchable, beyond, 0.0)
        return Schedule(planned, expected * (planned.sum() / expected.sum()))

    def read(self, seen: Any, schedule: Schedule, moved: float) -> Reading:
        """The state of the system as agents would know it."""
        power = np.zeros(self._fleet.size)
        output = np.asarray(seen.gen_p, np.float64)
        power[self._unit] = output[self._fleet.unit[self._unit]]
        stored = np.zeros(self._fleet.size)
        if self._store.size:
            # Grid2Op counts charging positive.
            power[self._store] = -np.asarray(seen.storage_power, np.float64)
            stored[self._store] = np.asarray(seen.storage_charge, np.float64)
        working = np.ones(self._fleet.size, bool)
        bus = np.asarray(seen.gen_bus)[self._fleet.unit[self._unit]]
        working[self._unit] = bus >= 0
        load = np.asarray(seen.load_p, np.float64)
        free = np.asarray(seen.gen_p_before_curtail, np.float64)
        minutes = np.timedelta64(round(60.0 * float(seen.delta_time)), "s")
        return Reading(
            time=np.datetime64(seen.get_time_stamp(), "s") + minutes,
            power=power,
            stored=stored,
            load=(load * (power.sum() / load.sum())) @ self._site,
            available=np.maximum(free, output)[self._renewable],
            next_load=schedule.load @ self._site,
            next_available=np.maximum(schedule.production[self._renewable], 0.0),
            working=working,
            closed=np.asarray(seen.line_status, bool),
            moved=moved,
        )

    def order(self, seen: Any, schedule: Schedule, points: Doubles) -> Order:
        """The action that brings agents to ``points`` ``[A]`` MW, as far as ramps let it."""
        wanted = schedule.production.copy()
        wanted[self._fleet.unit[self._unit]] = points[self._unit]
        dispatch = np.where(self._redispatchable, wanted - schedule.production, 0.0)
        step = dispatch - np.asarray(seen.target_dispatch, np.float64)
        step = np.clip(step, -self._ramp_down, self._ramp_up) * self._redispatchable
        action: dict[str, Any] = {}
        moved = np.flatnonzero(np.abs(step) >= SMALLEST)
        if moved.size:
            action["redispatch"] = [(unit, float(step[unit])) for unit in moved.tolist()]
        limits = self._curtail(seen, schedule, wanted)
        if limits:
            action["curtail"] = limits
        if self._store.size:
            action["set_storage"] = [
                (number, -float(power)) for number, power in enumerate(points[self._store].tolist())
            ]
        return Order(action, np.asarray(seen.target_dispatch, np.float64) + step)

    def _curtail(self, seen: Any, schedule: Schedule, wanted: Doubles) -> list[tuple[int, float]]:
        """Limits of renewables as shares of their capacity, where they change."""
        found: list[tuple[int, float]] = []
        for unit in self._renewable.tolist():
            below = wanted[unit] < schedule.production[unit] - SMALLEST
            limit = max(float(wanted[unit] / self._high[unit]), 0.0) if below else 1.0
            if abs(limit - float(seen.curtailment_limit[unit])) * self._high[unit] >= SMALLEST:
                found.append((unit, limit))
        return found

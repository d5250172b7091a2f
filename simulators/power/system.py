"""A scenario's grid with its agents, and the days that are played on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..interface import Bools, Doubles
from ..streams import Streams
from .day import Day, Layout
from .exogenous import Packing
from .fleet import Fleet, fleet_of, from_zero, with_stores
from .forecasts import Forecaster
from .grid import Grid
from .grid2op_case import grid2op
from .network import Network, Susceptance
from .scenario import PowerScenario, Scenario
from .series import Series
from .sources import Days, activsg, california, generated, rts_gmlc


@dataclass(frozen=True, slots=True)
class Episode:
    """What a seed gives before anything is decided.

    Attributes:
        day: inputs of the hot loop.
        net_load: ``[H]`` MW hourly day-ahead net load; renewable: ``[H]`` MW in it.
        reserve: ``[H]`` MW spinning requirement.
        plan: ``[H, A]`` a given commitment; ``None``: to be made.
    """

    day: Day
    net_load: Doubles
    renewable: Doubles
    reserve: Doubles
    plan: Bools | None


@dataclass(frozen=True, slots=True)
class System:
    """Everything about a scenario that no episode changes.

    Attributes:
        grid: the power system; fleet: its agents.
        layout: maps series to agents and buses.
        network: DC model of its branches; ``None`` where it has none.
        episode: builds the episode of a seed with that many intervals.
    """

    grid: Grid
    fleet: Fleet
    layout: Layout
    network: Network | None
    episode: Callable[[int, int], Episode]

    def packing(self, leads: int) -> Packing:
        """Layout of ``Observation.exogenous`` for forecasts of ``leads`` intervals."""
        return Packing(
            agents=self.fleet.size,
            leads=leads,
            areas=len(self.grid.buses.areas),
            series=int(self.grid.units.renewable.sum()),
            branches=len(self.grid.branches.name) if self.network is not None else 0,
        )


def build(
    grid: Grid, days: Days, scenario: PowerScenario, *, convention: Susceptance = "x"
) -> System:
    """A system on ``grid`` whose days come from ``days``."""
    grid = with_stores(from_zero(grid), batteries=scenario.batteries, flexible=scenario.flexible)
    fleet = fleet_of(grid, interval=scenario.interval)
    limited = scenario.network and len(grid.branches.name) > 0
    layout = Layout(grid, fleet)

    def episode(seed: int, intervals: int) -> Episode:
        streams = Streams(seed)
        chosen = days(seed, intervals)
        forecaster = Forecaster(
            chosen.actual,
            grid,
            leads=scenario.leads,
            scale=scenario.forecast_error,
            rng=streams.generator("forecast errors"),
        )
        day = layout.day(
            chosen.actual,
            forecaster.load[:intervals],
            forecaster.available[:intervals],
            intervals,
        )
        ahead = chosen.day_ahead
        plan = None if chosen.plan is None else _plan_of(fleet, chosen.plan)
        return Episode(day, *layout.ahead(ahead), ahead.reserve, plan)

    return System(
        grid=grid,
        fleet=fleet,
        layout=layout,
        network=Network(grid, convention=convention) if limited else None,
        episode=episode,
    )


def _plan_of(fleet: Fleet, units: Bools) -> Bools:
    """A commitment of units ``[H, U]`` as one of agents ``[H, A]``."""
    plan = np.ones((units.shape[0], fleet.size), bool)
    committed = np.flatnonzero(fleet.thermal)
    plan[:, committed] = units[:, fleet.unit[committed]]
    return plan


@lru_cache(maxsize=4)
def system_of(scenario: Scenario) -> System:
    """The system of a scenario; kept, since reading and factorising a large grid takes a while.

    Raises:
        DataError: data files that are missing or cannot be used.
    """
    kind = scenario.name
    sources: dict[str, Callable[[Any], tuple[Grid, Days]]] = {
        "generated": generated,
        "rts-gmlc": rts_gmlc,
        "activsg2000": activsg,
        "california": california,
        "grid2op": grid2op,
    }
    grid, days = sources[kind](scenario)
    convention: Susceptance = "x-tap" if kind == "activsg2000" else "x"
    return build(grid, days, scenario, convention=convention)


__all__ = ["Episode", "Series", "System", "build", "system_of"]

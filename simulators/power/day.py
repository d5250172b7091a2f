"""Everything about an episode that no set point can change, laid out for the hot loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles
from .fleet import Fleet
from .grid import Grid
from .series import Series, load_split


@dataclass(frozen=True, slots=True)
class Day:
    """One episode's inputs: T intervals, L leads; interval t begins at epoch t.

    ``expected_...`` with lead l (0-based) at epoch t is the forecast of interval t + l.

    Attributes:
        demand: ``[T]`` MW, load and shunts less units that take no set point.
        available: ``[T, A]`` MW upper limit of curtailable units, 0 for others.
        renewable: ``[T]`` MW, their sum.
        injection: ``[T, B]`` MW of everything but the agents.
        expected_load: ``[T, L, areas]`` MW; expected_series: ``[T, L, V]`` MW.
        expected_demand: ``[T, L]`` MW.
        expected_available: ``[T, A]`` MW in the coming interval.
        expected_renewable: ``[T, L]`` MW of all curtailable units.
        reserve: ``[T]`` MW spinning requirement.
        start: calendar time of the first interval.
    """

    demand: Doubles
    available: Doubles
    renewable: Doubles
    injection: Doubles
    expected_load: Doubles
    expected_series: Doubles
    expected_demand: Doubles
    expected_available: Doubles
    expected_renewable: Doubles
    reserve: Doubles
    start: np.datetime64


class Layout:
    """Maps series to agents and buses of one grid; made once."""

    def __init__(self, grid: Grid, fleet: Fleet) -> None:
        buses = len(grid.buses.name)
        self._split = np.zeros((len(grid.buses.areas), buses))
        self._split[grid.buses.area, np.arange(buses)] = load_split(grid)
        self._shunt = grid.buses.shunt
        self._fixed = fleet.fixed
        self._site = np.zeros((fleet.fixed.size, buses))
        self._site[np.arange(fleet.fixed.size), fleet.fixed_bus] = 1.0
        self._agents = np.flatnonzero(fleet.curtailed)
        self._columns = fleet.column[self._agents]
        self._size = fleet.size

    def injection(self, load: Doubles, available: Doubles) -> Doubles:
        """``[..., B]`` MW of everything but the agents, from ``[..., areas]`` and ``[..., V]``."""
        return available[..., self._fixed] @ self._site - load @ self._split - self._shunt

    def limits(self, available: Doubles) -> Doubles:
        """``[..., A]`` MW upper limits of curtailable agents (0 of others) from ``[..., V]``."""
        limits = np.zeros((*available.shape[:-1], self._size))
        limits[..., self._agents] = available[..., self._columns]
        return limits

    def day(self, actual: Series, load: Doubles, available: Doubles, intervals: int) -> Day:
        """Arrays of an episode.

        Args:
            actual: what happens.
            load: ``[T, L, areas]`` forecasts with leads 1 ... L as seen at every epoch.
            available: ``[T, L, V]`` likewise.
            intervals: T.
        """
        injection = self.injection(actual.load[:intervals], actual.available[:intervals])
        demand = load.sum(axis=2) + self._shunt.sum()
        demand -= available[:, :, self._fixed].sum(axis=2)
        return Day(
            demand=-injection.sum(axis=1),
            available=self.limits(actual.available[:intervals]),
            renewable=actual.available[:intervals, self._columns].sum(axis=1),
            injection=injection,
            expected_load=load,
            expected_series=available,
            expected_demand=demand,
            expected_available=self.limits(available[:, 0]),
            expected_renewable=available[:, :, self._columns].sum(axis=2),
            reserve=actual.reserve[:intervals],
            start=actual.start,
        )

    def ahead(self, forecast: Series) -> tuple[Doubles, Doubles]:
        """``[H]`` MW of an hourly forecast: load and shunts less all renewables; renewables."""
        renewable = forecast.available.sum(axis=1)
        return forecast.load.sum(axis=1) + self._shunt.sum() - renewable, renewable

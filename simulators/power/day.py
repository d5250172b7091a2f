"""Everything about an episode that no set point can change, laid out for the hot loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..interface import Doubles
from .fleet import Fleet
from .grid import Grid
from .series import Series


class Source(Protocol):
    """Where days come from."""

    def day(self, seed: int, intervals: int) -> tuple[Series, Series]:
        """Actual values for at least ``intervals`` intervals, and the hourly day-ahead forecast.

        Both begin at the same moment; the second covers the first.
        """
        ...


@dataclass(frozen=True, slots=True)
class Day:
    """One episode's inputs: T intervals, L leads, index t is the interval that begins at t.

    A quantity "of interval t" is its mean over the interval, which is what set-points of epoch t
    have to meet. ``expected`` with lead l (0-based) at epoch t is of interval t + l.

    Attributes:
        demand: ``[T]`` MW, load less units that take no set point (and shunts).
        available: ``[T, A]`` MW upper limit of curtailable units, 0 for others.
        injection: ``[T, B]`` MW of everything but the agents.
        expected_demand: ``[T, L]``; expected_available: ``[T, L, A]``.
        expected_injection: ``[T, B]`` of the coming interval, as forecast.
        expected_renewable: ``[T, L]`` MW, sum of expected_available.
        reserve: ``[T]`` MW spinning requirement.
        start: calendar time of the first interval.
    """

    demand: Doubles
    available: Doubles
    injection: Doubles
    expected_demand: Doubles
    expected_available: Doubles
    expected_injection: Doubles
    expected_renewable: Doubles
    reserve: Doubles
    start: np.datetime64


class Layout:
    """Maps series to agents and buses of one grid; made once."""

    def __init__(self, grid: Grid, fleet: Fleet) -> None:
        buses = len(grid.buses.name)
        self._split = np.zeros((len(grid.buses.areas), buses))
        for area in range(len(grid.buses.areas)):
            inside = grid.buses.area == area
            total = float(grid.buses.load[inside].sum())
            if total > 0.0:
                self._split[area, inside] = grid.buses.load[inside] / total
        self._shunt = grid.buses.shunt
        self._fixed = fleet.fixed
        self._site = np.zeros((fleet.fixed.size, buses))
        self._site[np.arange(fleet.fixed.size), fleet.fixed_bus] = 1.0
        self._agents = np.flatnonzero(fleet.curtailed)
        self._columns = fleet.column[self._agents]
        self._size = fleet.size

    def day(self, actual: Series, load: Doubles, available: Doubles, intervals: int) -> Day:
        """Arrays of an episode.

        Args:
            actual: what happens.
            load: ``[T, L, areas]`` forecasts with leads 1 ... L as seen at every epoch.
            available: ``[T, L, V]`` likewise.
            intervals: T.
        """
        injection = self._injection(actual.load[:intervals], actual.available[:intervals])
        expected = self._injection(load[:, 0], available[:, 0])
        leads = load.shape[1]
        demand = load.sum(axis=2) + self._shunt.sum()
        demand -= available[:, :, self._fixed].sum(axis=2)
        ahead = np.zeros((intervals, leads, self._size))
        ahead[:, :, self._agents] = available[:, :, self._columns]
        present = np.zeros((intervals, self._size))
        present[:, self._agents] = actual.available[:intervals][:, self._columns]
        return Day(
            demand=-injection.sum(axis=1),
            available=present,
            injection=injection,
            expected_demand=demand,
            expected_available=ahead,
            expected_injection=expected,
            expected_renewable=ahead.sum(axis=2),
            reserve=actual.reserve[:intervals],
            start=actual.start,
        )

    def ahead(self, forecast: Series) -> tuple[Doubles, Doubles]:
        """``[H]`` MW of an hourly forecast: load and shunts less all renewables; renewables."""
        renewable = forecast.available.sum(axis=1)
        return forecast.load.sum(axis=1) + self._shunt.sum() - renewable, renewable

    def _injection(self, load: Doubles, available: Doubles) -> Doubles:
        return available[:, self._fixed] @ self._site - load @ self._split - self._shunt

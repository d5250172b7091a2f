"""The box of every agent: what ramps, commitment, outages, forecasts and stored energy leave."""

from __future__ import annotations

import numpy as np

from ..interface import Bools, Doubles
from .fleet import Fleet
from .plant import HOUR, Plant

NEVER = 1e6
"""Intervals until a stop that nobody has announced."""

TEN_MINUTES = 1.0 / 6.0
"""Hours within which spinning reserve must come, and for which a storage must have it."""


class Limits:
    """Limits of a fleet for dispatches every ``interval`` seconds.

    Attributes:
        top: ``[A]`` MW upper limit while nothing changes: 0 for units that are off or failed.
    """

    def __init__(self, fleet: Fleet, interval: float) -> None:
        self._fleet, self._interval = fleet, interval
        self._hours = interval / HOUR
        self._charge = 1.0 / (fleet.efficiency * self._hours)
        self._ten_minutes = fleet.ramp * (600.0 / interval)
        self._store = np.flatnonzero(fleet.store)
        self._limited_by_series = np.flatnonzero(fleet.curtailed)
        self.top = np.zeros(fleet.size)
        self._never = np.full(fleet.size, NEVER)
        self._bottom = np.zeros(fleet.size)
        self._stopping = np.zeros(0, np.int64)
        self._works = np.ones(fleet.size, bool)

    def changed(self, plant: Plant) -> None:
        """Take over the state of the plant; to be called when it has changed."""
        fleet = self._fleet
        self._works = ~plant.failed
        runs = plant.on & self._works
        self.top = np.where(runs, fleet.high, 0.0)
        self._bottom = np.where(runs & fleet.thermal, fleet.low, 0.0)
        self._stopping = np.flatnonzero(np.isfinite(plant.stop_at) & runs)
        self._stop_at = plant.stop_at[self._stopping]

    def box(
        self, power: Doubles, stored: Doubles, expected: Doubles, now: float
    ) -> tuple[Doubles, Doubles]:
        """Lower and upper ends ``[A]`` MW of what can be reached at the end of the next interval.

        Args:
            power: ``[A]`` MW now.
            stored: ``[A]`` MWh now.
            expected: ``[A]`` MW forecast upper limits of curtailable agents.
            now: s.
        """
        fleet = self._fleet
        # A unit that has just been connected comes in at its minimum.
        start = np.maximum(power, self._bottom)
        low = np.maximum(start - fleet.ramp, self._bottom)
        high = np.minimum(start + fleet.ramp, self.top)
        if self._stopping.size:
            units = self._stopping
            left = (self._stop_at - now) / self._interval - 1.0
            down = self._bottom[units] + fleet.ramp[units] * np.maximum(left, 0.0)
            high[units] = np.maximum(np.minimum(high[units], down), low[units])
        series = self._limited_by_series
        low[series] = 0.0
        high[series] = self.real(expected)[series]
        if self._store.size:
            units = self._store
            high[units] = np.minimum(fleet.high[units], stored[units] / self._hours)
            room = (fleet.energy[units] - stored[units]) * self._charge[units]
            low[units] = -np.minimum(-fleet.low[units], room)
        # Off and failed units, and outputs above what a forced stop leaves.
        np.minimum(low, high, out=low)
        return low, high

    def stop_in(self, now: float) -> Doubles:
        """``[A]`` intervals until an announced stop, :data:`NEVER` if there is none."""
        if not self._stopping.size:
            return self._never
        intervals = self._never.copy()
        intervals[self._stopping] = (self._stop_at - now) / self._interval
        return intervals

    def real(self, available: Doubles) -> Doubles:
        """``[A]`` MW that units which work can give of what is ``available``."""
        return available * self._works

    def participation(self, low: Doubles, high: Doubles) -> Doubles:
        """``[A]`` share of a mismatch, positive; see :func:`.balance.balance`."""
        return self._fleet.part * np.maximum(high - low, 1e-6)

    def spinning(self, power: Doubles, stored: Doubles, on: Bools) -> float:
        """MW that units on line and storages (``stored`` MWh) can add within ten minutes."""
        fleet = self._fleet
        room = np.minimum(self.top - power, self._ten_minutes)
        left = float(room @ (fleet.thermal & on))
        if self._store.size:
            units = self._store
            lasts = np.minimum(fleet.high[units], stored[units] / TEN_MINUTES)
            left += float(np.maximum(lasts - power[units], 0.0).sum())
        return left

    def charged(self, stored: Doubles, mean: Doubles) -> tuple[Doubles, float]:
        """Contents ``[A]`` MWh after an interval at mean outputs ``[A]`` MW, and MWh taken out."""
        if not self._store.size:
            return stored, 0.0
        units, fleet = self._store, self._fleet
        flow = mean[units] * self._hours
        after = stored[units] - np.where(flow < 0.0, flow * fleet.efficiency[units], flow)
        after = np.minimum(np.maximum(after, 0.0), fleet.energy[units])
        contents = stored.copy()
        contents[units] = after
        return contents, float((stored[units] - after).sum())

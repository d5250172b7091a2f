"""What no controller influences, over time: load of the areas, and what wind and water give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles


@dataclass(frozen=True, slots=True)
class Series:
    """Power over T intervals of equal length, in MW.

    Attributes:
        start: beginning of the first interval.
        step: length of an interval in s.
        load: ``[T, areas]`` demand of every area, in the order of ``grid.buses.areas``.
        available: ``[T, V]`` upper limit of every renewable unit, in the order in which
            ``grid.units.renewable`` is true.
        reserve: ``[T]`` spinning reserve requirement (zeros where there is none).
    """

    start: np.datetime64
    step: float
    load: Doubles
    available: Doubles
    reserve: Doubles

    @property
    def length(self) -> int:
        """Number of intervals T."""
        return self.load.shape[0]

    def between(self, first: int, last: int) -> Series:
        """Intervals ``first`` to ``last`` (exclusive)."""
        return Series(
            start=self.start + np.timedelta64(round(first * self.step), "s"),
            step=self.step,
            load=self.load[first:last],
            available=self.available[first:last],
            reserve=self.reserve[first:last],
        )

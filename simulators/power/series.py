"""What no controller influences, over time: load of the areas, and what wind and water give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles
from .grid import Grid


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


class SeriesError(ValueError):
    """Series that do not fit a grid or hold values that cannot be."""


def load_split(grid: Grid) -> Doubles:
    """``[B]`` share of its area's load that each bus takes; 0 throughout in areas without load."""
    buses = grid.buses
    total = np.bincount(buses.area, weights=buses.load, minlength=len(buses.areas))[buses.area]
    return np.divide(buses.load, total, out=np.zeros_like(total), where=total != 0.0)


def bus_loads(grid: Grid, load: Doubles) -> Doubles:
    """Load of every bus from the load of the areas.

    Args:
        grid: whose nominal bus loads are the split.
        load: ``[..., areas]`` MW.

    Returns:
        ``[..., B]`` MW.
    """
    return load[..., grid.buses.area] * load_split(grid)


def check_series(grid: Grid, series: Series) -> Series:
    """The series themselves, if they fit ``grid``.

    Raises:
        SeriesError: other shapes than the grid's, a value that is not finite, a renewable limit
            or reserve below 0, an area with load none of whose buses takes a share.
    """
    length, areas = series.length, len(grid.buses.areas)
    renewable = np.flatnonzero(grid.units.renewable)
    parts = (
        ("load", series.load, (length, areas)),
        ("available", series.available, (length, len(renewable))),
        ("reserve", series.reserve, (length,)),
    )
    for name, values, shape in parts:
        if values.shape != shape:
            raise SeriesError(f"{name} has shape {values.shape}, not {shape} as the grid needs")
        wrong = ~np.isfinite(values)
        if name != "load":
            wrong |= values < 0.0
        if wrong.any():
            row, *column = (int(index) for index in np.argwhere(wrong)[0])
            labels = grid.buses.areas if name == "load" else grid.units.name
            at = column[0] if column else 0
            which = f" of {labels[renewable[at] if name == 'available' else at]}" if column else ""
            raise SeriesError(
                f"{name}{which}, interval {row}: found {values[row, *column]}, expected a finite "
                f"number{'' if name == 'load' else ' of at least 0'}"
            )
    split = np.bincount(grid.buses.area, weights=load_split(grid), minlength=areas)
    bare = (split == 0.0) & (series.load != 0.0).any(axis=0)
    if bare.any():
        area = grid.buses.areas[int(np.argmax(bare))]
        raise SeriesError(f"area {area!r} has load, but no bus of it takes a share")
    return series

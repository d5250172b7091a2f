"""Cost curves as columns of a linear program: one column per segment inside the present box.

A unit's output is its lower limit plus what its segments give. As marginal costs ascend, a linear
program fills them in order by itself, so a moved box (ramps, availability, commitment) is nothing
but new upper bounds of columns.

The proximal term ``weight / 2 * ((p - around) / cap)^2`` $/h is added as chords between ``pieces``
points on either side of ``around`` inside the box, merged with the points of the cost curve. The
optimum then moves continuously with the demand up to one piece (at ``weight > 0``; a true quadratic
would be Lipschitz, the pieces make steps of at most the box over ``2 pieces``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Bools, Doubles, Ints
from ...simulators.power.costs import CostTable
from ...simulators.power.grid import Units
from .economic import segment_ends


@dataclass(frozen=True, slots=True)
class Proximal:
    """Keep a dispatch near another one.

    Attributes:
        weight: $/h that it costs to be off by a unit's whole capacity, times two.
        pieces: chords on either side of the point to stay near.
    """

    weight: float
    pieces: int = 4

    def __post_init__(self) -> None:
        if not (self.weight > 0.0 and self.pieces >= 1):
            raise ValueError(f"{self}: expected a positive weight and at least one piece")


@dataclass(frozen=True, slots=True)
class Columns:
    """What the segments of all units are in one solve.

    Attributes:
        upper: ``[S]`` MW.
        price: ``[S]`` $/MWh, or None where it is the same as always.
        base: ``[U]`` MW given anyway (the lower limits of units that are on).
        fixed: $/h that accrue anyway.
    """

    upper: Doubles
    price: Doubles | None
    base: Doubles
    fixed: float


class Segments:
    """The segments of a grid's units.

    Attributes:
        unit: ``[S]`` unit of every segment; price: ``[S]`` $/MWh at first.
        table: costs of the units.
    """

    def __init__(self, units: Units, proximal: Proximal | None = None) -> None:
        curves = units.curve
        self.table = CostTable(curves)
        self.proximal = proximal
        self.capacity = np.maximum(units.high, 1.0)
        slope = curves.slope
        if proximal is not None:
            count = slope.shape[1] + 2 * proximal.pieces - 1
            self._real = np.ones((slope.shape[0], count), dtype=bool)
            self._breaks = curves.power[:, 1:-1]
            self._spread = np.arange(1, proximal.pieces + 1) / proximal.pieces
            self.price = np.zeros(self._real.size)
        else:
            self._real = np.diff(curves.power, axis=1) > 0.0
            self._real[~self._real.any(axis=1), 0] = True
            self.price = slope[self._real]
            ends = segment_ends(curves)
            self._start, self._end = ends[:, :-1][self._real], ends[:, 1:][self._real]
        self.unit: Ints = np.nonzero(self._real)[0].astype(np.int64)

    def columns(self, low: Doubles, high: Doubles, on: Bools, around: Doubles) -> Columns:
        """Segments for the box ``low .. high`` ``[U]`` and the point to stay near ``[U]``."""
        base = np.where(on, low, 0.0)
        top = np.where(on, high, 0.0)
        fixed = float(self.table.cost(base, on).sum())
        if self.proximal is None:
            first, last = base[self.unit], top[self.unit]
            upper = np.clip(self._end, first, last) - np.clip(self._start, first, last)
            return Columns(upper, None, base, fixed)
        pull = self.proximal.weight / self.capacity**2
        return self._near(base, top, fixed, (pull, np.where(on, around, 0.0)))

    def _near(
        self, low: Doubles, high: Doubles, fixed: float, parabola: tuple[Doubles, Doubles]
    ) -> Columns:
        pull, around = parabola
        centre = np.clip(around, low, high)
        points = np.concatenate(
            [
                low[:, None],
                centre[:, None] - (centre - low)[:, None] * self._spread[:-1],
                centre[:, None],
                centre[:, None] + (high - centre)[:, None] * self._spread,
                np.clip(self._breaks, low[:, None], high[:, None]),
            ],
            axis=1,
        )
        points.sort(axis=1)
        middle = (points[:, 1:] + points[:, :-1]) / 2.0
        segment = (self._breaks[:, None, :] <= middle[:, :, None]).sum(axis=2)
        price = np.take_along_axis(self.table.slope, segment, axis=1)
        price += pull[:, None] * (middle - around[:, None])
        # Rounding must not make a later segment cheaper than an earlier one of the same unit.
        price = np.maximum.accumulate(price, axis=1)
        fixed += float((pull * (low - around) ** 2).sum() / 2.0)
        return Columns(np.diff(points, axis=1).ravel(), price.ravel(), low, fixed)


def chord_error(quadratic: Doubles, width: Doubles) -> Doubles:
    """Largest $/h by which a chord of ``width`` MW lies above its parabola: ``c2 (w/2)^2``."""
    return quadratic[..., 0] * (width / 2.0) ** 2

"""Indicative prices: what the next MWh would cost if units followed their merit order.

Everybody in a dispatch centre sees this number before anything is optimised: all segments of the
units that are on, sorted by marginal cost, and how far the demand reaches into them. It is part of
the observation, and the merit-order rule is nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Doubles
from .fleet import Fleet


@dataclass(frozen=True, slots=True)
class Merit:
    """The merit order inside the present box.

    Attributes:
        price: marginal cost at the demand, $/MWh.
        width: ``[A, K]`` MW of every segment that lies inside the box.
    """

    price: float
    width: Doubles


class MeritOrder:
    """Merit order of a fleet; storages bid what their energy is worth.

    Attributes:
        slope: ``[A, K]`` $/MWh of every segment.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.slope = fleet.curve.slope
        self._start = np.ascontiguousarray(fleet.curve.power[:, :-1])
        self._end = np.ascontiguousarray(fleet.curve.power[:, 1:])
        self._room = np.empty_like(self._start)
        self._order = np.argsort(self.slope.ravel(), kind="stable")
        self._sorted = self.slope.ravel()[self._order]
        self._agent = self._order // self.slope.shape[1]
        self._full = (self._end - self._start).ravel()[self._order]
        self._low = np.where(fleet.thermal, fleet.low, 0.0)
        self._committed = np.zeros(0)
        self._base = 0.0

    def within(self, low: Doubles, high: Doubles, demand: float) -> Merit:
        """Price ``$/MWh`` at ``demand`` MW when everybody stays in ``low .. high`` ``[A]``."""
        bottom, top, begin = low[:, None], high[:, None], self._room
        width = np.maximum(self._end, bottom)
        np.minimum(width, top, out=width)
        np.maximum(self._start, bottom, out=begin)
        np.minimum(begin, top, out=begin)
        width -= begin
        reach = width.ravel()[self._order].cumsum()
        return Merit(self._at(reach, demand - float(low.sum())), width)

    def commit(self, on: Bools, high: Doubles) -> None:
        """Units that are on ``[A]`` and their upper limits, for :meth:`ahead`."""
        share = np.where(on, np.minimum(high / np.maximum(self._end[:, -1], 1e-9), 1.0), 0.0)
        self._committed = (self._full * share[self._agent]).cumsum()
        self._base = float(self._low[on].sum())

    def ahead(self, demand: Doubles) -> Doubles:
        """Prices for demands ``[n]`` MW that the committed units could meet without ramps."""
        place = self._committed.searchsorted(demand - self._base)
        return self._sorted[np.minimum(place, self._sorted.size - 1)]

    def dispatch(self, low: Doubles, width: Doubles, demand: float) -> Doubles:
        """Set-points ``[A]`` that meet ``demand`` in merit order inside the box, if possible."""
        flat = width.ravel()[self._order]
        before = flat.cumsum() - flat
        taken = np.clip(demand - float(low.sum()) - before, 0.0, flat)
        return low + np.bincount(self._agent, weights=taken, minlength=low.size)

    def _at(self, reach: Doubles, demand: float) -> float:
        place = int(reach.searchsorted(demand))
        return float(self._sorted[min(place, self._sorted.size - 1)])

"""Production cost of all units at once, fast enough to be asked in every interval.

A convex piecewise-linear curve is the largest of the lines through its segments, so the cost of all
units is one product, one sum and one maximum over ``[U, K]`` numbers, without a search. Below the
minimum (a unit that ramps up after its start) and above the maximum the first and the last line
continue; solvers continue their segments likewise.
"""

from __future__ import annotations

import numpy as np

from ..interface import Bools, Doubles
from .grid import Curves

ROUNDING = 1e-9
"""A unit this many MW below the end of a segment stands at its end."""


class CostTable:
    """Costs of U units by their curves.

    Attributes:
        slope: ``[U, K]`` $/MWh of every segment; fixed: ``[U, K]`` $/h of its line at 0 MW.
    """

    def __init__(self, curves: Curves) -> None:
        self.slope = curves.slope
        self.fixed = curves.cost[:, :-1] - self.slope * curves.power[:, :-1]
        # Segments of no width repeat a line; their own numbers would only add rounding.
        narrow = np.diff(curves.power, axis=1) <= 0.0
        for column in range(1, narrow.shape[1]):
            empty = narrow[:, column]
            self.fixed[empty, column] = self.fixed[empty, column - 1]
        self._breaks = curves.power[:, 1:-1] - ROUNDING
        self._rows = np.arange(curves.power.shape[0])
        # Segments as rows: adding and comparing long rows is what numpy does fast.
        self._slopes = np.ascontiguousarray(self.slope.T)
        self._fixed = np.ascontiguousarray(self.fixed.T)

    def cost(self, power: Doubles, on: Bools | None = None) -> Doubles:
        """Production cost ``[U]`` $/h at ``power`` ``[U]`` MW; 0 for units that are not ``on``."""
        line = self._slopes * power
        line += self._fixed
        cost = np.maximum.reduce(line)
        if on is not None:
            cost *= on
        return cost

    def marginal(self, power: Doubles) -> Doubles:
        """Cost of the next MWh ``[U]`` $/MWh: the segment above ``power``, the last at the top."""
        segment = (self._breaks <= power[:, None]).sum(axis=1)
        return self.slope[self._rows, segment]

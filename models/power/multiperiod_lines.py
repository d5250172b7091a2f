"""Branch limits of the multi-period dispatch, as rows that are added when a flow breaks them.

Nearly all limits never bind, and a row over all units is dense; so a limit becomes a row of its
interval when an optimum without it violates it, and stays for later solves. Every row has overload
slack at a price, so that limits never make a program infeasible.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array

from ...simulators.interface import Doubles, Ints
from .multiperiod_inputs import DispatchData, FlowLimits
from .multiperiod_layout import Layout
from .multiperiod_program import GrowingProgram

VIOLATION = 1e-5
"""MW by which a flow may exceed its limit before the limit becomes a row."""


class LineRows:
    """Flows of a dispatch, and the rows that keep them within limits.

    Args:
        layout: of the program.
        limits: of the branches.
    """

    def __init__(self, layout: Layout, limits: FlowLimits) -> None:
        self.layout = layout
        grid = layout.grid
        buses = len(grid.buses.name)
        load = np.maximum(grid.buses.load, 0.0)
        # Surplus is taken where load is.
        self.sink = load / load.sum() if load.any() else np.full(buses, 1.0 / buses)
        self.injects = self._injections(buses)
        self.units = csr_array(
            coo_array(
                (np.ones(grid.units.bus.size), (grid.units.bus, np.arange(grid.units.bus.size))),
                shape=(buses, grid.units.bus.size),
            )
        )
        self.interval = np.zeros(0, dtype=np.int64)
        self.branch = np.zeros(0, dtype=np.int64)
        self.limits = checked_limits(limits, buses)

    def _injections(self, buses: int) -> Any:
        """MW injected at a bus per MW of a column, ``[B, N]`` sparse."""
        layout, grid = self.layout, self.layout.grid
        index = np.arange(layout.width)
        every = np.arange(buses)
        parts = [
            (grid.units.bus[layout.parts.unit], index[layout.segments], 1.0),
            (grid.storages.bus, index[layout.charge], -1.0),
            (grid.storages.bus, index[layout.discharge], 1.0),
            (every, index[layout.shed], 1.0),
            (every, np.full(buses, layout.surplus.start), -self.sink),
            (grid.dc_lines.start, index[layout.dc], -1.0),
            (grid.dc_lines.end, index[layout.dc], 1.0),
        ]
        full = [np.broadcast_arrays(*part) for part in parts]
        row, column, value = (np.concatenate([part[k] for part in full]) for k in range(3))
        return csr_array(coo_array((value, (row, column)), shape=(buses, layout.width)))

    def fixed(self, data: DispatchData) -> Doubles:
        """Injections ``[H, B]`` MW that the program does not choose: lower limits, minus load."""
        return (self.units @ data.low.T).T - data.load

    def flows(self, x: Doubles, fixed: Doubles) -> Doubles:
        """Flows ``[H, L]`` MW of a point ``[H, N]``."""
        injection = (self.injects @ x.T).T + fixed
        return injection @ self.limits.ptdf.T + self.limits.offset

    def violated(self, flow: Doubles) -> tuple[Ints, Ints]:
        """Interval and branch of limits that are broken and not yet rows."""
        excess = np.maximum(flow - self.limits.high, self.limits.low - flow)
        broken = excess > VIOLATION
        broken[self.interval, self.branch] = False
        interval, branch = np.nonzero(broken)
        return interval.astype(np.int64), branch.astype(np.int64)

    def add(self, program: GrowingProgram, interval: Ints, branch: Ints, fixed: Doubles) -> None:
        """Make rows of the limits of these branches in these intervals."""
        row, column, value = self._coefficients(interval, branch)
        program.add_rows(interval.size, row, column, value, self.layout.prices.overload)
        self.interval = np.concatenate([self.interval, interval])
        self.branch = np.concatenate([self.branch, branch])
        self.update(program, fixed)

    def update(self, program: GrowingProgram, fixed: Doubles) -> None:
        """Right-hand sides of all rows for new fixed injections."""
        limits, branch = self.limits, self.branch
        shift = np.einsum("nb,nb->n", limits.ptdf[branch], fixed[self.interval])
        shift += limits.offset[branch]
        program.set_added(limits.low[branch] - shift, limits.high[branch] - shift)

    def exchange(self, program: GrowingProgram, limits: FlowLimits, fixed: Doubles) -> None:
        """Other limits from now on; rows stay, with new coefficients."""
        interval, branch = self.interval, self.branch
        self.limits = checked_limits(limits, fixed.shape[1])
        program.drop_added()
        self.interval, self.branch = interval[:0], branch[:0]
        # A branch that is out has no flow to limit.
        live = self.limits.ptdf[branch].any(axis=1)
        if live.any():
            self.add(program, interval[live], branch[live], fixed)

    def _coefficients(self, interval: Ints, branch: Ints) -> tuple[Ints, Ints, Doubles]:
        dense = (self.injects.T @ self.limits.ptdf[branch].T).T
        row, column = np.nonzero(np.abs(dense) > 1e-9)
        return row, column + interval[row] * self.layout.width, dense[row, column]

    def scattered(self, values: Doubles) -> Doubles:
        """Values of the rows as ``[H, L]``, zero where there is no row."""
        full = np.zeros((self.layout.horizon, self.limits.high.shape[0]))
        full[self.interval, self.branch] = values
        return full


def checked_limits(limits: FlowLimits, buses: int) -> FlowLimits:
    """The limits themselves; ``ValueError`` names an array of the wrong shape or with NaN."""
    branches = limits.high.shape[0]
    for name, array, shape in (
        ("ptdf", limits.ptdf, (branches, buses)),
        ("low", limits.low, (branches,)),
        ("high", limits.high, (branches,)),
        ("offset", limits.offset, (branches,)),
    ):
        if array.shape != shape or np.isnan(array).any():
            raise ValueError(f"{name} must hold numbers of shape {shape}, found {array.shape}")
    return limits

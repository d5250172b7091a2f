"""Columns and rows of the multi-period dispatch as index arrays, made once.

A unit's output is its lower limit plus what its cost segments add, ``p = low + sum_k s_k``, so that
commitment, outages and availability are nothing but column bounds and right-hand sides:

    balance   sum s + discharge - charge + shed - surplus = load - sum low
    ramp      down <= p_t - p_(t-1) <= up
    energy    e_t - e_(t-1) - dt (efficiency charge - discharge) = 0
    reserve   sum r + short >= requirement;   sum_k s_k + r <= high - low;   r <= ramp in 10 min

Columns and rows of an interval lie together (``[H, N]`` and ``[H, M]``). Costs are $/h, so that the
dual of a balance row is a price in $/MWh whatever the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array

from ...simulators.interface import Doubles, Ints
from ...simulators.power.grid import Grid
from ...simulators.power.scenario import Prices
from .multiperiod_inputs import DispatchData, ramp_windows

RESERVE_MINUTES = 10.0
"""Time within which reserve must be there."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Cost segments that have a width, ``[S]`` each, unit after unit.

    The first of a unit reaches down without end and the last up, as the simulator's cost does.
    """

    unit: Ints
    start: Doubles
    end: Doubles
    slope: Doubles

    @classmethod
    def of(cls, grid: Grid) -> Segments:
        """Those of a grid; a unit without any width has one of its last slope."""
        curve = grid.units.curve
        real = np.diff(curve.power, axis=1) > 0.0
        real[:, 0] |= ~real.any(axis=1)
        unit, column = np.nonzero(real)
        first = np.concatenate([[True], unit[1:] != unit[:-1]])[: unit.size]
        last = np.concatenate([unit[1:] != unit[:-1], [True]])[-unit.size :]
        return cls(
            unit=unit,
            start=np.where(first, -np.inf, curve.power[unit, column]),
            end=np.where(last, np.inf, curve.power[unit, column + 1]),
            slope=curve.slope[unit, column],
        )

    def between(self, low: Doubles, high: Doubles) -> Doubles:
        """Width ``[..., S]`` of every segment inside ``low .. high`` ``[..., U]``."""
        upper = np.clip(high[..., self.unit], self.start, self.end)
        return upper - np.clip(low[..., self.unit], self.start, self.end)


class Layout:
    """Where everything stands in an interval, and the program's constant part.

    Args:
        grid: checked.
        horizon: H.
        step: s.
        prices: of slacks and curtailment.
        wear: $/MWh through a storage.
        nodal: shed at every bus and DC lines as columns (network), or one shed column.
        reserve: with reserve columns and rows.

    Attributes:
        segments, charge, discharge, energy, held, short, shed, surplus, dc: column slices of an
            interval; width: N.
        ramp, storage, total, headroom: row slices (row 0 is the balance); height: M.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        horizon: int,
        step: float,
        prices: Prices,
        wear: float,
        nodal: bool,
        reserve: bool,
    ) -> None:
        self.grid, self.horizon, self.hours = grid, horizon, step / 3600.0
        self.prices, self.nodal = prices, nodal
        units, count = grid.units, len(grid.storages.name)
        self.parts = Segments.of(grid)
        self.limit = units.ramp * step / 60.0
        # Others cannot even be asked for more than they can do.
        self.ramped = np.flatnonzero(self.limit < units.high)
        able = ~units.renewable & (units.high > 0.0)
        self.holders = np.flatnonzero(able) if reserve else np.zeros(0, np.int64)
        self.hold_limit = np.minimum(units.ramp * RESERVE_MINUTES, units.high)[self.holders]
        self.wasted = units.renewable & units.curtailable
        sizes = (
            ("segments", self.parts.unit.size),
            ("charge", count),
            ("discharge", count),
            ("energy", count),
            ("held", self.holders.size),
            ("short", int(reserve)),
            ("shed", len(grid.buses.name) if nodal else 1),
            ("surplus", 1),
            ("dc", len(grid.dc_lines.name) if nodal else 0),
        )
        place = _slices(sizes)
        self.segments, self.charge, self.discharge = (
            place["segments"],
            place["charge"],
            place["discharge"],
        )
        self.energy, self.held, self.short = place["energy"], place["held"], place["short"]
        self.shed, self.surplus, self.dc = place["shed"], place["surplus"], place["dc"]
        self.width = self.dc.stop
        rows = _slices(
            (
                ("balance", 1),
                ("ramp", self.ramped.size),
                ("storage", count),
                ("total", int(reserve)),
                ("headroom", self.holders.size),
            )
        )
        self.ramp, self.storage = rows["ramp"], rows["storage"]
        self.total, self.headroom = rows["total"], rows["headroom"]
        self.height = self.headroom.stop
        self.cost = self._costs(wear)
        self.by_unit = self._by_unit()

    def _costs(self, wear: float) -> Doubles:
        """$/h per MW of an interval's columns ``[N]``."""
        prices = self.prices
        cost = np.zeros(self.width)
        cost[self.segments] = self.parts.slope
        cost[self.segments] -= prices.curtailment * self.wasted[self.parts.unit]
        cost[self.charge] = cost[self.discharge] = wear / 2.0
        cost[self.short] = prices.reserve
        cost[self.shed] = prices.shed
        cost[self.surplus] = prices.surplus
        return cost

    def _by_unit(self) -> Any:
        """Sums an interval's segments by unit, ``[U, S]`` sparse."""
        unit = self.parts.unit
        ones = np.ones(unit.size)
        shape = (len(self.grid.units.name), unit.size)
        return csr_array(coo_array((ones, (unit, np.arange(unit.size))), shape=shape))

    def matrix(self) -> tuple[Ints, Ints, Doubles]:
        """Triplets (rows, columns, values) of the whole program."""
        now, before = self._blocks()
        t = np.arange(self.horizon)
        rows, columns, values = [], [], []
        for block, intervals, shift in ((now, t, 0), (before, t[1:], 1)):
            rows.append((block.row[None] + intervals[:, None] * self.height).ravel())
            columns.append((block.col[None] + (intervals[:, None] - shift) * self.width).ravel())
            values.append(np.tile(block.data, intervals.size))
        return (
            np.concatenate(rows).astype(np.int64),
            np.concatenate(columns).astype(np.int64),
            np.concatenate(values),
        )

    def _blocks(self) -> tuple[Any, Any]:
        """Coefficients of an interval's rows on its own columns and on those before it."""
        shape = (self.height, self.width)
        index = np.arange(self.width)
        count = len(self.grid.storages.name)
        now: list[tuple[Ints, Ints, Doubles]] = []
        before: list[tuple[Ints, Ints, Doubles]] = []

        def put(to: list[tuple[Ints, Ints, Doubles]], row: Any, column: Any, value: Any) -> None:
            rows, columns, values = np.broadcast_arrays(row, column, value)
            to.append((rows, columns, values))

        for columns, sign in (
            (self.segments, 1.0),
            (self.charge, -1.0),
            (self.discharge, 1.0),
            (self.shed, 1.0),
            (self.surplus, -1.0),
        ):
            put(now, 0, index[columns], sign)
        part, row = self._parts_of(self.ramped)
        put(now, self.ramp.start + row, part, 1.0)
        put(before, self.ramp.start + row, part, -1.0)
        rows = self.storage.start + np.arange(count)
        put(now, rows, index[self.energy], 1.0)
        put(before, rows, index[self.energy], -1.0)
        put(now, rows, index[self.charge], -self.hours * self.grid.storages.efficiency)
        put(now, rows, index[self.discharge], self.hours)
        if self.total.stop > self.total.start:
            put(now, self.total.start, index[self.held], 1.0)
            put(now, self.total.start, index[self.short], 1.0)
            part, row = self._parts_of(self.holders)
            put(now, self.headroom.start + row, part, 1.0)
            put(now, self.headroom.start + np.arange(self.holders.size), index[self.held], 1.0)
        return _block(now, shape), _block(before, shape)

    def _parts_of(self, units: Ints) -> tuple[Ints, Ints]:
        """Segment columns of some units, and the position of each one's unit among them."""
        position = np.full(len(self.grid.units.name), -1)
        position[units] = np.arange(units.size)
        part = np.flatnonzero(position[self.parts.unit] >= 0)
        return part, position[self.parts.unit[part]]

    def fixed_cost(self, data: DispatchData) -> Doubles:
        """$/h ``[H]`` that the dispatch cannot change: at the lower limits, and waste of all."""
        curve = self.grid.units.curve
        base = np.where(data.on, curve.cost[:, 0], 0.0).sum(axis=1)
        lowest = np.broadcast_to(curve.power[:, 0], data.low.shape)
        # Off units stand at 0 without any cost, wherever their curve begins.
        low = np.where(data.on, data.low, lowest)
        base += self.parts.between(lowest, low) @ self.parts.slope
        waste = np.where(self.wasted, data.high - data.low, 0.0).sum(axis=1)
        return base + self.prices.curtailment * waste

    def columns(self, data: DispatchData) -> tuple[Doubles, Doubles]:
        """Lower and upper bounds of all columns, ``[H, N]`` each."""
        lower = np.zeros((self.horizon, self.width))
        upper = np.zeros((self.horizon, self.width))
        upper[:, self.segments] = self.parts.between(data.low, data.high)
        upper[:, self.charge] = upper[:, self.discharge] = data.storage_power
        upper[:, self.energy] = self.grid.storages.energy
        lower[-1, self.energy], upper[-1, self.energy] = data.end.low, data.end.high
        upper[:, self.held] = self.hold_limit
        upper[:, self.short] = data.reserve[:, None]
        load = data.load.reshape(self.horizon, -1)
        upper[:, self.shed] = np.maximum(load, 0.0)
        # More than this has nowhere to come from.
        most = data.high.sum(axis=1) + data.storage_power.sum(axis=1) + np.abs(load).sum(axis=1)
        upper[:, self.surplus] = most[:, None]
        lower[:, self.dc], upper[:, self.dc] = (
            -self.grid.dc_lines.limit[: self.dc.stop - self.dc.start],
            self.grid.dc_lines.limit[: self.dc.stop - self.dc.start],
        )
        return lower, upper

    def rows(self, data: DispatchData, *, starts_free: bool) -> tuple[Doubles, Doubles]:
        """Lower and upper bounds of all rows, ``[H, M]`` each."""
        lower = np.zeros((self.horizon, self.height))
        load = data.load.reshape(self.horizon, -1).sum(axis=1)
        lower[:, 0] = load - data.low.sum(axis=1)
        lower[0, self.storage] = data.soc
        upper = lower.copy()
        down, up = ramp_windows(data, self.limit, starts_free=starts_free)
        # Rows hold what segments add; the lower limits' own move is data.
        move = np.diff(np.concatenate([data.power[None], data.low]), axis=0)
        lower[:, self.ramp] = (down - move)[:, self.ramped]
        upper[:, self.ramp] = (up - move)[:, self.ramped]
        lower[:, self.total], upper[:, self.total] = data.reserve[:, None], np.inf
        lower[:, self.headroom] = -np.inf
        upper[:, self.headroom] = (data.high - data.low)[:, self.holders]
        return lower, upper


def _slices(sizes: tuple[tuple[str, int], ...]) -> dict[str, slice]:
    ends = np.cumsum([size for _, size in sizes]).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes, ends, strict=True)}


def _block(entries: list[tuple[Ints, Ints, Doubles]], shape: tuple[int, int]) -> Any:
    row, column, value = (
        np.concatenate([np.atleast_1d(entry[part]) for entry in entries]) for part in range(3)
    )
    return coo_array((value, (row, column)), shape=shape)

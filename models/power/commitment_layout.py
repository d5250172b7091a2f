"""Columns and rows of the unit commitment program: three binaries per unit and interval.

Formulation after the PGLib-UC reference model and B. Knueven, J. Ostrowski, J.-P. Watson, "On
mixed-integer programming formulations for the unit commitment problem", INFORMS J. Computing 32(4),
2020. With ``u`` on, ``v`` start, ``w`` stop, ``p`` output above the minimum, ``r`` reserve:

    logic      u_t - u_(t-1) = v_t - w_t
    min up     sum of v over the last min_up intervals <= u_t;   min down: of w <= 1 - u_t
    starts     v_t = sum_s d_st;   d_st <= stops that are between lag_s and lag_(s+1) - 1 old
    curve      p = sum_k (P_k - P_0) l_k;   sum_k l_k <= u   (the perspective of the convex cost)
    room       p + r <= (high - low) u - (high - start ramp) v_t - (high - stop ramp) w_(t+1)
    ramps      p_t + r_t - p_(t-1) <= up u_t;   p_(t-1) - p_t <= down u_(t-1)
    balance    sum (p + low u) + renewables + shed - surplus = demand
    reserve    sum r + short >= requirement

A unit that was off at the start counts as stopped ``down`` intervals before it. (The reference
model ignores such a stop where the unit starts, stops and starts again within a lag.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...simulators.interface import Doubles, Ints
from ...simulators.power.files.pglib_uc import CommitmentInstance


class Triplets:
    """A matrix that grows by blocks of rows."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[tuple[Ints, Ints, Doubles]] = []
        self._lower: list[Doubles] = []
        self._upper: list[Doubles] = []

    def block(self, lower: Any, upper: Any, shape: tuple[int, ...]) -> Ints:
        """Indices ``shape`` of new rows with these bounds."""
        size = int(np.prod(shape))
        index = np.arange(self.count, self.count + size).reshape(shape)
        self.count += size
        for to, bound in ((self._lower, lower), (self._upper, upper)):
            to.append(np.array(np.broadcast_to(bound, shape), dtype=np.float64).ravel())
        return index

    def put(self, row: Any, column: Any, value: Any) -> None:
        """Coefficients; the three broadcast against each other."""
        row, column, value = np.broadcast_arrays(row, column, value)
        self._parts.append((row.ravel(), column.ravel(), np.asarray(value.ravel(), np.float64)))

    def entries(self) -> tuple[Ints, Ints, Doubles]:
        """Rows, columns, values, without zeros."""
        row, column, value = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        real = value != 0.0
        return row[real], column[real], value[real]

    def bounds(self) -> tuple[Doubles, Doubles]:
        """Lower and upper bounds of all rows."""
        return np.concatenate(self._lower), np.concatenate(self._upper)


@dataclass(frozen=True, slots=True)
class Slack:
    """Prices of what may be missing, $/MWh; ``inf`` where it must not be.

    Attributes:
        shed: unserved demand; surplus: generation that nobody takes; reserve: missing reserve.
    """

    shed: float = np.inf
    surplus: float = np.inf
    reserve: float = np.inf


class CommitmentLayout:
    """Where every variable stands, and the whole program as arrays.

    Attributes:
        on, start, stop, reserve: ``[T, G]`` columns; part: ``[T, S]`` of curve points with their
            ``part_unit`` and ``part_power`` (MW above the minimum); early: ``[T, C]`` of start
            categories other than a unit's last.
        renewable, shed, surplus, short: ``[T]`` columns.
        cost, lower, upper: ``[N]``; integer: ``[N]`` bool.
        rows: all rows; balance, requirement: ``[T]`` row indices.
    """

    def __init__(self, instance: CommitmentInstance, slack: Slack) -> None:
        self.instance, self.slack = instance, slack
        units = instance.thermals
        self.periods, self.units = instance.demand.shape[0], len(units.name)
        check_curves(instance)
        rise = units.curve.power - units.low[:, None]
        self.part_unit, point = np.nonzero(np.diff(rise, axis=1, prepend=0.0) > 0.0)
        self.part_power = rise[self.part_unit, point]
        self.part_cost = (units.curve.cost - units.curve.cost[:, :1])[self.part_unit, point]
        finite = np.isfinite(units.start_lag)
        self.last = finite.sum(axis=1) - 1
        self.early_unit, self.early_kind = np.nonzero(
            finite & (np.arange(finite.shape[1]) < self.last[:, None])
        )
        self._columns()
        self.rows = Triplets()
        self._logic()
        self._starts()
        self._room()
        self._ramps()
        self._system()

    def _columns(self) -> None:
        instance, units, slack = self.instance, self.instance.thermals, self.slack
        time, count = self.periods, self.units
        sizes = (count, count, count, count, self.part_unit.size, self.early_unit.size, 1, 1, 1, 1)
        ends = np.cumsum([time * size for size in sizes])
        blocks = [
            np.arange(end - time * size, end).reshape(time, size)
            for size, end in zip(sizes, ends.tolist(), strict=True)
        ]
        self.on, self.start, self.stop, self.reserve, self.part, self.early = blocks[:6]
        self.renewable, self.shed, self.surplus, self.short = (b[:, 0] for b in blocks[6:])
        self.cost, self.lower = np.zeros(ends[-1]), np.zeros(ends[-1])
        self.upper = np.ones(ends[-1])
        coldest = units.start_cost[np.arange(count), self.last]
        self.cost[self.on] = units.curve.cost[:, 0]
        self.cost[self.start] = coldest
        self.cost[self.part] = self.part_cost
        warmer = units.start_cost[self.early_unit, self.early_kind]
        self.cost[self.early] = warmer - coldest[self.early_unit]
        self.upper[self.reserve] = units.high - units.low
        self.lower[self.renewable] = instance.renewable_low.sum(axis=1)
        self.upper[self.renewable] = instance.renewable_high.sum(axis=1)
        for column, price in (
            (self.shed, slack.shed),
            (self.surplus, slack.surplus),
            (self.short, slack.reserve),
        ):
            allowed = np.isfinite(price)
            self.upper[column] = np.inf if allowed else 0.0
            self.cost[column] = price if allowed else 0.0
        self.upper[self.shed] = np.minimum(self.upper[self.shed], instance.demand)
        self._initial()
        self.integer = np.zeros(ends[-1], dtype=bool)
        self.integer[self.on] = self.integer[self.start] = self.integer[self.stop] = True

    def _initial(self) -> None:
        """What the state at the start forces."""
        units = self.instance.thermals
        time = np.arange(self.periods)[:, None]
        stay = units.on & (time < units.min_up - units.up)
        rest = ~units.on & (time < units.min_down - units.down)
        self.lower[self.on] = np.where(stay | units.must_run, 1.0, 0.0)
        self.upper[self.on] = np.where(rest, 0.0, 1.0)
        above = units.on & (units.power > units.ramp_stop)
        self.upper[self.stop[0]] = np.where(above, 0.0, 1.0)

    def _logic(self) -> None:
        rows, units = self.rows, self.instance.thermals
        before = np.zeros((self.periods, self.units))
        before[0] = units.on
        logic = rows.block(before, before, self.on.shape)
        rows.put(logic, self.on, 1.0)
        rows.put(logic[1:], self.on[:-1], -1.0)
        rows.put(logic, self.start, -1.0)
        rows.put(logic, self.stop, 1.0)
        up = rows.block(-np.inf, 0.0, self.on.shape)
        rows.put(up, self.on, -1.0)
        self._window(up, self.start, np.zeros_like(units.min_up), np.maximum(units.min_up, 1))
        down = rows.block(-np.inf, 1.0, self.on.shape)
        rows.put(down, self.on, 1.0)
        self._window(down, self.stop, np.zeros_like(units.min_down), np.maximum(units.min_down, 1))

    def _window(
        self, rows: Ints, columns: Ints, first: Ints, last: Ints, sign: float = 1.0
    ) -> None:
        """Put ``sign`` on columns ``first`` to ``last - 1`` intervals before each row's."""
        end = int(min(last.max(initial=0), self.periods))
        for age in range(end):
            some = np.flatnonzero((first <= age) & (age < last))
            self.rows.put(rows[age:, some], columns[: self.periods - age, some], sign)

    def _starts(self) -> None:
        """Start categories; a unit's last one is the start itself."""
        if not self.early_unit.size:
            return
        units, unit, kind = self.instance.thermals, self.early_unit, self.early_kind
        first = np.where(kind == 0, 1, units.start_lag[unit, kind]).astype(np.int64)
        last = units.start_lag[unit, kind + 1].astype(np.int64)
        age = units.down[unit] + np.arange(self.periods)[:, None]
        stopped = ~units.on[unit] & (first <= age) & (age < last)
        rows = self.rows.block(-np.inf, stopped, self.early.shape)
        self.rows.put(rows, self.early, 1.0)
        self._window(rows, self.stop[:, unit], first, last, -1.0)
        many, position = np.unique(unit, return_inverse=True)
        total = self.rows.block(-np.inf, 0.0, (self.periods, many.size))
        self.rows.put(total, self.start[:, many], -1.0)
        self.rows.put(total[:, position], self.early, 1.0)

    def _room(self) -> None:
        rows, units = self.rows, self.instance.thermals
        curve = rows.block(-np.inf, 0.0, self.on.shape)
        rows.put(curve, self.on, -1.0)
        rows.put(curve[:, self.part_unit], self.part, 1.0)
        start = np.maximum(units.high - units.ramp_start, 0.0)
        stop = np.maximum(units.high - units.ramp_stop, 0.0)
        # A unit on for one interval only starts and stops around it: both at once would be double.
        both = (units.min_up >= 2) | (start == 0.0) | (stop == 0.0)
        every = np.arange(self.units)
        for some, first, second in (
            (every[both], start, stop),
            (every[~both], start, np.zeros_like(stop)),
            (every[~both], np.zeros_like(start), stop),
        ):
            room = rows.block(-np.inf, 0.0, (self.periods, some.size))
            rows.put(room, self.on[:, some], -(units.high - units.low)[some])
            rows.put(room, self.reserve[:, some], 1.0)
            self._output(room, some, self.part)
            rows.put(room, self.start[:, some], first[some])
            rows.put(room[:-1], self.stop[1:, some], second[some])

    def _output(self, rows: Ints, units: Ints, columns: Ints, sign: float = 1.0) -> None:
        """Put the output above the minimum of ``units`` into ``rows`` ``[n, len(units)]``."""
        position = np.full(self.units, -1)
        position[units] = np.arange(units.size)
        part = np.flatnonzero(position[self.part_unit] >= 0)
        self.rows.put(
            rows[:, position[self.part_unit[part]]], columns[:, part], sign * self.part_power[part]
        )

    def _ramps(self) -> None:
        rows, units = self.rows, self.instance.thermals
        spread = units.high - units.low
        before = np.where(units.on, units.power - units.low, 0.0)
        some = np.flatnonzero(units.ramp_up < spread)
        bound = np.zeros((self.periods, some.size))
        bound[0] = before[some]
        up = rows.block(-np.inf, bound, bound.shape)
        rows.put(up, self.on[:, some], -units.ramp_up[some])
        rows.put(up, self.reserve[:, some], 1.0)
        self._output(up, some, self.part)
        self._output(up[1:], some, self.part[:-1], -1.0)
        some = np.flatnonzero(units.ramp_down < spread)
        bound = np.zeros((self.periods, some.size))
        bound[0] = (units.ramp_down - before)[some]
        down = rows.block(-np.inf, bound, bound.shape)
        rows.put(down[1:], self.on[:-1, some], -units.ramp_down[some])
        self._output(down, some, self.part, -1.0)
        self._output(down[1:], some, self.part[:-1])

    def _system(self) -> None:
        rows, instance, units = self.rows, self.instance, self.instance.thermals
        self.balance = rows.block(instance.demand, instance.demand, (self.periods,))
        rows.put(self.balance[:, None], self.on, units.low)
        rows.put(self.balance[:, None], self.part, self.part_power)
        for column, sign in ((self.renewable, 1.0), (self.shed, 1.0), (self.surplus, -1.0)):
            rows.put(self.balance, column, sign)
        self.requirement = rows.block(instance.reserves, np.inf, (self.periods,))
        rows.put(self.requirement[:, None], self.reserve, 1.0)
        rows.put(self.requirement, self.short, 1.0)


def check_curves(instance: CommitmentInstance) -> None:
    """``ValueError`` names the unit whose cost curve is not convex or whose starts get cheaper."""
    units = instance.thermals
    width = np.diff(units.curve.power, axis=1)
    slope = units.curve.slope
    sunk = np.maximum.accumulate(slope, axis=1) - slope
    wrong = ((sunk > 1e-6 * (1.0 + np.abs(slope))) & (width > 0.0)).any(axis=1)
    if wrong.any():
        unit = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"unit {units.name[unit]}: marginal costs {slope[unit]} fall, not a convex curve"
        )
    wrong = (np.diff(units.start_cost, axis=1) < 0.0).any(axis=1)
    if wrong.any():
        unit = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"unit {units.name[unit]}: start costs {units.start_cost[unit]} fall with the time off"
        )

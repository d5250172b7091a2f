"""A commitment instance from any grid and its series: what day-ahead planning is asked.

The commitment model knows no network and no storages: it sees the sum of all loads, and units on a
copper plate. What a grid does not state is set as in the RTS-GMLC instances of PGLib-UC: starts and
stops happen at the minimum output, and nuclear units must run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Bools, Doubles, Ints
from ...simulators.power.files.pglib_uc import CommitmentInstance, Thermals
from ...simulators.power.grid import Curves, Grid
from ...simulators.power.series import Series

MUST_RUN = frozenset({"nuclear"})
LONG = 10_000
"""Hours in a state that are longer than any minimum or lag."""


@dataclass(frozen=True, slots=True)
class UnitState:
    """Units at the start of the plan, ``[U]`` each of the grid.

    Attributes:
        on: running; power: MW; hours: in this state so far.
    """

    on: Bools
    power: Doubles
    hours: Doubles


def committed_units(grid: Grid) -> Ints:
    """Indices of the units that a plan starts and stops, in the order of its thermals."""
    return np.flatnonzero(~grid.units.renewable & (grid.units.high > 0.0))


def from_grid(grid: Grid, series: Series, *, state: UnitState | None = None) -> CommitmentInstance:
    """The instance of a grid over the hours of a series.

    Args:
        grid: checked; thermals are its units that are not renewable and have an output.
        series: hourly load, availability and reserve.
        state: at the start; by default the cheapest units that cover the first hour, for longer
            than anything asks.

    Raises:
        ValueError: a series that is not hourly, series or state of another size than the grid.
    """
    units = grid.units
    renewable = np.flatnonzero(units.renewable)
    if series.step != 3600.0:
        raise ValueError(f"the series has steps of {series.step} s; a plan needs hours (3600 s)")
    if series.available.shape[1] != renewable.size:
        raise ValueError(
            f"the series has {series.available.shape[1]} renewable columns, grid {grid.name!r} has "
            f"{renewable.size} renewable units"
        )
    some = committed_units(grid)
    must_run = np.array([units.kind[unit] in MUST_RUN for unit in some.tolist()], dtype=bool)
    given = _usual_state(grid, series, some, must_run) if state is None else state
    if given.on.shape != (len(units.name),):
        raise ValueError(f"state has {given.on.shape[0]} units, the grid {len(units.name)}")
    low, ramp, on = units.low[some], units.ramp[some] * 60.0, given.on[some]
    hours = np.minimum(np.floor(given.hours[some] + 1e-9), LONG).astype(np.int64)
    fixed = ~units.curtailable[renewable]
    lag, cost = _starts(units.start_after[some], units.start_cost[some])
    return CommitmentInstance(
        name=grid.name,
        demand=series.load.sum(axis=1),
        reserves=series.reserve,
        thermals=Thermals(
            name=tuple(units.name[unit] for unit in some.tolist()),
            low=low,
            high=units.high[some],
            must_run=must_run,
            ramp_up=ramp,
            ramp_down=ramp,
            ramp_start=low.copy(),
            ramp_stop=low.copy(),
            min_up=_whole_hours(units.min_up[some]),
            min_down=_whole_hours(units.min_down[some]),
            on=on,
            power=np.where(on, given.power[some], 0.0),
            up=np.where(on, hours, 0),
            down=np.where(on, 0, hours),
            start_lag=lag,
            start_cost=cost,
            curve=Curves(power=units.curve.power[some], cost=units.curve.cost[some]),
        ),
        renewables=tuple(units.name[unit] for unit in renewable.tolist()),
        renewable_low=np.where(fixed, series.available, 0.0),
        renewable_high=series.available,
    )


def _usual_state(grid: Grid, series: Series, some: Ints, must_run: Bools) -> UnitState:
    """Units in the order of their average cost until they cover the first hour's net load."""
    units = grid.units
    net = float(series.load[0].sum() - series.available[0].sum())
    average = units.curve.cost[some, -1] / units.high[some]
    order = some[np.lexsort((average, ~must_run))]
    need = max(net, 0.0) + float(series.reserve[0])
    ahead = np.cumsum(units.high[order]) - units.high[order]
    running = order[(ahead < need) | np.isin(order, some[must_run])]
    room = (units.high - units.low)[running]
    left = net - units.low[running].sum() - (np.cumsum(room) - room)
    on, power = np.zeros(len(units.name), dtype=bool), np.zeros(len(units.name))
    on[running] = True
    power[running] = units.low[running] + np.clip(left, 0.0, room)
    return UnitState(on, power, np.full(on.shape, np.inf))


def _whole_hours(hours: Doubles) -> Ints:
    return np.maximum(np.ceil(hours - 1e-9), 1.0).astype(np.int64)


def _starts(after: Doubles, cost: Doubles) -> tuple[Doubles, Doubles]:
    """Lags in whole hours and costs; categories that never apply are taken out."""
    lag = np.maximum(np.ceil(after - 1e-9), 1.0)
    cost = np.maximum.accumulate(cost, axis=1)
    lags, costs = np.full_like(lag, np.inf), np.repeat(cost[:, -1:], lag.shape[1], axis=1)
    for unit in range(lag.shape[0]):
        # Of categories that begin at the same time the last, coldest one holds.
        last = [k for k in range(lag.shape[1]) if not (lag[unit, k + 1 :] <= lag[unit, k]).any()]
        lags[unit, : len(last)], costs[unit, : len(last)] = lag[unit, last], cost[unit, last]
    return lags, costs

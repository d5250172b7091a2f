"""PLEXOS's published days of RTS-GMLC: an independent commercial solver's prices, costs, flows.

Commitment, hydro and rooftop sun are taken from the solution, wind and sun from the day-ahead
series; the storage and the solar thermal unit are idle. PLEXOS rounds the load points of its heat
rate curves to 0.1 MW; with the same rounding its production costs come out to rounding error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...models.power.dcopf import DcOpf, Interval
from ...models.power.economic import merit_order
from ...simulators.interface import Bools, Doubles
from ...simulators.power.costs import CostTable
from ...simulators.power.files.plexos import PlexosSolution, read_solution
from ...simulators.power.files.rts_gmlc import read_grid
from ...simulators.power.files.rts_series import day_ahead
from ...simulators.power.grid import Curves, Grid
from ...simulators.power.network import Network
from ...simulators.power.series import bus_loads
from ..rows import Row
from .suites import Check

POINT_DECIMALS = 1
"""PLEXOS's load points have this many decimals, MW."""
COST, PRICE, FLOW, PRODUCTION = 1.0, 0.02, 1e-3, 0.5
"""$ of an hour, $/MWh, MW, $ of a unit's hour: what is accepted."""
CONGESTED = 0.01
"""$/MWh between the dearest and the cheapest bus from which an hour counts as congested."""


@dataclass(frozen=True, slots=True)
class Solved:
    """A PLEXOS solution and what it was solved for, ``[T, ...]`` each.

    Attributes:
        grid: with PLEXOS's load points.
        found: the solution.
        day: ``[T]`` the calendar day.
        on: ``[T, U]``; low, high: ``[T, U]`` MW; load: ``[T, B]`` MW.
        cost: ``[T]`` $ of production without starts, by PLEXOS's own figures.
        plain: ``[T, U]`` thermal units that run and do not start: their cost is production only.
        starting: ``[T, U]`` thermal units that start.
    """

    grid: Grid
    found: PlexosSolution
    day: NDArray[np.datetime64]
    on: Bools
    low: Doubles
    high: Doubles
    load: Doubles
    cost: Doubles
    plain: Bools
    starting: Bools


def plexos_checks(folders: Sequence[Path]) -> list[Check]:
    """A check per solution found in ``rts_gmlc/plexos_reference`` or ``plexos_reference``."""
    checks: list[Check] = []
    for folder in folders:
        for home in (folder / "rts_gmlc", folder):
            for variant, run in (("noTX", copper_plate), ("allTX", network)):
                solution = home / "plexos_reference" / variant
                if solution.is_dir():
                    name = f"PLEXOS {variant}"
                    checks.append(Check(name, partial(run, name, home, solution), 2.0))
    return checks


def copper_plate(name: str, home: Path, solution: Path) -> list[Row]:
    """Merit order against the solution without network."""
    solved = read(home, solution)
    grid, hours = solved.grid, solved.on.shape[0]
    cost, price_error = np.zeros(hours), np.zeros(hours)
    for hour in range(hours):
        done = merit_order(
            grid.units.curve,
            float(solved.load[hour].sum()),
            low=solved.low[hour],
            high=solved.high[hour],
            on=solved.on[hour],
        )
        cost[hour] = done.cost
        # A unit between two segments has an interval of prices; PLEXOS may take any in it.
        published = solved.found.price[hour]
        outside = np.maximum(done.price - published, published - done.next_price)
        price_error[hour] = max(float(outside.max()), 0.0)
    return [
        *production_rows(name, solved),
        *_per_day(name, "merit order, worst cost of an hour", solved, cost - solved.cost, COST),
        *_per_day(name, "merit order, worst price of an hour", solved, price_error, PRICE),
        _total(name, "merit order, cost of all hours", cost, solved),
    ]


def network(name: str, home: Path, solution: Path) -> list[Row]:
    """DC-OPF and DC power flow against the solution with network."""
    solved = read(home, solution)
    grid, found = solved.grid, solved.found
    wires = Network(grid, convention="x")
    opf = DcOpf(wires)
    hours = solved.on.shape[0]
    cost, price, flow = np.zeros(hours), np.zeros(hours), np.zeros(hours)
    congested = np.ptp(found.price, axis=1) > CONGESTED
    ours = np.zeros(hours, dtype=bool)
    for hour in range(hours):
        done = opf.solve(
            Interval(
                load=solved.load[hour],
                low=solved.low[hour],
                high=solved.high[hour],
                on=solved.on[hour],
            )
        )
        cost[hour] = done.cost
        price[hour] = np.abs(done.lmp - found.price[hour]).max()
        ours[hour] = np.ptp(done.lmp) > CONGESTED
        injection = wires.injection(
            found.generation[hour], load=solved.load[hour], dc=found.dc_flow[hour]
        )
        flow[hour] = np.abs(wires.flows(injection) - found.flow[hour]).max()
    buses, lines = found.price.shape[1], found.flow.shape[1]
    return [
        *production_rows(name, solved),
        *_per_day(name, "DC-OPF, worst cost of an hour", solved, cost - solved.cost, COST),
        *_per_day(name, f"DC-OPF, worst of {buses} prices x hours", solved, price, PRICE, "$/MWh"),
        *_per_day(
            name, f"worst of {lines} flows x hours, given generation", solved, flow, FLOW, "MW"
        ),
        Row.near(
            f"{name}: congested hours found",
            int((ours & congested).sum()),
            "1",
            int(congested.sum()),
            0,
        ),
        Row.near(f"{name}: hours congested in one only", int((ours != congested).sum()), "1", 0, 0),
        _total(name, "DC-OPF, cost of all hours", cost, solved),
    ]


def production_rows(name: str, solved: Solved) -> list[Row]:
    """Cost curves at PLEXOS's generation against the cost of every unit and hour."""
    table = CostTable(solved.grid.units.curve)
    ours = np.stack(
        [table.cost(*hour) for hour in zip(solved.found.generation, solved.on, strict=True)]
    )
    error = np.abs(ours - solved.found.cost)
    extra = (solved.found.cost - ours)[:, :, None] - solved.grid.units.start_cost[None]
    start_error = np.abs(extra).min(axis=2)[solved.starting]
    return [
        Row.near(
            f"{name}: worst production cost of {int(solved.plain.sum())} unit-hours",
            float(error[solved.plain].max()),
            "$",
            0.0,
            PRODUCTION,
        ),
        Row.near(
            f"{name}: starts that cost a hot, warm or cold start",
            int((start_error <= PRODUCTION).sum()),
            "1",
            int(solved.starting.sum()),
            0,
        ),
        Row.near(
            f"{name}: load less generation, worst hour",
            float(np.abs(solved.load.sum(axis=1) - solved.found.generation.sum(axis=1)).max()),
            "MW",
            0.0,
            FLOW,
        ),
    ]


def read(home: Path, solution: Path) -> Solved:
    """The solution of one variant, with the grid, boxes and loads it was solved for.

    Raises:
        DataError: a file that is missing or cannot be used.
    """
    grid = with_plexos_points(read_grid(home))
    found = read_solution(solution, grid)
    units, days = grid.units, found.times.astype("datetime64[D]")
    load, available = _series(home, grid, found)
    kind = np.array(units.kind)
    follows = np.isin(kind, ("wind", "pv"))
    given = np.isin(kind, ("hydro", "rtpv"))
    commitment = found.commitment > 0.5
    low = np.where(given, found.generation, np.where(follows, 0.0, units.low))
    high = np.where(given, found.generation, np.where(follows, available, units.high))
    thermal = commitment & ~units.renewable
    # Before the first hour, and across hours left out, it is not known who ran.
    known = np.diff(found.times, prepend=found.times[0]) == np.timedelta64(1, "h")
    ran = np.roll(thermal, 1, axis=0)
    plain = thermal & ran & known[:, None]
    table = CostTable(units.curve)
    ours = np.stack([table.cost(*hour) for hour in zip(found.generation, thermal, strict=True)])
    cost = np.where(plain, found.cost, ours).sum(axis=1)
    return Solved(
        grid=grid,
        found=found,
        day=days,
        on=commitment | given | follows,
        low=low,
        high=high,
        load=load,
        cost=cost,
        plain=plain,
        starting=thermal & ~ran & known[:, None],
    )


def with_plexos_points(grid: Grid) -> Grid:
    """The grid with the points of its cost curves rounded as PLEXOS does, marginal costs kept."""
    curve = grid.units.curve
    power = np.round(curve.power, POINT_DECIMALS)
    rise = np.cumsum(curve.slope * np.diff(power, axis=1), axis=1)
    cost = np.concatenate([curve.cost[:, :1], curve.cost[:, :1] + rise], axis=1)
    return replace(grid, units=replace(grid.units, curve=Curves(power, cost)))


def _series(home: Path, grid: Grid, found: PlexosSolution) -> tuple[Doubles, Doubles]:
    """Load ``[T, B]`` and available power ``[T, U]`` of the solution's hours."""
    load = np.zeros((found.times.shape[0], len(grid.buses.name)))
    available = np.zeros_like(found.generation)
    days, hours = found.times.astype("datetime64[D]"), found.times.astype("datetime64[h]")
    for day in np.unique(days):
        chosen = days == day
        hour = (hours[chosen] - day).astype(int)
        series = day_ahead(home, grid, _date(day))
        load[chosen] = bus_loads(grid, series.load[hour])
        available[np.ix_(chosen, grid.units.renewable)] = series.available[hour]
    return load, available


def _date(day: np.datetime64) -> date:
    return date.fromisoformat(str(day))


def _per_day(
    name: str, what: str, solved: Solved, error: Doubles, accepted: float, unit: str = "$"
) -> list[Row]:
    """The worst hour of every day."""
    rows: list[Row] = []
    for day in np.unique(solved.day):
        hours = error[solved.day == day]
        worst = float(np.abs(hours).max())
        rows.append(Row.near(f"{name} {day}: {what} ({len(hours)})", worst, unit, 0.0, accepted))
    return rows


def _total(name: str, what: str, cost: Doubles, solved: Solved) -> Row:
    total = float(solved.cost.sum())
    return Row.near(f"{name}: {what}", float(cost.sum()), "$", total, COST * solved.on.shape[0])

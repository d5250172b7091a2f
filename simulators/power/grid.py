"""A power system as plain arrays: what importers make, and simulators and models read.

====  ================================
B     buses
L     AC branches
H     controllable DC lines
U     units (every kind of generation)
R     storages
K     segments of a cost curve
====  ================================

Powers are MW, energies MWh, costs $ or $/h, impedances per unit on ``base`` MVA, angles rad, times
h unless a name says otherwise. Every array is float64 or int64, of the length of its table.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..interface import Bools, Doubles, Ints


@dataclass(frozen=True, slots=True)
class Buses:
    """``[B]`` each.

    Attributes:
        name: unique.
        load: nominal demand; with ``area`` it is also the split of an area's load.
        shunt: MW that the bus's shunt conductance consumes at nominal voltage.
        area: index into ``areas``.
        areas: names of the areas (load zones), in order.
    """

    name: tuple[str, ...]
    load: Doubles
    shunt: Doubles
    area: Ints
    areas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Branches:
    """AC branches in service, ``[L]`` each.

    Attributes:
        name: unique.
        start, end: bus indices; flow is positive from start to end.
        r, x: series impedance.
        tap: off-nominal turns ratio, 1 for lines; shift: phase shift.
        rate: continuous limit, ``inf`` where there is none.
        angle_low, angle_high: limits of the angle difference; ``-inf``/``inf`` where none.
        outage_rate: permanent outages per year, 0 where unknown; outage_hours: mean duration.
    """

    name: tuple[str, ...]
    start: Ints
    end: Ints
    r: Doubles
    x: Doubles
    tap: Doubles
    shift: Doubles
    rate: Doubles
    angle_low: Doubles
    angle_high: Doubles
    outage_rate: Doubles
    outage_hours: Doubles


@dataclass(frozen=True, slots=True)
class DcLines:
    """Lossless lines whose flow is chosen within ``-limit .. limit``, ``[H]`` each."""

    name: tuple[str, ...]
    start: Ints
    end: Ints
    limit: Doubles


@dataclass(frozen=True, slots=True)
class Curves:
    """Convex piecewise-linear production cost, ``[U, K + 1]`` each.

    ``power`` ascends from the minimum to the maximum output, ``cost`` is $/h there. Shorter curves
    repeat their last point. Between points cost is linear; it is the production path of all
    solvers.
    """

    power: Doubles
    cost: Doubles

    @property
    def slope(self) -> Doubles:
        """Marginal cost of every segment, $/MWh ``[U, K]``; of empty ones the one before it."""
        width = np.diff(self.power, axis=1)
        rise = np.diff(self.cost, axis=1)
        real = width > 0.0
        slope = np.divide(rise, width, out=np.zeros_like(rise), where=real)
        for column in range(1, slope.shape[1]):
            empty = ~real[:, column]
            slope[empty, column] = slope[empty, column - 1]
        return slope


@dataclass(frozen=True, slots=True)
class Units:
    """Generating units, ``[U]`` each unless said otherwise.

    Attributes:
        name: unique.
        bus: index.
        kind: technology in lower case: ``coal``, ``gas-cc``, ``gas-ct``, ``gas-st``, ``oil-ct``,
            ``oil-st``, ``nuclear``, ``hydro``, ``wind``, ``pv``, ``rtpv``, ``csp``, ``condenser``,
            ``thermal`` (unknown), ``renewable`` (unknown, follows a series).
        low, high: output while on.
        curve: production cost.
        quadratic: ``[U, 3]`` c2, c1, c0 of the cost it was made from, NaN where it was piecewise.
        ramp: MW/min up and down, ``inf`` where unlimited.
        min_up, min_down: hours.
        start_hours: ``[U, 3]`` duration of a hot, warm, cold start.
        start_after: ``[U, 3]`` hours off from which a start counts as hot, warm, cold (0 first).
        start_cost: ``[U, 3]`` $ of a hot, warm, cold start.
        mttf, mttr: hours; ``inf`` and 0 for units that do not fail.
        inertia: stored energy at nominal frequency, MW s (H in seconds times MVA).
        renewable: the output's upper limit follows a series (wind, sun, water).
        curtailable: its output may be set below what is available.
    """

    name: tuple[str, ...]
    bus: Ints
    kind: tuple[str, ...]
    low: Doubles
    high: Doubles
    curve: Curves
    quadratic: Doubles
    ramp: Doubles
    min_up: Doubles
    min_down: Doubles
    start_hours: Doubles
    start_after: Doubles
    start_cost: Doubles
    mttf: Doubles
    mttr: Doubles
    inertia: Doubles
    renewable: Bools
    curtailable: Bools


@dataclass(frozen=True, slots=True)
class Storages:
    """Storages, ``[R]`` each; power and energy at the terminals, losses when charging.

    Attributes:
        name, bus: as for units.
        power: largest charge and discharge; energy: capacity; initial: at the start.
        efficiency: of a round trip.
    """

    name: tuple[str, ...]
    bus: Ints
    power: Doubles
    energy: Doubles
    efficiency: Doubles
    initial: Doubles


def no_storages() -> Storages:
    """A table of none."""
    none = np.zeros(0)
    return Storages((), np.zeros(0, np.int64), none, none.copy(), none.copy(), none.copy())


def no_dc_lines() -> DcLines:
    """A table of none."""
    return DcLines((), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Grid:
    """One power system.

    Attributes:
        name: for messages.
        base: MVA of the per-unit system.
        reference: index of the angle reference bus.
        flexible: ``[B]`` MW of a bus's load that may be shifted (0: none).
    """

    name: str
    base: float
    buses: Buses
    branches: Branches
    dc_lines: DcLines
    units: Units
    storages: Storages
    reference: int
    flexible: Doubles

    def unit(self, name: str) -> int:
        """Index of a unit by name; ``KeyError`` names grid and unit."""
        if name not in self.units.name:
            raise KeyError(f"grid {self.name!r} has no unit named {name!r}")
        return self.units.name.index(name)


class GridError(ValueError):
    """A grid that cannot be: the message names table, row, field, value and what would do."""


def check_grid(grid: Grid) -> Grid:
    """The grid itself, if it is one.

    Raises:
        GridError: lengths that differ, numbers that are not finite, bus numbers out of range, a
            lower limit above the upper one, a cost curve that is not convex, does not ascend or
            does not reach from limit to limit, zero reactance, a negative rating, duplicate names.
    """
    tables = {
        "buses": (grid.buses, len(grid.buses.name)),
        "branches": (grid.branches, len(grid.branches.name)),
        "dc_lines": (grid.dc_lines, len(grid.dc_lines.name)),
        "units": (grid.units, len(grid.units.name)),
        "storages": (grid.storages, len(grid.storages.name)),
    }
    for table, (columns, rows) in tables.items():
        _check_table(grid.name, table, columns, rows)
    buses = len(grid.buses.name)
    for table, column, index in (
        ("branches", "start", grid.branches.start),
        ("branches", "end", grid.branches.end),
        ("dc_lines", "start", grid.dc_lines.start),
        ("dc_lines", "end", grid.dc_lines.end),
        ("units", "bus", grid.units.bus),
        ("storages", "bus", grid.storages.bus),
    ):
        for row in np.flatnonzero((index < 0) | (index >= buses)):
            _refuse(grid.name, table, int(row), column, index[row], f"a bus index below {buses}")
    if not 0 <= grid.reference < buses:
        raise GridError(f"grid {grid.name!r}: reference bus {grid.reference} is none of {buses}")
    if grid.flexible.shape != (buses,):
        raise GridError(f"grid {grid.name!r}: flexible has {grid.flexible.shape}, not ({buses},)")
    _check_values(grid)
    return grid


_UNBOUNDED = {
    "branches": {"rate", "angle_low", "angle_high"},
    "units": {"ramp", "mttf", "quadratic"},
}
"""Columns that may hold infinities (or NaN: ``quadratic``)."""


def _check_table(grid: str, table: str, columns: Any, rows: int) -> None:
    for field in fields(columns):
        value = getattr(columns, field.name)
        if field.name == "areas" or isinstance(value, Curves):
            continue
        if len(value) != rows:
            raise GridError(
                f"grid {grid!r}: {table}.{field.name} has {len(value)} rows, not {rows}"
            )
        if isinstance(value, tuple) or field.name in _UNBOUNDED.get(table, ()):
            continue
        finite = np.isfinite(value)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            _refuse(grid, table, row, field.name, value[row], "a finite number")
    names: tuple[str, ...] = getattr(columns, "name")  # noqa: B009
    if len(set(names)) != rows:
        twice = next(name for name in names if names.count(name) > 1)
        raise GridError(f"grid {grid!r}: {table} has two rows named {twice!r}")


def _check_values(grid: Grid) -> None:
    units, branches, storages = grid.units, grid.branches, grid.storages
    curve = units.curve
    if curve.power.shape != curve.cost.shape or curve.power.shape[0] != len(units.name):
        shapes = f"{curve.power.shape} and {curve.cost.shape}"
        raise GridError(f"grid {grid.name!r}: curves are {shapes} for {len(units.name)} units")
    for column, values in (("curve.power", curve.power), ("curve.cost", curve.cost)):
        for row in np.flatnonzero(~np.isfinite(values).all(axis=1)):
            _refuse(grid.name, "units", int(row), column, values[row], "finite numbers", units)
    ends = np.stack([units.low, units.high], axis=1)
    unmet = ~np.isclose(curve.power[:, [0, -1]], ends, rtol=1e-9, atol=1e-9)
    steps = np.diff(curve.power, axis=1)
    slope = curve.slope
    # An empty first segment has no slope of its own; it must not count as a fall or rise.
    risen = np.maximum.accumulate(np.where(steps > 0.0, slope, -np.inf), axis=1)
    sunk = np.where(steps > 0.0, risen, slope) - slope
    wrong = (
        ("branches", "x", branches.x, branches.x == 0.0, "a reactance other than 0"),
        ("branches", "rate", branches.rate, ~(branches.rate >= 0.0), "a limit of at least 0"),
        ("units", "low", units.low, units.low > units.high, "at most the upper limit"),
        ("units", "ramp", units.ramp, ~(units.ramp >= 0.0), "a rate of at least 0"),
        ("units", "curve.power", curve.power, (steps < 0.0).any(axis=1), "ascending points"),
        ("units", "curve.power", curve.power, unmet.any(axis=1), "points from low to high"),
        (
            "units",
            "curve.cost",
            curve.cost,
            ((sunk > 1e-6 * (1.0 + np.abs(slope))) & (steps > 0.0)).any(axis=1),
            "marginal costs that do not fall (a convex curve)",
        ),
        (
            "storages",
            "efficiency",
            storages.efficiency,
            ~((storages.efficiency > 0.0) & (storages.efficiency <= 1.0)),
            "a share in (0, 1]",
        ),
        (
            "storages",
            "initial",
            storages.initial,
            ~((storages.initial >= 0.0) & (storages.initial <= storages.energy)),
            "between 0 and the capacity",
        ),
    )
    for table, column, values, refused, wanted in wrong:
        for row in np.flatnonzero(refused):
            _refuse(grid.name, table, int(row), column, values[row], wanted, getattr(grid, table))


def _refuse(
    grid: str, table: str, row: int, column: str, value: object, wanted: str, rows: Any = None
) -> None:
    name = f" ({rows.name[row]})" if rows is not None else ""
    raise GridError(
        f"grid {grid!r}: {table} row {row}{name}, field {column!r}: "
        f"found {value}, expected {wanted}"
    )

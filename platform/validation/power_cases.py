"""Grids that validation brings along: PJM's five buses, two buses, random meshed ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...simulators.interface import Doubles, Ints
from ...simulators.power.curves import chords
from ...simulators.power.grid import (
    Branches,
    Buses,
    Curves,
    Grid,
    Units,
    check_grid,
    no_dc_lines,
    no_storages,
)
from ...simulators.power.network import Network


@dataclass(frozen=True, slots=True)
class Lines:
    """AC branches by what a DC power flow needs, ``[L]`` each; as in ``grid.Branches``."""

    start: Ints
    end: Ints
    r: Doubles
    x: Doubles
    rate: Doubles
    tap: Doubles | None = None
    shift: Doubles | None = None


def bare_grid(name: str, load: Doubles, lines: Lines, bus: Ints, curve: Curves) -> Grid:
    """A grid of buses with ``load``, lines, and units at ``bus`` with ``curve``; nothing else."""
    buses, count, units = load.shape[0], lines.x.shape[0], bus.shape[0]
    none, unlimited, off = np.zeros(count), np.full(count, np.inf), np.zeros(units)
    return check_grid(
        Grid(
            name=name,
            base=100.0,
            buses=Buses(
                name=tuple(str(row + 1) for row in range(buses)),
                load=load,
                shunt=np.zeros(buses),
                area=np.zeros(buses, dtype=np.int64),
                areas=("1",),
            ),
            branches=Branches(
                name=tuple(
                    f"{row + 1}: {one + 1}-{other + 1}"
                    for row, (one, other) in enumerate(
                        zip(lines.start.tolist(), lines.end.tolist(), strict=True)
                    )
                ),
                start=lines.start,
                end=lines.end,
                r=lines.r,
                x=lines.x,
                tap=np.ones(count) if lines.tap is None else lines.tap,
                shift=none if lines.shift is None else lines.shift,
                rate=lines.rate,
                angle_low=-unlimited,
                angle_high=unlimited,
                outage_rate=none,
                outage_hours=none,
            ),
            dc_lines=no_dc_lines(),
            units=Units(
                name=tuple(f"unit {row + 1}" for row in range(units)),
                bus=bus,
                kind=("thermal",) * units,
                low=curve.power[:, 0],
                high=curve.power[:, -1],
                curve=curve,
                quadratic=np.full((units, 3), np.nan),
                ramp=np.full(units, np.inf),
                min_up=off,
                min_down=off,
                start_hours=np.zeros((units, 3)),
                start_after=np.zeros((units, 3)),
                start_cost=np.zeros((units, 3)),
                mttf=np.full(units, np.inf),
                mttr=off,
                inertia=off,
                renewable=np.zeros(units, dtype=bool),
                curtailable=np.zeros(units, dtype=bool),
            ),
            storages=no_storages(),
            reference=0,
            flexible=np.zeros(buses),
        )
    )


def straight(high: Doubles, price: Doubles) -> Curves:
    """Curves from 0 to ``high`` MW at one price each."""
    return Curves(np.stack([0.0 * high, high], 1), np.stack([0.0 * high, price * high], 1))


def pjm_five() -> Grid:
    """The 5-bus system of PJM (Li and Bo 2010) with the limits of PGLib's ``case5_pjm``."""
    ends = np.array([[1, 2], [1, 4], [1, 5], [2, 3], [3, 4], [4, 5]]) - 1
    reactance = np.array([0.0281, 0.0304, 0.0064, 0.0108, 0.0297, 0.0297])
    rate = np.array([400.0, 426.0, 426.0, 426.0, 426.0, 240.0])
    return bare_grid(
        "PJM-5",
        np.array([0.0, 300.0, 300.0, 400.0, 0.0]),
        Lines(ends[:, 0], ends[:, 1], reactance / 10.0, reactance, rate),
        np.array([1, 1, 3, 4, 5]) - 1,
        straight(np.array([40.0, 170.0, 520.0, 200.0, 600.0]), np.array([14.0, 15, 30, 40, 10])),
    )


def two_buses(limit: float) -> Grid:
    """A cheap unit (10 $/MWh) and a dear one (30 $/MWh), 20 and 100 MW load, one line between."""
    one = np.array([0])
    line = Lines(one, one + 1, np.array([0.01]), np.array([0.1]), np.array([limit]))
    curve = straight(np.array([200.0, 200.0]), np.array([10.0, 30.0]))
    return bare_grid("two buses", np.array([20.0, 100.0]), line, np.array([0, 1]), curve)


def one_line(demand: float, quadratic: Doubles, low: Doubles, high: Doubles) -> Network:
    """All units at one end of an unlimited line, all demand at the other."""
    one, count = np.array([0]), low.shape[0]
    line = Lines(one, one + 1, np.array([0.01]), np.array([0.1]), np.array([np.inf]))
    curve = chords(quadratic, low, high, 40)
    load = np.array([0.0, demand])
    grid = bare_grid("one line", load, line, np.zeros(count, dtype=np.int64), curve)
    return Network(replace(grid, units=replace(grid.units, quadratic=quadratic)), convention="x")


def meshed(seed: int, buses: int = 40, *, rate: float = 60.0) -> Grid:
    """A random meshed grid with taps, small phase shifts, and units with quadratic costs."""
    rng = np.random.default_rng(seed)
    extra, count = buses // 2, buses // 2
    start = np.concatenate([[rng.integers(bus) for bus in range(1, buses)], np.zeros(extra, int)])
    end = np.concatenate([np.arange(1, buses), np.zeros(extra, dtype=int)])
    for row in range(buses - 1, buses - 1 + extra):
        start[row], end[row] = rng.choice(buses, 2, replace=False)
    lines = start.shape[0]
    reactance = rng.uniform(0.02, 0.3, lines)
    wired = Lines(
        start=start.astype(np.int64),
        end=end.astype(np.int64),
        r=reactance * rng.uniform(0.05, 0.3, lines),
        x=reactance,
        rate=np.full(lines, rate),
        tap=np.where(rng.random(lines) < 0.3, rng.uniform(0.9, 1.1, lines), 1.0),
        shift=np.where(rng.random(lines) < 0.2, rng.uniform(-0.02, 0.02, lines), 0.0),
    )
    coefficients = (rng.uniform(0.005, 0.05, count), rng.uniform(10.0, 50.0, count))
    quadratic = np.stack([*coefficients, rng.uniform(0.0, 300.0, count)], 1)
    high = rng.uniform(20.0, 150.0, count)
    low = high * rng.uniform(0.0, 0.2, count)
    load = rng.uniform(0.0, 1.0, buses)
    load *= 0.6 * high.sum() / load.sum()
    bus = rng.integers(0, buses, count)
    grid = bare_grid(f"meshed {seed}", load, wired, bus, chords(quadratic, low, high, 6))
    return replace(grid, units=replace(grid.units, quadratic=quadratic))

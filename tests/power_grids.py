"""Small and random grids and cost curves for the tests of the power domain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fairlead.simulators.power.grid import (
    Branches,
    Buses,
    Curves,
    DcLines,
    Grid,
    Storages,
    Units,
    check_grid,
)


def small_grid(
    buses: int,
    lines: list[tuple[int, int, float]],
    *,
    units: list[tuple[int, float, float]] = [],  # noqa: B006 (only read)
    dc: list[tuple[int, int, float]] = [],  # noqa: B006
    load: Any = None,
    rate: float = np.inf,
) -> Grid:
    """A grid from (start, end, x) lines, (bus, high, price) units and (start, end, limit) DC."""
    count, number = len(lines), len(units)
    ones, zeros = np.ones(count), np.zeros(count)
    high = np.array([unit[1] for unit in units])
    price = np.array([unit[2] for unit in units])
    flat = np.zeros(number)
    return check_grid(
        Grid(
            name="small",
            base=100.0,
            buses=Buses(
                name=tuple(f"bus{row}" for row in range(buses)),
                load=np.zeros(buses) if load is None else np.asarray(load, dtype=float),
                shunt=np.zeros(buses),
                area=np.zeros(buses, np.int64),
                areas=("all",),
            ),
            branches=Branches(
                name=tuple(f"line{row}" for row in range(count)),
                start=np.array([line[0] for line in lines], dtype=np.int64),
                end=np.array([line[1] for line in lines], dtype=np.int64),
                r=0.1 * np.array([line[2] for line in lines]),
                x=np.array([line[2] for line in lines]),
                tap=ones,
                shift=zeros,
                rate=rate * ones,
                angle_low=-np.inf * ones,
                angle_high=np.inf * ones,
                outage_rate=zeros,
                outage_hours=zeros,
            ),
            dc_lines=DcLines(
                name=tuple(f"dc{row}" for row in range(len(dc))),
                start=np.array([line[0] for line in dc], dtype=np.int64),
                end=np.array([line[1] for line in dc], dtype=np.int64),
                limit=np.array([line[2] for line in dc]),
            ),
            units=Units(
                name=tuple(f"unit{row}" for row in range(number)),
                bus=np.array([unit[0] for unit in units], dtype=np.int64),
                kind=("thermal",) * number,
                low=flat,
                high=high,
                curve=Curves(np.stack([flat, high], 1), np.stack([flat, price * high], 1)),
                quadratic=np.full((number, 3), np.nan),
                ramp=np.full(number, np.inf),
                min_up=flat,
                min_down=flat,
                start_hours=np.zeros((number, 3)),
                start_after=np.zeros((number, 3)),
                start_cost=np.zeros((number, 3)),
                mttf=np.full(number, np.inf),
                mttr=flat,
                inertia=flat,
                renewable=np.zeros(number, bool),
                curtailable=np.zeros(number, bool),
            ),
            storages=Storages((), np.zeros(0, np.int64), *(np.zeros(0) for _ in range(4))),
            reference=0,
            flexible=np.zeros(buses),
        )
    )


def random_grid(buses: int, extra: int, *, seed: int = 0) -> Grid:
    """A random tree with ``extra`` more lines, taps and phase shifts."""
    rng = np.random.default_rng(seed)
    lines = [
        (int(rng.integers(bus)), bus, float(rng.uniform(0.02, 0.3))) for bus in range(1, buses)
    ]
    while len(lines) < buses - 1 + extra:
        one, other = rng.choice(buses, 2, replace=False).tolist()
        lines.append((one, other, float(rng.uniform(0.02, 0.3))))
    grid = small_grid(buses, lines)
    count = len(lines)
    taps = replace(
        grid.branches,
        tap=np.where(rng.random(count) < 0.3, rng.uniform(0.9, 1.1, count), 1.0),
        shift=np.where(rng.random(count) < 0.2, rng.uniform(-0.1, 0.1, count), 0.0),
    )
    return replace(grid, branches=taps)


def random_curves(rng, count, segments):
    width = rng.uniform(1.0, 50.0, (count, segments)) * (rng.random((count, segments)) < 0.8)
    width[:, 0] += 1.0
    # Empty segments stand at the end, as curves of fewer points repeat their last one.
    width = -np.sort(-width, axis=1)
    slope = np.sort(rng.uniform(5.0, 80.0, (count, segments)), axis=1)
    power = rng.uniform(0.0, 20.0, (count, 1)) + np.cumsum(np.pad(width, ((0, 0), (1, 0))), 1)
    cost = rng.uniform(0.0, 400.0, (count, 1)) + np.cumsum(
        np.pad(width * slope, ((0, 0), (1, 0))), 1
    )
    return Curves(power, cost)

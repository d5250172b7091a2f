"""Systems of any size from a seed: no file is needed, and none is read.

Technologies, costs, ramps and outages are those of RTS-GMLC in round numbers, with some spread from
unit to unit. The cost of a MWh hardly depends on the size (a little higher in systems too small for
a nuclear unit), so results for 10 and for 600 agents can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..interface import Doubles, Ints
from .curves import stack
from .generated_network import mesh, place, ratings
from .grid import (
    Branches,
    Buses,
    Curves,
    Grid,
    Storages,
    Units,
    check_grid,
    no_dc_lines,
)

PEAK = 0.84
"""Nominal load as a share of the thermal capacity."""

_SITUATIONS = 12
_EFFICIENCY = 0.85


@dataclass(frozen=True, slots=True)
class Technology:
    """What the units of one kind have in common.

    Attributes:
        share: of all agents; size: MW, from and to.
        low: minimum output as a share of capacity; fuel: $/MMBtu.
        heat: MMBtu/MWh, average up to the minimum, then of three blocks.
        ramp: share of capacity per minute; up, down: hours.
        start: hours of a hot, warm, cold start; after: hours off; price: $ per MW of capacity.
        mttf, mttr: hours; inertia: s.
    """

    share: float
    size: tuple[float, float]
    low: float = 0.0
    fuel: float = 0.0
    heat: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    ramp: float = 1.0
    up: float = 0.0
    down: float = 0.0
    start: tuple[float, float, float] = (0.0, 0.0, 0.0)
    after: tuple[float, float, float] = (0.0, 0.0, 0.0)
    price: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mttf: float = np.inf
    mttr: float = 0.0
    inertia: float = 0.0


TECHNOLOGIES = {
    "coal": Technology(
        share=0.14,
        size=(150.0, 400.0),
        low=0.4,
        fuel=2.1,
        heat=(11.5, 9.0, 10.0, 11.2),
        ramp=0.015,
        up=8.0,
        down=6.0,
        start=(2.0, 4.0, 8.0),
        after=(0.0, 10.0, 48.0),
        price=(45.0, 65.0, 95.0),
        mttf=1150.0,
        mttr=60.0,
        inertia=3.0,
    ),
    "gas-cc": Technology(
        share=0.2,
        size=(150.0, 400.0),
        low=0.45,
        fuel=3.9,
        heat=(7.4, 5.9, 6.8, 8.2),
        ramp=0.02,
        up=6.0,
        down=4.0,
        start=(0.5, 1.0, 2.0),
        after=(0.0, 4.0, 24.0),
        price=(35.0, 50.0, 79.0),
        mttf=967.0,
        mttr=33.0,
        inertia=5.0,
    ),
    "gas-ct": Technology(
        share=0.235,
        size=(25.0, 100.0),
        low=0.4,
        fuel=3.9,
        heat=(12.8, 8.0, 8.8, 10.0),
        ramp=0.07,
        up=2.0,
        down=2.0,
        start=(0.25, 0.25, 0.25),
        after=(0.0, 2.0, 8.0),
        price=(32.0, 60.0, 80.0),
        mttf=969.0,
        mttr=31.0,
        inertia=2.8,
    ),
    "nuclear": Technology(
        share=0.015,
        size=(600.0, 1000.0),
        low=0.6,
        fuel=0.81,
        heat=(10.0, 10.0, 10.0, 10.0),
        ramp=0.01,
        up=24.0,
        down=24.0,
        start=(24.0, 24.0, 24.0),
        price=(100.0, 100.0, 100.0),
        mttf=1100.0,
        mttr=150.0,
        inertia=5.0,
    ),
    "hydro": Technology(
        share=0.1, size=(30.0, 150.0), mttf=1980.0, mttr=20.0, inertia=3.5, ramp=0.5
    ),
    "wind": Technology(share=0.14, size=(60.0, 300.0)),
    "pv": Technology(share=0.12, size=(20.0, 150.0)),
    "storage": Technology(share=0.05, size=(25.0, 100.0)),
}
"""Round numbers after RTS-GMLC; shares add up to 1."""

RENEWABLE = ("hydro", "wind", "pv")


def generate(units: int, *, seed: int, network: bool = True) -> Grid:
    """A system of ``units`` agents: generating units and, about one in twenty, storages.

    Nominal load is 84 % of the thermal capacity and ``series`` of ``generated_series`` never exceed
    it by more than 5 %, so that firm capacity covers load and reserve at every moment. There is a
    bus for every two agents and an area for every fifty (up to eight); with ``network`` off, all is
    at one bus.

    Args:
        units: 10 to 2,000.
        seed: systems of the same seed and size are equal.
        network: with lines, a few of which bind at peak load.

    Raises:
        ValueError: ``units`` out of range.
    """
    if not 10 <= units <= 2000:
        raise ValueError(f"units = {units}: from 10 to 2000 are generated")
    rng = np.random.default_rng([seed, units])
    kinds = _mix(units)
    buses = max(4, units // 2) if network else 1
    areas = int(np.clip(units // 50, 1, 8)) if network else 1
    position, area = place(buses, areas, rng)
    sites = rng.integers(buses, size=units)
    table = _units([kind for kind in kinds if kind != "storage"], rng)
    count = len(table.name)
    table = replace(table, bus=sites[:count])
    firm = float(table.high[~table.renewable].sum())
    load = rng.lognormal(0.0, 0.6, buses) * (rng.random(buses) < 0.85)
    # No area goes without load.
    load[np.unique(area, return_index=True)[1]] += 0.5
    load *= PEAK * firm / load.sum()
    grid = Grid(
        name=f"generated-{units}-{seed}",
        base=100.0,
        buses=Buses(
            name=tuple(str(bus + 1) for bus in range(buses)),
            load=load,
            shunt=np.zeros(buses),
            area=area,
            areas=tuple(str(name + 1) for name in range(areas)),
        ),
        branches=mesh(position, rng) if network else _no_branches(),
        dc_lines=no_dc_lines(),
        units=table,
        storages=_storages(sites[count:], rng),
        reference=0,
        flexible=np.zeros(buses),
    )
    if network:
        rate = ratings(grid.branches, _cheapest(grid, rng), _all_on(grid, rng), rng)
        grid = replace(grid, branches=replace(grid.branches, rate=rate))
    return check_grid(grid)


def _mix(units: int) -> list[str]:
    """Kind of every agent, by largest remainder of the shares."""
    share = np.array([technology.share for technology in TECHNOLOGIES.values()]) * units
    count = np.floor(share + 1e-9).astype(np.int64)
    rest = np.argsort(count - share, kind="stable")[: units - int(count.sum())]
    count[rest] += 1
    return [kind for kind, many in zip(TECHNOLOGIES, count, strict=True) for _ in range(many)]


def _units(kinds: list[str], rng: np.random.Generator) -> Units:
    of = [TECHNOLOGIES[kind] for kind in kinds]
    count = len(kinds)
    span = np.array([technology.size for technology in of])
    high = np.round(rng.uniform(span[:, 0], span[:, 1]), 1)
    low = np.round(np.array([technology.low for technology in of]) * high, 1)
    column = {
        name: np.array([getattr(technology, name) for technology in of], dtype=np.float64)
        for name in ("ramp", "up", "down", "start", "after", "price", "mttf", "mttr", "inertia")
    }
    number: dict[str, int] = {}
    names: list[str] = []
    for kind in kinds:
        number[kind] = number.get(kind, 0) + 1
        names.append(f"{kind}-{number[kind]}")
    renewable = np.isin(kinds, RENEWABLE)
    return Units(
        name=tuple(names),
        bus=np.zeros(count, dtype=np.int64),
        kind=tuple(kinds),
        low=low,
        high=high,
        curve=_curves(of, low, high, rng),
        quadratic=np.full((count, 3), np.nan),
        ramp=column["ramp"] * high,
        min_up=column["up"],
        min_down=column["down"],
        start_hours=column["start"],
        start_after=column["after"],
        start_cost=column["price"] * high[:, None],
        mttf=column["mttf"],
        mttr=column["mttr"],
        inertia=column["inertia"] * high / 0.9,
        renewable=renewable,
        curtailable=renewable.copy(),
    )


def _curves(of: list[Technology], low: Doubles, high: Doubles, rng: np.random.Generator) -> Curves:
    """Three blocks of equal width above the minimum; free units get one flat line."""
    heat = np.array([technology.heat for technology in of])
    fuel = np.array([technology.fuel for technology in of])
    rate = heat * fuel[:, None] * rng.uniform(0.9, 1.1, len(of))[:, None]
    power = low[:, None] + (high - low)[:, None] * np.array([0.0, 1.0, 2.0, 3.0]) / 3.0
    power[:, -1] = high
    blocks = rate[:, 1:] * np.diff(power, axis=1)
    base = rate[:, :1] * low[:, None]
    cost = np.concatenate([base, base + np.cumsum(blocks, axis=1)], axis=1)
    return stack(list(zip(power, cost, strict=True)))


def _storages(sites: Ints, rng: np.random.Generator) -> Storages:
    count = len(sites)
    low, high = TECHNOLOGIES["storage"].size
    power = np.round(rng.uniform(low, high, count), 1)
    energy = power * 4.0
    return Storages(
        name=tuple(f"storage-{row + 1}" for row in range(count)),
        bus=sites,
        power=power,
        energy=energy,
        efficiency=np.full(count, _EFFICIENCY),
        initial=energy / 2.0,
    )


def _no_branches() -> Branches:
    empty, index = np.zeros(0), np.zeros(0, dtype=np.int64)
    return Branches((), index, index, *(empty,) * 9)


def _cheapest(grid: Grid, rng: np.random.Generator) -> Doubles:
    """``[S, B]`` balanced injections: merit order at loads of 80 to 100 % in changing weather."""
    units, buses = grid.units, len(grid.buses.name)
    order = np.argsort(units.curve.cost[:, -1] / units.high, kind="stable")
    injection = np.zeros((_SITUATIONS, buses))
    for row in range(_SITUATIONS):
        weather = np.where(units.renewable, rng.uniform(0.0, 0.9, len(units.name)), 1.0)
        limit = (units.high * weather)[order]
        demand = grid.buses.load * rng.uniform(0.8, 1.0)
        before = np.cumsum(limit) - limit
        output = np.clip(demand.sum() - before, 0.0, limit)
        injection[row] = np.bincount(units.bus[order], weights=output, minlength=buses) - demand
    return injection


def _all_on(grid: Grid, rng: np.random.Generator) -> Doubles:
    """``[S, B]`` balanced injections: every thermal unit on, in equal shares of what is left."""
    units, buses = grid.units, len(grid.buses.name)
    low = float(units.low.sum())
    range_up = float((units.high - units.low)[~units.renewable].sum())
    injection = np.zeros((_SITUATIONS, buses))
    for row in range(_SITUATIONS):
        demand = grid.buses.load * rng.uniform(0.8, 1.0)
        weather = units.high * units.renewable * rng.uniform(0.0, 0.9, len(units.name))
        # Wind and sun give way where minimum outputs leave no room for them.
        weather *= min(1.0, (float(demand.sum()) - low) / float(weather.sum()))
        up = (float(demand.sum()) - low - float(weather.sum())) / range_up
        output = np.where(units.renewable, weather, units.low + (units.high - units.low) * up)
        injection[row] = np.bincount(units.bus, weights=output, minlength=buses) - demand
    return injection

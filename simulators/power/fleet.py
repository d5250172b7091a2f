"""The agents of a grid: which units, storages and loads take set points, as arrays over agents.

Units that can be dispatched or curtailed come first, then storages (batteries of the scenario among
them), then flexible loads, which are storages of their own bus's demand: no losses, as much energy
as may be owed or advanced.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..interface import Bools, Doubles, Ints
from .grid import Curves, Grid, Storages, Units

BATTERY = (50.0, 4.0, 0.85)
"""MW, hours and round-trip efficiency of a scenario's additional batteries."""

NORMAL = 0.6
"""Share of the firm capacity at which the normal hourly cost is taken."""

SHIFT_HOURS = 2.0
"""How long a flexible load can be advanced or owed at full power."""

REST = 1e-3
"""Participation of curtailable units in the balance, as a share of what others would take.

They give way only when nobody else can: wasted wind is worse than a warm boiler.
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Agents of a grid, ``[A]`` each unless said otherwise.

    Attributes:
        name: of the unit, storage or ``load <bus>``.
        groups: technologies present, alphabetical; ``group_of`` indexes them.
        bus: index.
        low, high: MW while on; storages from full charge (negative) to full discharge.
        capacity: MW that features are shares of.
        ramp: MW per interval.
        curve: production cost; storages and loads offer energy at ``stored_value`` and buy it at
            what is left of that after their losses.
        unit: index of the unit in the grid, -1 for storages and loads.
        thermal: bool, is committed: starts, stops, has a minimum.
        curtailed: bool, its upper limit follows a series; ``column`` is its column there, else -1.
        store: bool; ``energy`` MWh, ``initial`` MWh and one-way ``efficiency`` of charging.
        part: participation per MW of the agent's box.
        normal: $/h of meeting :data:`NORMAL` of the firm capacity, the scale of costs.
        stored_value: $/MWh of stored energy, the normal cost of a MWh.
        fixed: ``[V]`` columns of the series whose units take no set point; fixed_bus: their buses.
    """

    name: tuple[str, ...]
    groups: tuple[str, ...]
    group_of: Ints
    bus: Ints
    low: Doubles
    high: Doubles
    capacity: Doubles
    ramp: Doubles
    curve: Curves
    unit: Ints
    thermal: Bools
    curtailed: Bools
    column: Ints
    store: Bools
    energy: Doubles
    initial: Doubles
    efficiency: Doubles
    part: Doubles
    normal: float
    stored_value: float
    fixed: Ints
    fixed_bus: Ints

    @property
    def size(self) -> int:
        """Number of agents A."""
        return len(self.name)


def from_zero(grid: Grid) -> Grid:
    """The grid with curtailable units that can be set to 0, whatever minimum its data give.

    Their first line of cost is continued; a unit of one output gets a flat one.
    """
    units = grid.units
    raised = units.renewable & units.curtailable & (units.low > 0.0)
    if not raised.any():
        return grid
    power, cost = units.curve.power.copy(), units.curve.cost.copy()
    width, rise = np.diff(power, axis=1), np.diff(cost, axis=1)
    rows = np.arange(len(units.name))
    first = (width > 0.0).argmax(axis=1)
    slope = rise[rows, first] / np.where(width[rows, first] > 0.0, width[rows, first], 1.0)
    cost[raised, 0] -= (slope * units.low)[raised]
    power[raised, 0] = 0.0
    low = np.where(raised, 0.0, units.low)
    return replace(grid, units=replace(units, low=low, curve=Curves(power, cost)))


def with_stores(grid: Grid, *, batteries: int, flexible: float) -> Grid:
    """The grid with a scenario's batteries and flexible loads among its storages."""
    if not batteries and not flexible and not grid.flexible.any():
        return grid
    return replace(grid, storages=_stores(grid, batteries, flexible))


def fleet_of(grid: Grid, *, interval: float) -> Fleet:
    """The agents of ``grid`` for dispatches every ``interval`` seconds."""
    units = grid.units
    acting = np.flatnonzero((units.high > 0.0) & (~units.renewable | units.curtailable))
    stores = grid.storages
    count = len(stores.name)
    kinds = [units.kind[u] for u in acting.tolist()]
    kinds += ["flexible" if name.startswith("load ") else "storage" for name in stores.name]
    groups = tuple(sorted(set(kinds)))
    column = np.where(units.renewable, np.cumsum(units.renewable) - 1, -1)
    still = np.flatnonzero(units.renewable & ~units.curtailable)
    high = np.concatenate([units.high[acting], stores.power])
    low = np.concatenate([units.low[acting], -stores.power])
    renewable = np.concatenate([units.renewable[acting], np.zeros(count, bool)])
    low[renewable] = 0.0
    ramp = np.minimum(units.ramp[acting] * interval / 60.0, units.high[acting])
    ramp[units.renewable[acting]] = units.high[acting][units.renewable[acting]]
    store = np.concatenate([np.zeros(acting.size, bool), np.ones(count, bool)])
    normal, value = _normal_cost(units, acting[~units.renewable[acting]])
    return Fleet(
        name=(*(units.name[u] for u in acting.tolist()), *stores.name),
        groups=groups,
        group_of=np.array([groups.index(kind) for kind in kinds], np.int64),
        bus=np.concatenate([units.bus[acting], stores.bus]),
        low=low,
        high=high,
        capacity=np.maximum(high, -low),
        ramp=np.concatenate([ramp, 2.0 * stores.power]),
        curve=_curves(grid, acting, stores, value),
        unit=np.concatenate([acting, np.full(count, -1)]),
        thermal=~renewable & ~store,
        curtailed=renewable,
        column=np.concatenate([np.where(units.renewable, column, -1)[acting], np.full(count, -1)]),
        store=store,
        energy=np.concatenate([np.zeros(acting.size), stores.energy]),
        initial=np.concatenate([np.zeros(acting.size), stores.initial]),
        efficiency=np.concatenate([np.ones(acting.size), stores.efficiency]),
        part=np.where(renewable, REST, 1.0),
        normal=normal,
        stored_value=value,
        fixed=column[still],
        fixed_bus=units.bus[still],
    )


def _stores(grid: Grid, batteries: int, flexible: float) -> Storages:
    """Storages of the grid, the scenario's batteries, and flexible loads, in this order."""
    load = grid.buses.load
    sites = np.argsort(-load, kind="stable")[:batteries]
    power, hours, efficiency = BATTERY
    shifted = grid.flexible + flexible * load
    # Small loads are not worth an agent.
    ends = np.flatnonzero(shifted > max(1.0, 1e-3 * float(load.sum()) * flexible))
    own = grid.storages
    battery = np.full(sites.size, power)
    return Storages(
        name=(
            *own.name,
            *(f"battery {grid.buses.name[bus]}" for bus in sites.tolist()),
            *(f"load {grid.buses.name[bus]}" for bus in ends.tolist()),
        ),
        bus=np.concatenate([own.bus, sites, ends]).astype(np.int64),
        power=np.concatenate([own.power, battery, shifted[ends]]),
        energy=np.concatenate([own.energy, battery * hours, 2.0 * SHIFT_HOURS * shifted[ends]]),
        efficiency=np.concatenate(
            [own.efficiency, np.full(sites.size, efficiency), np.ones(ends.size)]
        ),
        initial=np.concatenate([own.initial, battery * hours / 2.0, SHIFT_HOURS * shifted[ends]]),
    )


def _curves(grid: Grid, acting: Ints, stores: Storages, value: float) -> Curves:
    own = grid.units.curve
    power, cost = own.power[acting], own.cost[acting]
    if not stores.power.size:
        return Curves(power, cost)
    # Storages need a point at 0 MW between two slopes; others repeat their last point.
    width = max(power.shape[1], 3)
    add = width - power.shape[1]
    points = np.repeat(stores.power[:, None], width, axis=1)
    points[:, 0] *= -1.0
    points[:, 1] = 0.0
    price = np.where(points < 0.0, value * stores.efficiency[:, None], value)
    return Curves(
        power=np.concatenate([np.pad(power, ((0, 0), (0, add)), mode="edge"), points]),
        cost=np.concatenate([np.pad(cost, ((0, 0), (0, add)), mode="edge"), price * points]),
    )


def _normal_cost(units: Units, thermal: Ints) -> tuple[float, float]:
    """$/h of :data:`NORMAL` of the firm capacity from the cheapest units, and $/MWh of that."""
    full, capacity = units.curve.cost[thermal, -1], units.high[thermal]
    if not thermal.size:
        return 1.0, 0.0
    order = np.argsort(full / np.maximum(capacity, 1e-9), kind="stable")
    reach = capacity[order].cumsum()
    wanted = NORMAL * reach[-1]
    taken = int(reach.searchsorted(wanted)) + 1
    normal = max(float(full[order][:taken].sum() * wanted / reach[taken - 1]), 1.0)
    return normal, normal / float(wanted)

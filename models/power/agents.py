"""The grid as its agents: what the analytical models optimise over.

The simulator's agents are units and storages in one order; models know units and storages apart.
Two views: one where every agent is a unit (a storage with a value on its energy is a unit that may
consume), for one interval; and one with units and storages, for several.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from ...simulators.interface import Bools, Doubles, Ints
from ...simulators.power.fleet import Fleet
from ...simulators.power.grid import Branches, Curves, Grid, Storages, Units, no_dc_lines
from ...simulators.power.lodf import Topology


def agent_units(grid: Grid, fleet: Fleet) -> Grid:
    """``grid`` with one unit for every agent, in their order, and no storage.

    DC lines rest, as in the simulator.
    """
    units = replace(
        _rows(grid.units, np.maximum(fleet.unit, 0)),
        name=fleet.name,
        bus=fleet.bus,
        kind=tuple(fleet.groups[g] for g in fleet.group_of.tolist()),
        low=fleet.low,
        high=fleet.high,
        curve=fleet.curve,
        renewable=fleet.curtailed,
        curtailable=fleet.curtailed,
        quadratic=np.full((fleet.size, 3), np.nan),
    )
    return replace(grid, units=units, storages=_no_rows(grid.storages), dc_lines=no_dc_lines())


def acting_units(grid: Grid, fleet: Fleet) -> Grid:
    """``grid`` with the units that are agents, in their order, and all its storages."""
    acting = fleet.unit[fleet.unit >= 0]
    rows = _rows(grid.units, acting)
    # Wind, sun and water are moved freely within what is available, as in the simulator.
    ramp = np.where(fleet.curtailed[: acting.size], np.inf, rows.ramp)
    units = replace(rows, low=fleet.low[: acting.size], ramp=ramp)
    return replace(grid, units=units, dc_lines=no_dc_lines())


def injections_as_load(grid: Grid, injection: Doubles) -> Doubles:
    """Load ``[..., B]`` MW without shunts that stands for given ``injection`` ``[..., B]``."""
    return -injection - grid.buses.shunt


def follow(topology: Topology, closed: Bools) -> None:
    """Open and close branches until ``topology`` has exactly these in service."""
    if np.array_equal(topology.closed, closed):
        return
    for branch in np.flatnonzero(closed & ~topology.closed).tolist():
        topology.close(branch)
    # In the order of their numbers, so that the result does not depend on what was before.
    for branch in topology.out.tolist():
        topology.close(branch)
    for branch in np.flatnonzero(~closed).tolist():
        topology.open(branch)


def one_bus(grid: Grid) -> Grid:
    """The grid on a copper plate: everything at one bus, no branches."""
    buses, branches = grid.buses, grid.branches
    none = np.zeros(0, np.int64)
    empty = np.zeros(0)
    single = replace(
        buses,
        name=("plate",),
        load=np.array([buses.load.sum()]),
        shunt=np.array([buses.shunt.sum()]),
        area=np.zeros(1, np.int64),
        areas=("plate",),
    )
    columns = {
        field.name: empty
        for field in fields(branches)
        if field.name not in ("name", "start", "end")
    }
    units = replace(grid.units, bus=np.zeros_like(grid.units.bus))
    storages = replace(grid.storages, bus=np.zeros_like(grid.storages.bus))
    return replace(
        grid,
        buses=single,
        branches=Branches(name=(), start=none, end=none, **columns),
        units=units,
        storages=storages,
        reference=0,
        flexible=np.zeros(1),
    )


def _rows(units: Units, rows: Ints) -> Units:
    columns: dict[str, Any] = {}
    for field in fields(Units):
        column = getattr(units, field.name)
        if isinstance(column, tuple):
            columns[field.name] = tuple(column[row] for row in rows.tolist())
        elif isinstance(column, Curves):
            columns[field.name] = Curves(column.power[rows], column.cost[rows])
        else:
            columns[field.name] = column[rows]
    return Units(**columns)


def _no_rows(storages: Storages) -> Storages:
    return Storages(**{field.name: getattr(storages, field.name)[:0] for field in fields(Storages)})

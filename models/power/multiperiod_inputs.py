"""What a multi-period dispatch is given: measured state, boxes, line limits, ends.

====  ================================
H     intervals of the horizon
U     units
R     storages
B     buses
L     AC branches
====  ================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Bools, Doubles
from ...simulators.power.grid import Grid
from ...simulators.power.lodf import Topology
from ...simulators.power.network import Network

SLACK = 1e-6
"""MW or MWh by which a measurement may miss its limits; it is then put onto them."""


@dataclass(frozen=True, slots=True)
class DispatchState:
    """What was measured at the end of the interval before the horizon.

    Attributes:
        power: ``[U]`` output in MW; the first ramp step starts here.
        soc: ``[R]`` energy in MWh; the first state-of-charge step starts here.
    """

    power: Doubles
    soc: Doubles


@dataclass(frozen=True, slots=True)
class StorageEnd:
    """What the last state of charge must be, and what it is worth; ``[R]`` each.

    ``low`` and ``high`` are MWh (cut to what the horizon can reach, so that no end makes a program
    infeasible), ``value`` is $/MWh.
    """

    low: Doubles
    high: Doubles
    value: Doubles

    @classmethod
    def free(cls, storages: int, value: float = 0.0) -> StorageEnd:
        """Any end; what is left is worth ``value``."""
        count = (storages,)
        return cls(np.zeros(count), np.full(count, np.inf), np.full(count, value))

    @classmethod
    def at_least(cls, energy: Doubles) -> StorageEnd:
        """At least ``energy`` ``[R]``."""
        return cls(energy, np.full_like(energy, np.inf), np.zeros_like(energy))

    @classmethod
    def fixed(cls, energy: Doubles) -> StorageEnd:
        """Exactly ``energy`` ``[R]``."""
        return cls(energy, energy, np.zeros_like(energy))


@dataclass(frozen=True, slots=True)
class FlowLimits:
    """Linear branch flows ``ptdf @ injection + offset`` and their limits.

    Attributes:
        ptdf: ``[L, B]`` power transfer distribution factors (rows of branches out: zeros).
        low, high: ``[L]`` limits of flow in MW, infinite where there is none.
        offset: ``[L]`` flow at no injection (phase shifters), MW.
    """

    ptdf: Doubles
    low: Doubles
    high: Doubles
    offset: Doubles

    @classmethod
    def of(cls, network: Network, topology: Topology | None = None) -> FlowLimits:
        """Those of an intact network, or of what ``topology`` leaves of it."""
        present = network if topology is None else topology
        return cls(present.ptdf, network.low, network.high, present.offset)


@dataclass(frozen=True, slots=True)
class DispatchInputs:
    """Data of one solve.

    Attributes:
        load: ``[H, B]`` MW with shunts, or ``[H]`` without a network.
        low, high: ``[H, U]`` MW. They carry commitment (0/0 while off), availability and outages.
        reserve: ``[H]`` MW of upward reserve; used where the problem was built with it.
        storage_power: ``[H, R]`` MW, the largest charge and discharge; the grid's by default.
        on: ``[H, U]`` whether a unit is on (pays what it costs at no output); where its upper limit
            is above 0 by default.
        end: the storages' end; at least the measured energy by default.
        ramp_free: ``[H]`` steps from the interval before that no ramp limits; none by default.
    """

    load: Doubles
    low: Doubles
    high: Doubles
    reserve: Doubles | None = None
    storage_power: Doubles | None = None
    on: Bools | None = None
    end: StorageEnd | None = None
    ramp_free: Bools | None = None


@dataclass(frozen=True, slots=True)
class DispatchData:
    """Checked inputs with every default in place."""

    power: Doubles
    soc: Doubles
    load: Doubles
    low: Doubles
    high: Doubles
    reserve: Doubles
    storage_power: Doubles
    end: StorageEnd
    on: Bools
    ramp_free: Bools


def checked_inputs(
    grid: Grid, horizon: int, buses: int, step: float, state: DispatchState, given: DispatchInputs
) -> DispatchData:
    """The inputs as arrays with defaults in place.

    Args:
        grid: the system.
        horizon: H.
        buses: B with a network, else 0 (load is ``[H]``).
        step: interval in s.
        state: measured.
        given: inputs of the solve.

    Raises:
        ValueError: a shape, a number that is not finite, a lower limit above the upper one; names
            field, interval, row and value.
    """
    units, storages = len(grid.units.name), len(grid.storages.name)
    load = _array("load", given.load, (horizon, buses) if buses else (horizon,))
    low = _array("low", given.low, (horizon, units))
    high = _array("high", given.high, (horizon, units))
    crossed = np.argwhere(low > high + SLACK)
    if crossed.size:
        t, u = (int(index) for index in crossed[0])
        raise ValueError(
            f"unit {grid.units.name[u]}, interval {t}: low {low[t, u]} is above high {high[t, u]}"
        )
    power = _array("state.power", state.power, (units,))
    soc = _array("state.soc", state.soc, (storages,))
    outside = np.flatnonzero((soc < -SLACK) | (soc > grid.storages.energy + SLACK))
    if outside.size:
        r = int(outside[0])
        raise ValueError(
            f"storage {grid.storages.name[r]}: measured {soc[r]} MWh, expected between 0 and "
            f"{grid.storages.energy[r]}"
        )
    soc = np.clip(soc, 0.0, grid.storages.energy)
    reserve = np.zeros(horizon) if given.reserve is None else given.reserve
    on = high > 0.0 if given.on is None else given.on
    if on.shape != high.shape:
        raise ValueError(f"on has shape {on.shape}, expected {high.shape}")
    free = np.zeros(horizon, dtype=np.bool_) if given.ramp_free is None else given.ramp_free
    if free.shape != (horizon,):
        raise ValueError(f"ramp_free has shape {free.shape}, expected {(horizon,)}")
    limit = given.storage_power
    if limit is None:
        limit = np.broadcast_to(grid.storages.power, (horizon, storages))
    limit = _array("storage_power", limit, (horizon, storages))
    end = StorageEnd.at_least(soc) if given.end is None else given.end
    return DispatchData(
        power=power,
        soc=soc,
        load=load,
        low=np.minimum(low, high),
        high=high,
        reserve=_array("reserve", reserve, (horizon,)),
        storage_power=limit,
        on=on,
        ramp_free=free,
        end=_reachable(grid, soc, limit, step, end),
    )


def _reachable(
    grid: Grid, soc: Doubles, limit: Doubles, step: float, end: StorageEnd
) -> StorageEnd:
    """The end with its window moved into what the horizon can reach from ``soc``."""
    storages = grid.storages
    value = _array("end.value", end.value, soc.shape)
    for name, bound in (("low", end.low), ("high", end.high)):
        if bound.shape != soc.shape or np.isnan(bound).any():
            raise ValueError(f"end.{name} must hold {soc.shape[0]} numbers, found {bound}")
    room = limit.sum(axis=0) * (step / 3600.0)
    top = np.minimum(storages.energy, soc + storages.efficiency * room)
    bottom = np.maximum(0.0, soc - room)
    return StorageEnd(np.clip(end.low, bottom, top), np.clip(end.high, bottom, top), value)


def _array(name: str, values: NDArray[np.floating], shape: tuple[int, ...]) -> Doubles:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise ValueError(f"{name}{list(where)} is {array[where]}, expected a finite number")
    return array


def ramp_windows(
    data: DispatchData, limit: Doubles, *, starts_free: bool
) -> tuple[Doubles, Doubles]:
    """Smallest and largest change of output against the interval before, MW ``[H, U]`` each.

    ``limit`` ``[U]`` is what a unit ramps in an interval. The window is widened by as much as the
    box itself moves against it: a stop or a derating goes down at once, a start comes in at the
    minimum and ramps from there, and from any output inside one box the next can be reached, so
    that ramps never make a program infeasible. ``starts_free`` opens it upwards at a start (for
    lower bounds).
    """
    before_low = np.concatenate([data.power[None], data.low[:-1]])
    before_high = np.concatenate([data.power[None], data.high[:-1]])
    down = np.minimum(-limit, data.high - before_high)
    up = np.maximum(limit, data.low - before_low)
    first = np.inf if starts_free else data.low + limit
    up = np.where((data.high > 0.0) & (before_high <= 0.0), first, up)
    free = data.ramp_free[:, None]
    return np.where(free, -np.inf, down), np.where(free, np.inf, up)

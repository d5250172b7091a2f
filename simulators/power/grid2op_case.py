"""Grid and days of a Grid2Op environment, so that policies train on what they will then drive.

Grid2Op (RTE France) plays chronics of load and production on an AC grid. Here the same units, lines
and days become a grid and series of ours: limits in A become MW at the voltages of the first
moment, and the load of an interval is scaled to what production was scheduled for it, which
includes the losses that a lossless model lacks. Units stay connected all day, as chronics have it.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from ..errors import DataError
from ..interface import Doubles
from .grid import Branches, Buses, Curves, Grid, Storages, Units, check_grid, no_dc_lines
from .scenario import Grid2opScenario
from .series import Series
from .sources import Chosen, Days, hourly, pick

KINDS = {"solar": "pv", "hydro": "reservoir"}
"""Grid2Op's technologies that are called otherwise here: its hydro units can be dispatched."""


def open_environment(name: str) -> Any:
    """A Grid2Op environment that comes with the package, on the lightsim2grid back end.

    Raises:
        DataError: the package brings none of this name, or it lacks what dispatching needs.
    """
    with warnings.catch_warnings():
        # Importing complains about accelerators of a back end that is not used here.
        warnings.simplefilter("ignore")
        import grid2op
        from lightsim2grid import LightSimBackend

        known = sorted(grid2op.list_available_test_env())
        if name not in known:
            raise DataError(
                "Grid2Op", field="environment", value=name, accepted=f"one of {', '.join(known)}"
            )
        env: Any = grid2op.make(name, test=True, backend=LightSimBackend())
    if not env.redispatching_unit_commitment_availble:
        raise DataError(
            name, field="gen_type", accepted="an environment whose units can be dispatched"
        )
    return env


def grid2op(scenario: Grid2opScenario) -> tuple[Grid, Days]:
    """The grid of a scenario's environment; every seed is a day of its chronics.

    Raises:
        DataError: see :func:`open_environment`.
    """
    env = open_environment(scenario.environment)
    grid = read_grid(env)
    chronics = read_days(env, grid)
    per_day = round(86_400.0 / chronics[0].step)
    env.close()

    def days(seed: int, intervals: int) -> Chosen:
        count = -(-intervals // per_day)
        starts = [
            (number, day)
            for number, series in enumerate(chronics)
            for day in range(series.length // per_day - count + 1)
        ]
        if not starts:
            longest = max(series.length for series in chronics) // per_day
            raise ValueError(
                f"environment {scenario.environment!r}: an episode of {count} days, its chronics "
                f"have {longest}; choose fewer hours"
            )
        number, day = starts[pick(seed, len(starts), 1)]
        actual = chronics[number].between(day * per_day, (day + count) * per_day)
        ahead = hourly(actual)
        return Chosen(actual, ahead, np.ones((ahead.length, len(grid.units.name)), bool))

    return grid, days


def read_grid(env: Any) -> Grid:
    """The grid of an environment; buses are its substations, areas too (loads are known by them).

    Raises:
        GridError: what :func:`.grid.check_grid` finds.
    """
    env.set_id(0)
    first = env.reset()
    subs = len(env.name_sub)
    load: Doubles = np.bincount(
        env.load_to_subid, weights=np.asarray(first.load_p, np.float64), minlength=subs
    ).astype(np.float64)
    names = tuple(str(name) for name in env.name_sub)
    return check_grid(
        Grid(
            name=str(env.env_name),
            base=float(env.backend._grid.get_sn_mva()),
            buses=Buses(names, load, np.zeros(subs), np.arange(subs), names),
            branches=_branches(env, first),
            dc_lines=no_dc_lines(),
            units=_units(env, float(first.delta_time)),
            storages=_storages(env),
            reference=int(env.gen_to_subid[int(np.argmax(env.gen_pmax))]),
            flexible=np.zeros(subs),
        )
    )


def read_days(env: Any, grid: Grid) -> tuple[Series, ...]:
    """What the environment's chronics hold, one series each."""
    renewable = np.flatnonzero(grid.units.renewable)
    site = np.zeros((env.n_load, len(grid.buses.name)))
    site[np.arange(env.n_load), env.load_to_subid] = 1.0
    found: list[Series] = []
    for chronic in range(len(env.chronics_handler.available_chronics())):
        env.set_id(chronic)
        first = env.reset()
        load, production = chronics_of(env)
        scale = production.sum(axis=1) / load.sum(axis=1)
        found.append(
            Series(
                start=np.datetime64(first.get_time_stamp(), "s"),
                step=60.0 * float(first.delta_time),
                load=(load * scale[:, None]) @ site,
                available=np.maximum(production[:, renewable], 0.0),
                reserve=np.zeros(load.shape[0]),
            )
        )
    return tuple(found)


def chronics_of(env: Any) -> tuple[Doubles, Doubles]:
    """Load ``[T, loads]`` and scheduled production ``[T, units]`` MW of the running episode."""
    data = env.chronics_handler.real_data.data
    return np.asarray(data.load_p, np.float64), np.asarray(data.prod_p, np.float64)


def _branches(env: Any, first: Any) -> Branches:
    """Lines, then transformers, as Grid2Op has them on lightsim2grid."""
    parts = [*env.backend._grid.get_lines(), *env.backend._grid.get_trafos()]
    count, lines = len(parts), len(env.backend._grid.get_lines())
    kilovolt = np.asarray(first.v_or, np.float64)
    return Branches(
        name=tuple(str(name) for name in env.name_line),
        start=np.asarray(env.line_or_to_subid, np.int64),
        end=np.asarray(env.line_ex_to_subid, np.int64),
        r=np.array([part.r_pu for part in parts]),
        x=np.array([part.x_pu for part in parts]),
        tap=np.array([1.0] * lines + [part.ratio for part in parts[lines:]]),
        shift=np.zeros(count),
        rate=np.sqrt(3.0) * kilovolt * np.asarray(env.get_thermal_limit(), np.float64) / 1e3,
        angle_low=np.full(count, -np.inf),
        angle_high=np.full(count, np.inf),
        outage_rate=np.zeros(count),
        outage_hours=np.zeros(count),
    )


def _units(env: Any, minutes: float) -> Units:
    count = env.n_gen
    low, high = np.asarray(env.gen_pmin, np.float64), np.asarray(env.gen_pmax, np.float64)
    power = np.stack([low, high], axis=1)
    renewable = np.asarray(env.gen_renewable, bool)
    start = np.asarray(env.gen_startup_cost, np.float64)
    return Units(
        name=tuple(str(name) for name in env.name_gen),
        bus=np.asarray(env.gen_to_subid, np.int64),
        kind=tuple(KINDS.get(str(kind), str(kind)) for kind in env.gen_type),
        low=low,
        high=high,
        curve=Curves(power, power * np.asarray(env.gen_cost_per_MW, np.float64)[:, None]),
        quadratic=np.full((count, 3), np.nan),
        ramp=np.minimum(env.gen_max_ramp_up, env.gen_max_ramp_down).astype(np.float64) / minutes,
        min_up=np.asarray(env.gen_min_uptime, np.float64) * minutes / 60.0,
        min_down=np.asarray(env.gen_min_downtime, np.float64) * minutes / 60.0,
        start_hours=np.zeros((count, 3)),
        start_after=np.zeros((count, 3)),
        start_cost=np.repeat(start[:, None], 3, axis=1),
        mttf=np.full(count, np.inf),
        mttr=np.zeros(count),
        inertia=np.zeros(count),
        renewable=renewable,
        curtailable=renewable.copy(),
    )


def _storages(env: Any) -> Storages:
    energy = np.asarray(env.storage_Emax, np.float64)
    both = np.minimum(env.storage_max_p_prod, env.storage_max_p_absorb).astype(np.float64)
    efficiency = np.asarray(env.storage_charging_efficiency, np.float64) * np.asarray(
        env.storage_discharging_efficiency, np.float64
    )
    return Storages(
        name=tuple(re.sub("^load ", "storage ", str(name)) for name in env.name_storage),
        bus=np.asarray(env.storage_to_subid, np.int64),
        power=both,
        energy=energy,
        efficiency=efficiency,
        initial=0.5 * energy,
    )

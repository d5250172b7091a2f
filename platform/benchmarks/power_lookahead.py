"""How fast dispatch over many intervals is solved again: 24 hours, and 12 x 5 minutes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from ...models.power.mpc import RollingHorizon
from ...models.power.multiperiod import MultiPeriodDispatch
from ...models.power.multiperiod_inputs import DispatchInputs, DispatchState, FlowLimits
from ...simulators.interface import Doubles
from ...simulators.power.dispatch import PowerSimulator
from ...simulators.power.network import Network
from ...simulators.power.scenario import GeneratedScenario, Prices, RtsScenario
from ...simulators.power.system import system_of
from ..rows import Row
from ..validation.power_plexos import Solved
from .hot_times import hot_seconds

HORIZON = 24
DAY = 410.0
"""ms that a day of RTS-GMLC may take; 110 to 410 were measured before."""
STAND_IN = 50
"""Units of the generated system where there are no data."""
INTERVALS = 48
"""Intervals of the look-ahead, spread over a day."""


class Choice(Protocol):
    """What these measurements need of a bench's options."""

    @property
    def data(self) -> Path | None: ...
    @property
    def passes(self) -> int: ...
    @property
    def seeds(self) -> int: ...
    @property
    def quick(self) -> bool: ...


def day_rows(solved: Solved | None, options: Choice) -> list[Row]:
    """24 h of RTS-GMLC with PLEXOS's commitment, ramps, storage, shedding and the network."""
    if solved is None:
        return []
    hours = slice(0, HORIZON)
    on, rng = solved.on[hours], np.random.default_rng(options.seeds)
    grid = solved.grid
    low, high = (np.where(on, side[hours], 0.0) for side in (solved.low, solved.high))
    problem = MultiPeriodDispatch(
        grid,
        horizon=HORIZON,
        step=3600.0,
        network=FlowLimits.of(Network(grid, convention="x")),
        prices=Prices(),
    )
    state = DispatchState(power=low[0], soc=grid.storages.initial)

    def given(load: Doubles) -> DispatchInputs:
        return DispatchInputs(load=load + grid.buses.shunt, low=low, high=high, on=on)

    count = 2 if options.quick else 8
    loads = [solved.load[hours] * rng.uniform(0.97, 1.03, (HORIZON, 1)) for _ in range(count)]
    work = [partial(problem.solve, state, given(load)) for load in loads]
    milliseconds = 1e3 * hot_seconds(work, min(options.passes, 2))
    done = problem.solve(state, given(loads[0]))
    name = "24 h multi-period dispatch, RTS-GMLC"
    return [
        Row.at_most(f"{name}: hot re-solve after new loads", milliseconds, "ms", DAY),
        Row.info(f"{name}: simplex iterations", done.iterations, "1"),
    ]


def horizon_rows(data: bool, options: Choice) -> list[Row]:
    """Look-ahead of 12 x 5 min along a simulated day, as ``mpc`` does it every interval."""
    if data:
        folder = None if options.data is None else str(options.data)
        scenario = RtsScenario(data=folder)
    else:
        scenario = GeneratedScenario(units=20 if options.quick else STAND_IN)
    system = system_of(scenario)  # pyright: ignore[reportArgumentType]
    simulator = PowerSimulator(scenario, system)
    planner = RollingHorizon(scenario, system, horizon=scenario.leads)
    observation = simulator.reset(options.seeds)
    column = simulator.spec.agent_column("response")
    every = max(simulator.spec.horizon // (8 if options.quick else INTERVALS), 1)
    seen: list[Doubles] = []
    for epoch in range(simulator.spec.horizon):
        if epoch % every == 0:
            seen.append(observation.exogenous.copy())
        share = np.clip(observation.agent[:, column, None], 0.0, 1.0)
        aim = observation.low + (observation.high - observation.low) * share
        observation = simulator.step(np.clip(aim, observation.low, observation.high)).observation
    work = [partial(planner.plan, exogenous) for exogenous in seen]
    name = f"look-ahead of {scenario.leads} x 5 min with network, {scenario.name}"
    units = len(system.grid.units.name)
    median = 1e3 * hot_seconds(work, min(options.passes, 2))
    return [Row.info(f"{name}, {units} units: decision, median", median, "ms")]

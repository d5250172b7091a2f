"""Speed and memory of the power simulator on one core, without learning.

An episode is a day of 288 intervals with network, forecasts and outages, played twice. Without
features, as a simulation in which nobody learns: outputs are held, and the balance moves them. And
with all that agents and critic observe, indicative nodal prices among it: set-points are the merit
order's, read from the observation; the little that deciding takes is not counted.

Time is the process's own, and the fastest episode counts: others use the machine too. With
regulation every interval simulates frequency and generation control as well.
"""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...simulators.errors import DataError
from ...simulators.interface import Floats, Observation
from ...simulators.power.dispatch import PowerSimulator
from ...simulators.power.scenario import GeneratedScenario, Regulation, RtsScenario
from ...simulators.power.system import system_of
from ...simulators.settings import Settings, knob
from ...simulators.tables import locate
from ..progress import Report
from ..rows import Row

DAYS = 20.0
"""Simulated days per second that RTS-GMLC must reach without regulation."""
FLAT = 1.1
"""Peak memory over many episodes, over that of few."""
FEW, MANY = 2, 8
"""Episodes of the two memory runs."""


class Options(Settings):
    """What to measure."""

    data: Path | None = knob(None, "folder with the data (none: FAIRLEAD_DATA, ../shared/data)")
    units: tuple[int, ...] = knob((100, 600), "units of the generated systems")
    episodes: int = knob(5, "timed episodes, of which the fastest counts", usual="3..20", ge=1)
    hours: int = knob(24, "length of an episode", unit="h", ge=1, le=168)
    regulation: bool = knob(True, "also with frequency and generation control")
    seeds: int = knob(0, "seed of the first episode; the others follow", ge=0)
    quick: bool = knob(False, "smallest useful run")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one episode: ``reset`` alone, ``steps`` all of them."""

    reset: float
    steps: float

    @property
    def total(self) -> float:
        return self.reset + self.steps


def run(options: Options, progress: Report) -> list[Row]:
    """Time every system; see the module."""
    if options.quick:
        options = options.model_copy(update={"episodes": 1, "hours": 6, "units": (20,)})
    systems = _systems(options)
    rows: list[Row] = []
    for done, scenario in enumerate(systems):
        name = _name(scenario)
        progress(done, len(systems) + 1, name)
        for features in (False, True):
            rows += _speed_rows(options, scenario, features=features)
    progress(len(systems), len(systems) + 1, "memory")
    rows += _memory_rows(options, systems[0])
    progress(len(systems) + 1, len(systems) + 1, "done")
    return rows


def _systems(options: Options) -> list[RtsScenario | GeneratedScenario]:
    found: list[RtsScenario | GeneratedScenario] = [
        GeneratedScenario(units=units, hours=options.hours) for units in options.units
    ]
    folder = None if options.data is None else str(options.data)
    try:
        locate("rts_gmlc/source/gen.csv", folder)
    except DataError:
        if folder is not None:
            raise
    else:
        found.insert(0, RtsScenario(data=folder, hours=options.hours))
    if options.regulation:
        simulated = {"regulation": Regulation(simulated=True)}
        found += [scenario.model_copy(update=simulated) for scenario in found]
    return found


def _name(scenario: RtsScenario | GeneratedScenario) -> str:
    size = "" if isinstance(scenario, RtsScenario) else f", {scenario.units} units"
    with_or_without = "with" if scenario.regulation.simulated else "without"
    return f"{scenario.name}{size}, {with_or_without} regulation"


def _speed_rows(
    options: Options, scenario: RtsScenario | GeneratedScenario, *, features: bool
) -> list[Row]:
    name = f"{_name(scenario)}, {'with' if features else 'without'} features"
    simulator = _simulator(scenario, features=features)
    seeds = range(options.seeds, options.seeds + options.episodes)
    _episode(simulator, options.seeds)  # what is computed once is computed now
    best = min((_episode(simulator, seed) for seed in seeds), key=lambda times: times.total)
    per_day = best.total * 24.0 / scenario.hours
    intervals = simulator.spec.horizon
    marked = not features and isinstance(scenario, RtsScenario)
    marked = marked and not scenario.regulation.simulated
    speed = f"{name}: simulated days"
    return [
        Row.at_least(speed, 1.0 / per_day, "1/s", DAYS)
        if marked
        else Row.info(speed, 1.0 / per_day, "1/s"),
        Row.info(f"{name}: an interval", 1e6 * best.steps / intervals, "us"),
        Row.info(f"{name}: start of an episode", 1e3 * best.reset, "ms"),
        Row.info(f"{name}: agents", simulator.spec.agents, "1"),
    ]


def _simulator(
    scenario: RtsScenario | GeneratedScenario, *, features: bool = True
) -> PowerSimulator:
    system = system_of(scenario)  # pyright: ignore[reportArgumentType]
    return PowerSimulator(scenario, system, features=features)


def _episode(simulator: PowerSimulator, seed: int) -> Times:
    begin = time.process_time()
    observation = simulator.reset(seed)
    reset, steps = time.process_time() - begin, 0.0
    column = simulator.spec.agent_column("merit")
    features = bool(observation.agent.any())
    for _ in range(simulator.spec.horizon):
        wanted = merit_points(observation, column) if features else held(observation)
        begin = time.process_time()
        observation = simulator.step(wanted).observation
        steps += time.process_time() - begin
    return Times(reset, steps)


def merit_points(observation: Observation, column: int) -> Floats:
    """Set-points ``[A, 1]`` MW of the merit order, from the share in an agent's ``column``."""
    share = np.clip(observation.agent[:, column, None], 0.0, 1.0)
    wanted = observation.low + (observation.high - observation.low) * share
    return np.clip(wanted, observation.low, observation.high).astype(np.float32)


def held(observation: Observation) -> Floats:
    """Set-points ``[A, 1]`` MW that keep the present outputs as far as the box lets them."""
    present = observation.state[:, None].astype(np.float32)
    return np.clip(present, observation.low, observation.high)


def _memory_rows(options: Options, scenario: RtsScenario | GeneratedScenario) -> list[Row]:
    simulator = _simulator(scenario)
    _episode(simulator, options.seeds)
    peaks: list[float] = []
    for count in (FEW, MANY):
        tracemalloc.start()
        for seed in range(count):
            _episode(simulator, options.seeds + seed)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    label = f"peak memory, {_name(scenario)}"
    return [
        Row.info(f"{label}, {FEW} episodes", peaks[0], "MiB"),
        Row.info(f"{label}, {MANY} episodes", peaks[1], "MiB"),
        Row.at_most(
            f"growth of peak memory, {MANY} episodes over {FEW}", peaks[1] / peaks[0], "1", FLAT
        ),
    ]

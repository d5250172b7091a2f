"""Speed and memory of the traffic simulator on one core, beside SUMO's two models of driving.

Every grid of signals is filled first; the windows that are timed come after that, when the streets
are as full as they stay. Demand is moderate: queues do not grow, and a row says that no vehicles
block each other in a ring. Every 5 s all signals are observed and decide.

Two ways to run the signals are timed: ``greedy``, the phase with the most vehicles near its stop
lines, through the timing layer, and ``fixed``, Webster's plan, which SUMO runs too. All is counted,
the little that deciding takes as well. SUMO plays the same streets and vehicles, see
:mod:`.traffic_simulator_sumo`.

Time is the process's own, and the fastest window counts: others use the machine too. Memory is the
process's peak so far, so that sizes have to ascend.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import field_validator

from ...simulators.interface import Floats, Ints, Observation
from ...simulators.settings import Settings, knob
from ...simulators.traffic.plans import FIXED
from ...simulators.traffic.scenario import GridScenario
from ...simulators.traffic.signals import TrafficSimulator
from ...simulators.traffic.town import Town, town_of
from ..progress import Report
from ..rows import Row

SPEED: Mapping[int, float] = {4: 5000.0, 14: 250.0, 32: 35.0}
"""Simulated seconds per second that square grids of so many signals a side must reach."""
FLAT = 1.1
"""Peak memory over many episodes, over that of few."""
FEW, MANY, SIDE = 2, 8, 4
"""Episodes of the two memory runs (the second of two still has the first beside it), and signals a
side, at most."""
LANES, INTERVAL = 2, 5.0
"""Lanes of every street, and s between two decisions."""
FILL = 40.0
"""s that a vehicle takes from one signal to the next, stops included; rather more."""

Control = Literal["greedy", "fixed"]
CONTROLS: tuple[Control, ...] = ("greedy", "fixed")


class Options(Settings):
    """What to measure."""

    sides: tuple[int, ...] = knob(
        (4, 14, 32), "signals along a side of the square grids, ascending", min_length=1
    )
    rate: float = knob(
        300.0,
        "vehicles that enter at every edge of the grid; moderate",
        unit="1/h",
        usual="200 ... 400",
        gt=0,
    )
    seconds: int = knob(
        200, "length of a timed window, whole intervals of 5 s", unit="s", ge=5, multiple_of=5
    )
    windows: int = knob(3, "timed windows, of which the fastest counts", usual="1 ... 10", ge=1)
    sumo: bool = knob(True, "also time SUMO, if it is installed")
    seeds: int = knob(1, "seed of the episode, and of the streets' vehicles", ge=0)
    quick: bool = knob(False, "smallest useful run: the two smaller grids, one short window")

    @field_validator("sides")
    @classmethod
    def _ascending(cls, sides: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= side <= 64 for side in sides):
            raise ValueError("sides have 1 to 64 signals")
        if any(one >= two for one, two in pairwise(sides)):
            raise ValueError("sides must ascend, since the peak of memory never falls")
        return sides

    def filled(self, side: int) -> int:
        """Whole intervals, in s, before the first window: longer than most trips take."""
        return int(INTERVAL * round(max(FILL * side, 300.0) / INTERVAL))

    def scenario(self, side: int) -> GridScenario:
        """A grid whose episode holds all windows, twice: SUMO plays them without readings first."""
        return GridScenario(
            rows=side,
            columns=side,
            lanes=LANES,
            interval=INTERVAL,
            rate=self.rate,
            seconds=float(self.filled(side) + 2 * self.windows * self.seconds),
            city=self.seeds,
        )


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in one timed window.

    Attributes:
        busy: s of processor time.
        crossings: stop lines that were crossed.
        vehicles: on the streets, mean over the decisions.
        queue: vehicles that stand at a signal, mean over signals and decisions.
    """

    busy: float
    crossings: int
    vehicles: float
    queue: float


def run(options: Options, progress: Report) -> list[Row]:
    """Time every grid; see the module."""
    if options.quick:
        smaller = {"sides": options.sides[:2], "windows": 1, "seconds": 100}
        options = options.model_copy(update=smaller)
    steps = 3 * len(options.sides) + 1
    rows = [
        Row.info("a timed window", options.seconds, "s"),
        Row.info("vehicles that enter at every edge", options.rate, "1/h"),
    ]
    for done, side in enumerate(options.sides):
        name = grid_name(side)
        town = town_of(options.scenario(side))  # pyright: ignore[reportArgumentType]
        best: dict[Control, float] = {}
        for at, control in enumerate(CONTROLS):
            progress(3 * done + at, steps, f"{name}, {control}")
            best[control], more = _timed(options, town, side, control)
            rows += more
        rows.append(Row.info(f"{name}: peak memory", peak_memory(), "MiB"))
        progress(3 * done + 2, steps, f"{name}, SUMO")
        rows += _sumo(options, town, side, best["fixed"])
    progress(steps - 1, steps, "memory")
    rows += _memory_rows(options)
    progress(steps, steps, "done")
    return rows


def grid_name(side: int) -> str:
    """For rows and progress."""
    return f"grid {side} x {side}"


def peak_memory() -> float:
    """MiB of this process, at most so far."""
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _timed(options: Options, town: Town, side: int, control: Control) -> tuple[float, list[Row]]:
    """Simulated seconds per second, and all rows."""
    simulator = TrafficSimulator(town)
    windows = _play(options, simulator, side, control)
    speed = max(options.seconds / window.busy for window in windows)
    crossings = max(window.crossings / window.busy for window in windows)
    name = f"{grid_name(side)}, {control}"
    figure = f"{name}: simulated seconds"
    marked = control == "greedy" and side in SPEED
    return speed, [
        Row.at_least(figure, speed, "1/s", SPEED[side])
        if marked
        else Row.info(figure, speed, "1/s"),
        Row.info(f"{name}: crossings", crossings, "1/s"),
        Row.info(f"{name}: vehicles on the streets", _mean(windows, "vehicles"), "1"),
        Row.info(f"{name}: standing at a signal", _mean(windows, "queue"), "vehicles"),
        Row.at_most(f"{name}: deadlocks", simulator.metrics()["deadlocks"], "1", 0.0),
    ]


def _mean(windows: list[Window], what: str) -> float:
    return float(np.mean([getattr(window, what) for window in windows]))


def _play(
    options: Options, simulator: TrafficSimulator, side: int, control: Control
) -> list[Window]:
    """Fill the streets, then time the windows."""
    simulator.use_local(FIXED if control == "fixed" else "")
    observation = simulator.reset(options.seeds)
    wave = simulator.spec.candidate_column("wave")
    for _ in range(int(options.filled(side) / INTERVAL)):
        observation = simulator.step(_most(observation, wave)).observation
    queue = simulator.spec.agent_column("queue")
    found: list[Window] = []
    for _ in range(options.windows):
        before = simulator.streets.moves
        vehicles: list[int] = []
        agents: list[Floats] = []
        begin = time.process_time()  # once: where processes are boxed in, asking takes 0.3 ms
        for _ in range(int(options.seconds / INTERVAL)):
            observation = simulator.step(_most(observation, wave)).observation
            vehicles.append(simulator.streets.driving())
            agents.append(observation.agent)
        busy = time.process_time() - begin
        crossings = simulator.streets.moves - before
        standing = float(np.mean([agent[:, queue] for agent in agents]))
        found.append(Window(busy, crossings, float(np.mean(vehicles)), standing))
    return found


def _most(observation: Observation, column: int) -> Ints:
    """The legal candidate with the most in ``column``; hold where a plan runs."""
    value = np.where(observation.mask, observation.candidates[:, :, column], -1.0)
    return value.argmax(axis=1).astype(np.int64)


def _sumo(options: Options, town: Town, side: int, ours: float) -> list[Row]:
    """SUMO's rows, or why there are none."""
    name = f"{grid_name(side)}, SUMO"
    if not options.sumo:
        return [Row.info(name, "skipped: sumo=false", "")]
    from .traffic_simulator_sumo import Timing, sumo_rows

    timing = Timing(
        filled=options.filled(side),
        seconds=options.seconds,
        windows=options.windows,
        interval=int(INTERVAL),
        seed=options.seeds,
    )
    try:
        return sumo_rows(name, town, timing, ours)
    except ModuleNotFoundError as error:
        return [Row.info(name, f"skipped: {error}", "")]


def _memory_rows(options: Options) -> list[Row]:
    """Whether more episodes take more memory."""
    side = min(SIDE, options.sides[0])
    simulator = TrafficSimulator(town_of(options.scenario(side)))  # pyright: ignore[reportArgumentType]
    short = options.model_copy(update={"windows": 1})
    _play(short, simulator, side, "greedy")  # what is computed once is computed now
    peaks: list[float] = []
    for count in (FEW, MANY):
        tracemalloc.start()
        for seed in range(count):
            gc.collect()  # when Python would do so by itself is not the question
            _play(short.model_copy(update={"seeds": seed}), simulator, side, "greedy")
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    label = f"allocated, {grid_name(side)}"
    growth = f"growth of allocated memory, {MANY} episodes over {FEW}"
    return [
        Row.info(f"{label}, {FEW} episodes", peaks[0], "MiB"),
        Row.info(f"{label}, {MANY} episodes", peaks[1], "MiB"),
        Row.at_most(growth, peaks[1] / peaks[0], "1", FLAT),
    ]

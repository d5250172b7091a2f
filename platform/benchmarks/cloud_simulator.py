"""Speed and memory of the cloud simulator, beside a plain event heap that does the same."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ...simulators.cloud.dispatch import DispatchSimulator
from ...simulators.cloud.event_mode import (
    EventResult,
    NodeSpec,
    power_of_two,
    run_event_mode,
)
from ...simulators.cloud.scenario import DispatchScenario
from ...simulators.cloud.sizes import SizeLaw
from ...simulators.interface import Ints, Observation
from ...simulators.settings import Settings, knob
from ..progress import Report
from ..rows import Row
from .heap_twin import TwinResult, heap_twin

Result = TypeVar("Result")

TARGET = 120_000.0
"""Events per second that one core must reach at every number of nodes."""
EPISODE_LIMIT = {200: 1.5, 1500: 15.0}
"""Seconds that an episode of 200 epochs may take without the policy."""
FLAT = 1.1
"""Peak memory with four times the jobs, over that with once the jobs."""


class Options(Settings):
    """What to measure."""

    agents: tuple[int, ...] = knob((5, 100, 1500), "numbers of nodes (event mode)")
    jobs: int = knob(200_000, "jobs per timed run", usual="100000..1000000", ge=1000)
    memory_jobs: int = knob(
        40_000, "jobs of the short memory run; the long one has four times", ge=1000
    )
    load: float = knob(0.8, "load of the event-mode runs", gt=0, lt=1)
    repeats: int = knob(3, "timed runs, of which the fastest counts", ge=1)
    episodes: tuple[int, ...] = knob((200, 1500), "numbers of dispatchers (epoch mode)")
    horizon: int = knob(200, "epochs of a timed episode", ge=1)
    seeds: int = knob(1, "seed of every run", ge=0)
    quick: bool = knob(False, "smallest useful run")


def run(options: Options, progress: Report) -> list[Row]:
    """Time both modes; see ``Options``."""
    if options.quick:
        options = options.model_copy(
            update={"jobs": 30_000, "memory_jobs": 10_000, "repeats": 1, "horizon": 20}
        )
    rows: list[Row] = []
    steps = len(options.agents) + 1 + len(options.episodes)
    for done, nodes in enumerate(options.agents):
        progress(done, steps, f"event mode, {nodes} nodes")
        rows += _event_rows(options, nodes)
    progress(len(options.agents), steps, "memory")
    rows += _memory_rows(options)
    for done, agents in enumerate(options.episodes):
        progress(len(options.agents) + 1 + done, steps, f"epoch mode, {agents} dispatchers")
        rows += _episode_rows(options, agents)
    progress(steps, steps, "done")
    return rows


def _event_rows(options: Options, nodes: int) -> list[Row]:
    ours, our_time = _fastest(lambda: event_run(options, nodes, options.jobs), options.repeats)
    twin, twin_time = _fastest(lambda: _twin_run(options, nodes), options.repeats)
    events = ours.arrivals + ours.completed
    name = f"event mode, {nodes} nodes"
    mean, expected = ours.response_sum / ours.completed, twin.response_sum / twin.completed
    return [
        Row.at_least(f"{name}: events", events / our_time, "1/s", TARGET),
        Row.info(f"{name}: events of the plain heap", events / twin_time, "1/s"),
        Row.info(f"{name}: plain heap over simulator", our_time / twin_time, "1"),
        Row.near(f"{name}: mean response as the plain heap", mean, "s", expected, 0.0),
    ]


def _memory_rows(options: Options) -> list[Row]:
    nodes = max(options.agents)
    peaks: list[float] = []
    for jobs in (options.memory_jobs, 4 * options.memory_jobs):
        tracemalloc.start()
        event_run(options, nodes, jobs)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    label = f"peak memory, {nodes} nodes"
    return [
        Row.info(f"{label}, {options.memory_jobs} jobs", peaks[0], "MiB"),
        Row.info(f"{label}, {4 * options.memory_jobs} jobs", peaks[1], "MiB"),
        Row.at_most(
            "growth of peak memory with four times the jobs", peaks[1] / peaks[0], "1", FLAT
        ),
    ]


def _episode_rows(options: Options, agents: int) -> list[Row]:
    simulator = DispatchSimulator(DispatchScenario(agents=agents, horizon=options.horizon))
    service = simulator.spec.candidate_column("service")
    jobs = simulator.spec.candidate_column("jobs")

    def episode() -> float:
        observation, spent = simulator.reset(options.seeds), 0.0
        start = time.perf_counter()
        for _ in range(options.horizon):
            begin = time.perf_counter()
            actions = _shortest_delay(observation, jobs, service)
            spent += time.perf_counter() - begin
            observation = simulator.step(actions).observation
        return time.perf_counter() - start - spent

    seconds = min(episode() for _ in range(options.repeats))
    per_episode = seconds * 200 / options.horizon
    label = f"epoch mode, {agents} dispatchers"
    limit = EPISODE_LIMIT.get(agents)
    name = f"{label}: 200 epochs without the policy"
    return [
        Row.info(f"{label}: epochs", options.horizon / seconds, "1/s"),
        Row.info(name, per_episode, "s")
        if limit is None
        else Row.at_most(name, per_episode, "s", limit),
    ]


def _shortest_delay(observation: Observation, jobs: int, service: int) -> Ints:
    columns = observation.candidates
    delay = (columns[:, :, jobs] + 1.0) * columns[:, :, service]
    delay = np.where(observation.mask, delay, np.inf)
    delay[:, 0] = np.finfo(np.float32).max  # hold only where nothing else is legal
    return delay.argmin(axis=1)


def _fastest(work: Callable[[], Result], repeats: int) -> tuple[Result, float]:
    result, best = _timed(work)
    for _ in range(repeats - 1):
        result, seconds = _timed(work)
        best = min(best, seconds)
    return result, best


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def event_run(options: Options, nodes: int, jobs: int) -> EventResult:
    """Processor-sharing nodes of two speeds, bimodal sizes, power-of-two routing."""
    speeds = _speeds(nodes)
    return run_event_mode(
        nodes=[NodeSpec(speed=speed) for speed in speeds],
        arrivals=options.load * sum(speeds),
        sizes=SizeLaw(),
        route=power_of_two(),
        jobs=jobs,
        seed=options.seeds,
    )


def _speeds(nodes: int) -> list[float]:
    return [1.0 if index % 2 else 1.25 for index in range(nodes)]


def _twin_run(options: Options, nodes: int) -> TwinResult:
    speeds = _speeds(nodes)
    rate = options.load * sum(speeds)
    return heap_twin(
        speeds=speeds, rate=rate, sizes=SizeLaw(), jobs=options.jobs, seed=options.seeds
    )

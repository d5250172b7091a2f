"""Identities that hold on every path: Little's law, and what the dispatching game pays."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...simulators.cloud.dispatch import DispatchSimulator
from ...simulators.cloud.event_mode import NodeSpec, power_of_two, run_event_mode
from ...simulators.cloud.exclusive import Exclusive
from ...simulators.cloud.kernel import Job
from ...simulators.cloud.scenario import DispatchScenario
from ...simulators.cloud.sizes import SizeLaw
from ..rows import Row
from .suites import Check


def checks(*, quick: bool) -> list[Check]:
    """Exact identities; the quick set plays a shorter episode."""
    return [
        Check("Little's law, empty to empty", partial(little, 4_000 if quick else 40_000), 0.5),
        Check("reward identity of the dispatching game", partial(rewards, 40), 1.0),
    ]


def little(jobs: int) -> list[Row]:
    """L = lambda W on a path from empty to empty, L integrated from the events themselves."""
    result = run_event_mode(
        nodes=[NodeSpec("ps"), NodeSpec("fcfs", 2.0), NodeSpec("fcfs", servers=2)],
        arrivals=3.0,
        sizes=SizeLaw(),
        route=power_of_two(),
        seed=0,
        jobs=jobs,
        trace=True,
    )
    times = np.array([time for time, _, _ in result.trace])
    present = np.cumsum([change for _, _, change in result.trace])
    area = float((present[:-1] * np.diff(times)).sum())
    arrivals_times_response = result.completed * result.mean_response
    return [
        Row.near("Little's law: jobs left at the end", int(present[-1]), "1", 0, 0),
        Row.near(
            "Little's law: integral of jobs in system over sum of responses",
            area / arrivals_times_response,
            "1",
            1.0,
            1e-9,
        ),
        Row.near(
            "Little's law: reported time average over integral",
            result.in_system * result.duration / area,
            "1",
            1.0,
            1e-9,
        ),
    ]


class _Recorded(DispatchSimulator):
    """Keeps every completed job, which the product does not."""

    def __init__(self, scenario: DispatchScenario):
        super().__init__(scenario)
        self.kept: list[Job] = []

    def _finished(self) -> list[Job]:
        done = super()._finished()
        self.kept += done
        return done

    def unfinished(self) -> list[Job]:
        """Jobs that wait or run now."""
        left = [job for queue in self._queues for job in queue]
        for station in self._cluster.stations:
            if not isinstance(station, Exclusive):
                left += station.present()
        return left


def rewards(horizon: int) -> list[Row]:
    """Minus the return, times expected arrivals, is the time that all jobs spent in the system."""
    rows: list[Row] = []
    for discipline in ("ps", "fcfs"):
        simulator = _Recorded(
            DispatchScenario(agents=12, horizon=horizon, discipline=discipline, load=0.9)
        )
        rng = np.random.default_rng(0)
        observation = simulator.reset(0)
        total, gap = 0.0, 0.0
        for _ in range(horizon):
            legal = observation.mask * rng.random(observation.mask.shape)
            step = simulator.step(legal.argmax(axis=1))
            total += step.reward
            gap = max(gap, abs(float(step.local_reward.mean()) - step.reward))
            observation = step.observation
        end, left = observation.time, simulator.unfinished()
        spent = sum(job.finish - job.arrival for job in simulator.kept)
        spent += sum(end - job.arrival for job in left)
        metrics = simulator.metrics()
        cost = -total * simulator.fleet.expected_arrivals
        title = f"reward identity, {discipline}"
        accounted = metrics["completed"] + metrics["in_system"]
        counted = len(simulator.kept) + len(left)
        rows += [
            Row.near(f"{title}: cost over time in system", cost / spent, "1", 1.0, 1e-9),
            Row.near(f"{title}: local rewards against shared reward", gap, "s", 0.0, 1e-9),
            Row.near(f"{title}: jobs accounted for", accounted, "1", counted, 0),
            Row.at_least(f"{title}: jobs that did not finish", len(left), "1", 1),
        ]
    return rows

"""Batch scheduling as a game: one agent per partition chooses the next job to commit to.

Events are arrivals and ends of jobs, in one SimPy calendar for all partitions. An epoch is the next
instant at which some partition has waiting jobs and no committed one; agents of the others are
inactive. As in RLScheduler (SC 2020, arXiv 1910.08925) a committed job stays committed until it
starts, jobs of the same instant arrive one after the other, and arrivals come before ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from heapq import heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..actions import checked_choices
from ..calendar import Calendar, Wake
from ..errors import DataError
from ..interface import HOLD, Choice, Doubles, Ints, Observation, Spec, Step
from ..streams import Streams
from ..tables import locate
from .batch import BatchJobs, BatchResult, batch_jobs
from .batch_scenario import PUBLISHED_STARTS, SwfScenario
from .batch_view import AGENT_FEATURES, CANDIDATE_FEATURES, CRITIC_FEATURES, JobView, observe
from .partition import Partition
from .swf import read_swf

__all__ = ["PUBLISHED_STARTS", "BatchSimulator", "SwfScenario"]

_ARRIVAL, _END, _CYCLE = 0, 1, 2
"""Order of events at the same instant."""


class _Clock(Calendar):
    """A calendar in which events of one instant have an order of their own."""

    def schedule_at(self, time: float, order: int, callback: Callable[[Any], None]) -> None:
        event = (time, order, next(self._eid), Wake([callback]))
        heappush(self._queue, event)  # pyright: ignore[reportArgumentType]


class BatchSimulator:
    """Implements ``Simulator`` for an :class:`SwfScenario`.

    System state x ``[partitions]``: the summed weight of the waiting jobs, i.e. the cost per second
    that waiting accrues (jobs, with the response objective). ``exogenous`` is (seconds since the
    start, arrivals per second and partition, offered load). ``private`` has, per candidate
    ``[A, K]`` and zero for hold and padding: ``weight`` (cost per second of waiting), ``request``
    (s), ``procs`` and ``rate``, the c-mu index weight / (request x procs / processors). A weight is
    taken from the requested time here, since the run time is not known before the end.

    Raises:
        DataError: the log cannot be found or used, or has fewer jobs than an episode.
    """

    def __init__(self, scenario: SwfScenario):
        self.scenario = scenario
        path = locate(scenario.log, scenario.data)
        log = read_swf(path)
        processors = scenario.processors or log.processors
        if processors is None:
            remedy = "give the scenario's processors, or a MaxProcs header"
            raise DataError(path, field="MaxProcs", accepted=remedy)
        self.processors = processors
        self.log = batch_jobs(log, processors=processors)
        last = len(self.log) - scenario.jobs
        if last < 0 or any(start < 0 or start > last for start in scenario.starts):
            accepted = (
                f"at least {scenario.jobs} usable jobs from every start are expected, the log has "
                f"{len(self.log)}"
            )
            raise DataError(path, field="jobs", value=scenario.starts or None, accepted=accepted)
        span = float(self.log.submit[-1] - self.log.submit[0])
        self._pace = max(span / max(len(self.log) - 1, 1), 1e-9)
        work = float(self.log.run @ self.log.processors)
        self._load = work / (processors * max(span, 1.0))
        self.spec = Spec(
            domain="cloud",
            scenario=scenario.name,
            agents=scenario.agents,
            groups=("partition",),
            group_of=np.zeros(scenario.agents, dtype=np.int64),
            agent_features=AGENT_FEATURES,
            candidate_features=CANDIDATE_FEATURES,
            critic_features=CRITIC_FEATURES,
            state_size=scenario.agents,
            action=Choice(scenario.window + 1),
            horizon=scenario.horizon,
            dt=max(scenario.cycle, self._pace / scenario.agents),
        )

    def reset(self, seed: int) -> Observation:
        scenario = self.scenario
        self._clock = _Clock()
        self._cycle_at = -1.0
        self._cycle_due = False
        self._epoch = 0
        self._costs: Doubles = np.zeros(scenario.agents)
        self._partitions: list[Partition] = []
        self._views: list[JobView] = []
        self._choosing: set[int] = set()
        self._unfinished = set(range(scenario.agents))
        for agent, first in enumerate(self._starts(seed)):
            self._add(agent, self.log.sequence(int(first), scenario.jobs))
        self._run()
        return self._observe()

    def step(self, actions: NDArray[np.generic]) -> Step:
        chosen = checked_choices(self.spec, self._seen, actions)
        now = self._clock.now
        for agent in np.flatnonzero(self._seen.active).tolist():
            part = self._partitions[agent]
            if chosen[agent] == HOLD:
                part.held = True
                if part.idle:
                    self._clock.schedule_at(now + self.scenario.recheck, _CYCLE, self._awake(agent))
            else:
                part.commit(int(self._seen.target[agent, chosen[agent]]), now)
            self._changed(agent)
        terminated = self._run()
        self._epoch += 1
        costs = np.array([part.cost.total(self._clock.now) for part in self._partitions])
        local = -(costs - self._costs) / self.scenario.jobs
        self._costs = costs
        reward = float(local.mean())
        return Step(
            observation=self._observe(),
            reward=reward,
            local_reward=local,
            components={self.scenario.objective: reward},
            terminated=terminated,
            truncated=self._epoch >= self.scenario.horizon and not terminated,
        )

    def results(self) -> tuple[BatchResult, ...]:
        """The schedule of each partition so far.

        Jobs that have not arrived are left out; waiting ones count as if they started now.
        Partitions without any arrival are skipped.
        """
        found: list[BatchResult] = []
        for part in self._partitions:
            if part.arrived == 0:
                continue
            jobs = part.jobs.take(slice(0, part.arrived))
            start = part.start[: part.arrived]
            start = np.where(np.isnan(start), self._clock.now, start)
            found.append(BatchResult(jobs, start, self.processors))
        return tuple(found)

    def metrics(self) -> dict[str, float]:
        """Figures over all jobs that have arrived; times in seconds.

        ``utilisation`` is over the makespan, ``utilisation_to_last_start`` the published figure
        (both means over partitions); ``unstarted`` counts jobs that still wait or have not arrived.
        """
        results = self.results()
        response = np.concatenate([result.response for result in results])
        slowdown = np.concatenate([result.bounded_slowdown for result in results])
        wait = np.concatenate([result.wait for result in results])
        p50, p95, p99 = np.quantile(response, (0.5, 0.95, 0.99))
        return {
            "bounded_slowdown": float(slowdown.mean()),
            "bounded_slowdown_p95": float(np.quantile(slowdown, 0.95)),
            "response_mean": float(response.mean()),
            "response_p50": float(p50),
            "response_p95": float(p95),
            "response_p99": float(p99),
            "wait_mean": float(wait.mean()),
            "utilisation": float(np.mean([result.utilization for result in results])),
            "utilisation_to_last_start": float(
                np.mean([result.utilization_to_last_start for result in results])
            ),
            "makespan": max(result.makespan for result in results),
            "backfilled": float(sum(part.backfilled for part in self._partitions)),
            "unstarted": float(sum(int(np.isnan(part.start).sum()) for part in self._partitions)),
        }

    def _starts(self, seed: int) -> Ints:
        """Position in the log at which each partition's jobs begin."""
        scenario = self.scenario
        if scenario.starts:
            position = (seed + np.arange(scenario.agents)) % len(scenario.starts)
            return np.array(scenario.starts, dtype=np.int64)[position]
        rng = Streams(seed).generator("sequence")
        return rng.integers(len(self.log) - scenario.jobs + 1, size=scenario.agents)

    def _add(self, agent: int, jobs: BatchJobs) -> None:
        """A partition that meets ``jobs``, the first of them at time zero."""
        scenario, clock = self.scenario, self._clock
        origin = float(jobs.submit[0])
        jobs = replace(jobs, submit=jobs.submit - origin)
        submit: list[float] = jobs.submit.tolist()

        def launch(job: int, end: float) -> None:
            def ended(_: Any) -> None:
                part.complete(job, clock.now)
                self._changed(agent)

            clock.schedule_at(end, _END, ended)

        def arrived(_: Any) -> None:
            part.arrive(clock.now)
            self._changed(agent)
            if part.arrived < len(submit):
                clock.schedule_at(submit[part.arrived], _ARRIVAL, arrived)

        part = Partition(
            jobs,
            processors=self.processors,
            backfill=scenario.backfill,
            objective=scenario.objective,
            launch=launch,
        )
        self._partitions.append(part)
        self._views.append(
            JobView.of(
                jobs, origin=origin, processors=self.processors, objective=scenario.objective
            )
        )
        clock.schedule_at(0.0, _ARRIVAL, arrived)

    def _changed(self, agent: int) -> None:
        part = self._partitions[agent]
        if part.wants_decision:
            self._choosing.add(agent)
        else:
            self._choosing.discard(agent)
            if part.finished:
                self._unfinished.discard(agent)

    def _awake(self, agent: int) -> Callable[[Any], None]:
        def awake(_: Any) -> None:
            self._partitions[agent].held = False
            self._changed(agent)

        return awake

    def _run(self) -> bool:
        """To the next epoch. True if every job has started."""
        cycle, clock = self.scenario.cycle, self._clock
        while self._unfinished:
            if self._choosing and not self._cycle_due:
                if cycle <= 0 or self._cycle_at == clock.now:
                    return False
                # After everything else of its instant, so that all of it is seen.
                due = max(float(np.ceil(clock.now / cycle)) * cycle, clock.now)
                clock.schedule_at(due, _CYCLE, self._cycle)
                self._cycle_due = True
            clock.step()
        return True

    def _cycle(self, _: Any) -> None:
        self._cycle_due = False
        self._cycle_at = self._clock.now

    def _observe(self) -> Observation:
        now = self._clock.now
        self._seen = observe(
            self._partitions,
            self._views,
            window=self.scenario.window,
            now=now,
            exogenous=np.array([now, 1.0 / self._pace, self._load]),
        )
        return self._seen

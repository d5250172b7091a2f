"""What the agents of the batch game see: features of partitions and of waiting jobs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..interface import HOLD, Doubles, Feature, Ints, Observation
from .batch import SLOWDOWN_FLOOR, BatchJobs
from .batch_scenario import Objective
from .partition import NOBODY, Partition

AGENT_FEATURES = (
    Feature("free", "share of processors", 0, 1),
    Feature("waiting", "jobs", transform="log1p"),
    Feature("backlog", "s", transform="log1p"),
    Feature("running", "s", transform="log1p"),
    Feature("oldest", "s", transform="log1p"),
    Feature("committed", "1", 0, 1),
)
CANDIDATE_FEATURES = (
    Feature("hold", "1", 0, 1),
    Feature("wait", "s", transform="log1p"),
    Feature("request", "s", transform="log1p"),
    Feature("procs", "processors", transform="log1p"),
    Feature("area", "s", transform="log1p"),
    Feature("submit", "s", transform="log1p"),
    Feature("fits", "1", 0, 1),
)
CRITIC_FEATURES = (
    Feature("free mean", "share of processors", 0, 1),
    Feature("waiting mean", "jobs", transform="log1p"),
    Feature("waiting max", "jobs", transform="log1p"),
    Feature("backlog mean", "s", transform="log1p"),
    Feature("backlog max", "s", transform="log1p"),
    Feature("running mean", "s", transform="log1p"),
    Feature("oldest mean", "s", transform="log1p"),
    Feature("committed mean", "1", 0, 1),
    Feature("weight mean", "cost/s", transform="log1p"),
    Feature("to come", "share of jobs", 0, 1),
)
PRIVATE = ("weight", "request", "procs", "rate")


@dataclass(frozen=True, slots=True)
class JobView:
    """Numbers of one partition's jobs, ``[jobs]`` each, ready to be looked up.

    Attributes:
        submit: seconds since the start of the episode.
        features: ``[jobs, 4]`` request (s), processors, area (s) and submit time in the log (s).
        weight: cost per second of waiting, from the requested time.
        private: ``[jobs, 4]`` columns of :data:`PRIVATE`.
    """

    submit: Doubles
    features: Doubles
    weight: Doubles
    private: Doubles

    @classmethod
    def of(
        cls, jobs: BatchJobs, *, origin: float, processors: int, objective: Objective
    ) -> JobView:
        """``jobs`` with times since ``origin`` (s in the log) on a cluster of ``processors``."""
        needs = jobs.processors.astype(np.float64)
        area = jobs.request * needs / processors
        if objective == "bounded_slowdown":
            weight = 1.0 / np.maximum(jobs.request, SLOWDOWN_FLOOR)
        else:
            weight = np.ones(len(jobs))
        features = [jobs.request, needs, area, jobs.submit + origin]
        private = [weight, jobs.request, needs, weight / area]
        return cls(jobs.submit, np.stack(features, axis=1), weight, np.stack(private, axis=1))


def observe(
    partitions: list[Partition],
    views: list[JobView],
    *,
    window: int,
    now: float,
    exogenous: Doubles,
) -> Observation:
    """The observation of all partitions at ``now``; candidates are filled for active agents."""
    agents, count = len(partitions), window + 1
    candidates = np.zeros((agents, count, len(CANDIDATE_FEATURES)), np.float32)
    candidates[:, HOLD, 0] = 1.0
    target = np.full((agents, count), -1, np.int64)
    mask = np.zeros((agents, count), np.bool_)
    mask[:, HOLD] = True
    private = np.zeros((len(PRIVATE), agents, count))
    active = np.array([part.wants_decision for part in partitions], dtype=np.bool_)
    own = np.zeros((agents, len(AGENT_FEATURES)))
    state = np.zeros(agents)
    for agent, (part, view) in enumerate(zip(partitions, views, strict=True)):
        queue = np.array(part.queue, dtype=np.int64)
        own[agent] = _agent(part, view, queue, now)
        state[agent] = view.weight[queue].sum()
        if active[agent]:
            jobs = queue[:window]
            filled = slice(1, 1 + jobs.size)
            candidates[agent, filled, 1] = now - view.submit[jobs]
            candidates[agent, filled, 2:6] = view.features[jobs]
            candidates[agent, filled, 6] = view.features[jobs, 1] <= part.free
            target[agent, filled] = jobs
            mask[agent, filled] = True
            private[:, agent, filled] = view.private[jobs].T
    to_come = np.mean([1.0 - part.arrived / len(part.needs) for part in partitions])
    return Observation(
        agent=own.astype(np.float32),
        candidates=candidates,
        target=target,
        mask=mask,
        low=np.zeros((agents, 0), np.float32),
        high=np.zeros((agents, 0), np.float32),
        active=active,
        critic=_critic(own, state, float(to_come)),
        state=state,
        exogenous=exogenous,
        time=now,
        private=dict(zip(PRIVATE, private, strict=True)),
    )


def _agent(part: Partition, view: JobView, queue: Ints, now: float) -> list[float]:
    waits = queue.size > 0
    return [
        part.free / part.processors,
        float(queue.size),
        float(view.features[queue, 2].sum()),
        part.running_work(now) / part.processors,
        now - float(view.submit[queue[0]]) if waits else 0.0,
        float(part.committed != NOBODY),
    ]


def _critic(own: Doubles, state: Doubles, to_come: float) -> NDArray[np.float32]:
    mean, largest = own.mean(axis=0), own.max(axis=0)
    free, waiting, backlog, running, oldest, committed = mean
    values = [free, waiting, largest[1], backlog, largest[2], running, oldest, committed]
    return np.array([*values, state.mean(), to_come], dtype=np.float32)

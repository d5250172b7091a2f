"""What a choice costs in the cloud domain, from what a decentralised observation tells alone.

The same closed forms that guide training, without the centralised part of the observation: nothing
here needs a simulator, a data file or the analytical model's solvers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..simulators.cloud.batch import SLOWDOWN_FLOOR
from ..simulators.cloud.batch_scenario import SwfScenario
from ..simulators.cloud.scenario import DispatchScenario, LlmScenario, OpenbScenario
from ..simulators.interface import HOLD, Floats, Ints, Observation, Spec
from .decision.arrays import some

BUSIEST = 0.9
"""Forecast arrivals per dispatcher and epoch are cut here in the cost of holding (as in training's
``models.cloud.profile_model``)."""
SMALLEST_HOLD = 0.05
"""GPUs; cost of holding a job that asks for little or no GPU (``models.cloud.packing_model``)."""

Scenario = DispatchScenario | LlmScenario | OpenbScenario | SwfScenario


class Costs(Protocol):
    """Cost of single choices, and what a joint choice costs on top."""

    @property
    def floor(self) -> float:
        """Per deciding agent: differences below it are of no consequence, in the cost's unit."""
        ...

    def own(self, observation: Observation) -> Floats:
        """``[n, K]`` cost of every candidate if nobody else moved; never negative."""
        ...

    def joint(self, observation: Observation, row: Ints, chosen: Ints) -> float:
        """What the placements of agents ``row`` cost on top because they meet; not negative."""
        ...


class SharedCosts:
    """Nodes that serve many jobs at once: total response time that a choice adds, in s.

    A job of ``s`` seconds on a draining processor-sharing node with remaining times ``r_i`` adds
    ``s + 2 sum min(s, r_i)``, and two jobs that are sent there together delay each other by twice
    the shorter (``models.cloud.profile_model``, drain). On a first-come-first-served node it waits
    for the work it finds, and of two jobs sent there together one waits for the other, at least
    the shorter one's service. Holding delays every waiting job, and those that will come before
    the queue empties, by an epoch.
    """

    def __init__(self, spec: Spec, scenario: DispatchScenario | LlmScenario):
        self._service = spec.candidate_column("service")
        fcfs = isinstance(scenario, DispatchScenario) and scenario.discipline == "fcfs"
        self._delay = spec.candidate_column("work" if fcfs else "overlap")
        self._mutual = 1.0 if fcfs else 2.0
        self._waiting = spec.agent_column("waiting")
        self._load = spec.agent_column("load")
        self._arrivals = scenario.arrivals_per_epoch / scenario.load
        self._dt = spec.dt

    @property
    def floor(self) -> float:
        return self._dt

    def own(self, observation: Observation) -> Floats:
        seen, agent = observation.candidates, observation.agent
        cost = seen[:, :, self._delay] * np.float32(self._mutual)
        cost += seen[:, :, self._service]
        arrivals = np.minimum(self._arrivals * agent[:, self._load], BUSIEST)
        cost[:, HOLD] = self._dt * agent[:, self._waiting] / (1.0 - arrivals)
        return cost

    def joint(self, observation: Observation, row: Ints, chosen: Ints) -> float:
        place = row * observation.target.shape[1]
        place += chosen
        node = observation.target.reshape(-1).take(place)
        place *= observation.candidates.shape[2]
        place += self._service
        service = observation.candidates.reshape(-1).take(place).astype(np.float64)
        order = np.lexsort((service, node))
        node, service = node.take(order), service.take(order)
        # Behind the job at position r of m on its node come m - 1 - r longer ones.
        longer = node.searchsorted(node, side="right")
        longer -= np.arange(1, node.size + 1)
        if not some(longer):
            return 0.0
        return self._mutual * float(service @ longer)


class ExclusiveCosts:
    """Nodes whose jobs hold resources: GPUs that the typical jobs can no longer use, in GPUs.

    A placement takes the ``w`` GPUs of the job and the growth of its node's fragmentation (never
    below ``-w``); holding leaves ``w`` idle for an epoch and lets the job take them later. The
    common ``w`` makes costs non-negative and changes no comparison (``models.cloud.packing_model``,
    drain). What two placements on one node do to its fragmentation together cannot be told
    from the observation: growths are added.
    """

    floor = SMALLEST_HOLD

    def __init__(self, spec: Spec):
        self._growth = spec.candidate_column("fragmentation_delta")
        self._milli, self._gpus = spec.agent_column("gpu_milli"), spec.agent_column("gpu_count")

    def own(self, observation: Observation) -> Floats:
        agent = observation.agent
        wanted = agent[:, self._milli] * agent[:, self._gpus] / np.float32(1000.0)
        cost = observation.candidates[:, :, self._growth] / np.float32(1000.0)
        cost[:, HOLD] = np.maximum(wanted, SMALLEST_HOLD)
        cost += wanted[:, None]
        return np.maximum(cost, 0.0, out=cost)

    def joint(self, observation: Observation, row: Ints, chosen: Ints) -> float:
        del observation, row, chosen
        return 0.0


class BatchCosts:
    """Queues of batch jobs: cost per second that the visible jobs still accrue after the choice.

    A choice lowers it by its c-mu index times the time that the shortest candidate takes
    (``models.cloud.batch_model``). Partitions share nothing.
    """

    floor = 0.0

    def __init__(self, spec: Spec, scenario: SwfScenario):
        self._request, self._area = spec.candidate_column("request"), spec.candidate_column("area")
        self._slowdown = scenario.objective == "bounded_slowdown"

    def own(self, observation: Observation) -> Floats:
        seen = observation.candidates
        there = observation.mask.copy()
        there[:, HOLD] = False
        area = np.where(there, seen[:, :, self._area], np.inf)
        weight = there.astype(np.float32)
        if self._slowdown:
            weight /= np.maximum(seen[:, :, self._request], np.float32(SLOWDOWN_FLOOR))
        area = np.maximum(area, np.finfo(np.float32).tiny)
        shortest = area.min(axis=1, keepdims=True)
        relief = weight * (np.where(np.isfinite(shortest), shortest, 0.0) / area)
        return (weight.sum(axis=1, keepdims=True) - relief).astype(np.float32)

    def joint(self, observation: Observation, row: Ints, chosen: Ints) -> float:
        del observation, row, chosen
        return 0.0


def costs_of(spec: Spec, scenario: Scenario) -> Costs:
    """The closed forms that fit a scenario.

    Raises:
        KeyError: the spec lacks a column that they read; names the known ones.
    """
    if isinstance(scenario, SwfScenario):
        return BatchCosts(spec, scenario)
    if isinstance(scenario, OpenbScenario):
        return ExclusiveCosts(spec)
    return SharedCosts(spec, scenario)


@dataclass(frozen=True, slots=True)
class Priced:
    """One observation with its costs.

    Attributes:
        observation: the very object that was priced.
        cost: ``[n, K]``, ``inf`` for candidates that must not be chosen (and for all but hold of
            agents with nothing to decide).
        least, most: ``[n]`` over the candidates that may be chosen.
    """

    observation: Observation
    cost: Floats
    least: Floats
    most: Floats

    @classmethod
    def of(cls, costs: Costs, observation: Observation) -> Priced:
        """Price all candidates; those whose cost is no finite number may not be chosen."""
        cost = costs.own(observation)
        legal = cost < np.inf
        legal &= observation.mask
        legal &= observation.active[:, None]
        hold = cost[:, HOLD]
        # Holding may always be chosen; without a finite price of its own it is free.
        hold[~(observation.mask[:, HOLD] & (hold < np.inf))] = 0.0
        legal[:, HOLD] = True
        np.copyto(cost, np.inf, where=~legal)
        # Along the long axis, extremes are found several times quicker.
        turned = np.ascontiguousarray(cost.T)
        least = np.minimum.reduce(turned, axis=0)
        np.copyto(turned, -np.inf, where=~legal.T)
        return cls(observation, cost, least, np.maximum.reduce(turned, axis=0))

    def total(self, costs: Costs, actions: Ints) -> float:
        """Predicted cost of a joint decision of the agents that have something to decide."""
        seen = self.observation
        row = np.flatnonzero(seen.active)
        chosen = actions.take(row)
        own = self.cost.reshape(-1).take(row * self.cost.shape[1] + chosen)
        single = float(own.sum(dtype=np.float64))
        placed = chosen != HOLD
        return single + costs.joint(seen, row[placed], chosen[placed])

    @property
    def bound(self) -> float:
        """What no joint decision can cost less than: meeting never makes anything cheaper."""
        return float(self.least[self.observation.active].sum(dtype=np.float64))

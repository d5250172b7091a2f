"""What an episode cost and achieved: exact sums per epoch, quantiles in fixed memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles, Ints
from .fleet import Fleet
from .kernel import Job
from .quantiles import LogHistogram
from .scenario import CloudScenario

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Epoch:
    """What happened between two decisions.

    Attributes:
        end: end of the epoch, s.
        owner: ``[n]`` dispatchers of its arrivals.
        arrival: ``[n]`` their times, s.
        finished: jobs completed in it.
        busy: ``[M]`` busy seconds of every node since the start of the episode.
        down: ``[M]`` seconds that every node has been out of service since then.
        fragmentation: total F at its end, GPUs.
    """

    end: float
    owner: Ints
    arrival: Doubles
    finished: list[Job]
    busy: Doubles
    down: Doubles
    fragmentation: float


@dataclass(frozen=True, slots=True)
class EpochCost:
    """Costs of one epoch, in seconds of response time (not yet divided by expected arrivals).

    ``response`` and ``slo`` are per dispatcher ``[A]``, ``energy`` and ``fragmentation`` common.
    """

    response: Doubles
    slo: Doubles
    energy: float
    fragmentation: float


class Accounts:
    """Running totals of an episode. Memory does not grow with the number of jobs.

    The cost of an epoch is the time integral of the jobs in system, computed exactly from the
    times of its arrivals and departures: O(1) per event, no sampling.
    """

    def __init__(self, *, fleet: Fleet, scenario: CloudScenario):
        self._fleet = fleet
        self._scenario = scenario
        agents, nodes = fleet.agents, fleet.nodes
        self.in_system = np.zeros(agents)
        self.arrived = 0
        self.completed = 0
        self.conflicts = 0
        self.misses = 0
        self._response = np.zeros(agents)
        self._done = np.zeros(agents)
        self._sums = np.zeros(3)
        self._response_quantiles = LogHistogram()
        self._slowdown_quantiles = LogHistogram()
        self._idle = np.array([node.idle for node in fleet.types])[fleet.type_of]
        self._swing = np.array([node.peak - node.idle for node in fleet.types])[fleet.type_of]
        self._busy = np.zeros(nodes)
        self._down = np.zeros(nodes)
        self._time = 0.0
        self._joules = 0.0
        self._fragments = 0.0
        self._fragmentation = 0.0
        self.total = 0.0

    def close(self, epoch: Epoch) -> EpochCost:
        """Book an epoch and return what it cost."""
        end, owner, arrival, finished = epoch.end, epoch.owner, epoch.arrival, epoch.finished
        busy, down, fragmentation = epoch.busy, epoch.down, epoch.fragmentation
        agents, weights = self._fleet.agents, self._scenario.weights
        length = end - self._time
        response = self.in_system * length
        response += np.bincount(owner, weights=end - arrival, minlength=agents)
        self.in_system += np.bincount(owner, minlength=agents)
        self.arrived += owner.shape[0]
        slo = np.zeros(agents)
        if finished:
            done = np.array([job.owner for job in finished])
            finish = np.array([job.finish for job in finished])
            response -= np.bincount(done, weights=end - finish, minlength=agents)
            self.in_system -= np.bincount(done, minlength=agents)
            slo = self._complete(finished, done, finish)
        power = self._idle * (length - (down - self._down)) + self._swing * (busy - self._busy)
        joules = float(power.sum())
        self._joules += joules
        self._fragments += fragmentation * length
        self._fragmentation = fragmentation
        self._busy, self._down, self._time = busy, down, end
        return EpochCost(
            response=response,
            slo=weights.slo * slo,
            energy=weights.energy * joules / 1000.0,
            fragmentation=weights.fragmentation * fragmentation * length,
        )

    def _complete(self, finished: list[Job], owner: Ints, finish: Doubles) -> Doubles:
        """Book completions; returns the missed deadlines per dispatcher."""
        agents, scenario = self._fleet.agents, self._scenario
        response = finish - np.array([job.arrival for job in finished])
        best = np.array([job.best for job in finished])
        service = np.array([job.service for job in finished])
        slowdown = response / best
        bounded = np.maximum(response / np.maximum(best, scenario.slowdown_floor), 1.0)
        missed = response > scenario.slo_factor * best + scenario.slo_slack * self._fleet.dt
        self._response += np.bincount(owner, weights=response, minlength=agents)
        self._done += np.bincount(owner, minlength=agents)
        self._sums += (slowdown.sum(), bounded.sum(), (response - service).sum())
        self._response_quantiles.add(response)
        self._slowdown_quantiles.add(slowdown)
        self.completed += len(finished)
        self.misses += int(missed.sum())
        return np.bincount(owner[missed], minlength=agents).astype(np.float64)

    @property
    def response_sum(self) -> float:
        """Sum of the response times of completed jobs, s."""
        return float(self._response.sum())

    def metrics(self) -> dict[str, float]:
        """The episode so far; means over completed jobs are NaN before the first completion."""
        fleet = self._fleet
        done = self.completed
        mean = self._sums / done if done else np.full(3, np.nan)
        result = {
            "return": self.total,
            "arrivals": float(self.arrived),
            "completed": float(done),
            "in_system": float(self.in_system.sum()),
            "throughput": done / self._time if self._time else 0.0,
            "response_mean": self.response_sum / done if done else float("nan"),
            "slowdown_mean": float(mean[0]),
            "bounded_slowdown": float(mean[1]),
            "wait": float(mean[2]),
            "slo_miss": self.misses / done if done else float("nan"),
            "jain": self._jain(),
            "conflicts": float(self.conflicts),
            "energy_kwh": self._joules / JOULES_PER_KWH,
        }
        for level in (50, 95, 99):
            result[f"response_p{level}"] = self._response_quantiles.quantile(level / 100)
            result[f"slowdown_p{level}"] = self._slowdown_quantiles.quantile(level / 100)
        share = self._busy / self._time if self._time else np.zeros(fleet.nodes)
        result["utilisation"] = float(share.mean())
        totals = np.bincount(fleet.type_of, weights=share, minlength=len(fleet.types))
        for node, total, count in zip(fleet.types, totals, fleet.type_counts, strict=True):
            result[f"utilisation:{node.name}"] = float(total / count)
        if fleet.resources is not None:
            gpus = fleet.resources.gpus.astype(np.float64)
            result["gpu_allocation"] = float(share @ gpus / gpus.sum())
            result["fragmentation"] = self._fragmentation / float(gpus.sum())
            result["fragmentation_mean"] = (
                self._fragments / self._time / float(gpus.sum()) if self._time else 0.0
            )
        return result

    def _jain(self) -> float:
        """Jain's fairness index of the dispatchers' mean response times, 1/n..1."""
        served = self._done > 0
        if not served.any():
            return float("nan")
        mean = self._response[served] / self._done[served]
        return float(mean.sum() ** 2 / (mean.shape[0] * (mean @ mean)))

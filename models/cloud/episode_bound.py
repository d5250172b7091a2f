"""A lower bound of what any control of a dispatching scenario can cost: the yardstick of regret.

**Shared nodes (dispatch, llm).** The transient fluid program (``fluid``) at the mean rates, with
one class per (job class, size bin). It bounds the *expected* integral of jobs in system over the
episode from below, hence minus the return times the expected arrivals, for every policy, also one
that knows all sizes, is central and preempts:

- In a bin with mean size s let the backlog be the remaining work over s. An arrival adds 1 in the
  mean, service of s / speed node-seconds removes 1: balance and capacity hold exactly.
- Jobs present are at least backlog x s / s_high (``share``), and at least those under service plus
  those that wait for their first epoch (``wait`` = dt / 2 each, arrivals being uniform within
  epochs). Both hold at every instant.
- Rates are random (bursts, the day's phase) with the mean that is used here; the program's value
  is convex in them, so by Jensen's inequality the mean over seeds is bounded too.

It holds in the mean over seeds, not for every single seed, and without failures (a failed node only
costs more). The gap to the best policy comes from queueing noise, which a fluid has not, and from
the information that the bound grants.

**Exclusive resources (openb).** Every job is present until its run time is over or the episode
ends; capacity is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...simulators.cloud.fleet import Fleet, resolve
from ...simulators.cloud.llm_fleet import LlmFleet
from ...simulators.cloud.openb_fleet import OpenbFleet
from ...simulators.cloud.scenario import DispatchScenario, Scenario
from ...simulators.interface import Doubles
from .fluid import FluidSolver
from .size_moments import excess_moment

SLOTS = 20
BINS = 12
"""Size bins per job class."""
ACCURACY = 1e-6
"""Relative allowance for the interior point solver's tolerance."""


@dataclass(frozen=True, slots=True)
class EpisodeBound:
    """Lower bound of the expected cost of an episode.

    Attributes:
        mean_response: s per expected arrival; minus the return of no policy lies below it in the
            mean over seeds (weights of the optional cost terms being non-negative).
        job_seconds: the same times the expected arrivals.
        status: ``"optimal"``.
    """

    mean_response: float
    job_seconds: float
    status: str


@dataclass(frozen=True, slots=True)
class _SizeClass:
    """Jobs of one class in one size bin: jobs/s, mean seconds per type, mean over largest size."""

    rate: float
    seconds: Doubles
    share: float


def episode_bound(scenario: Scenario, *, slots: int = SLOTS, bins: int = BINS) -> EpisodeBound:
    """Bound for a scenario's episodes; see the module for what it proves.

    Args:
        scenario: ``dispatch``, ``llm`` or ``openb``.
        slots: time slots of the fluid program.
        bins: size bins per job class.

    Raises:
        RuntimeError: HiGHS proved no optimum (status named).
    """
    fleet = resolve(scenario)
    if isinstance(fleet, OpenbFleet):
        return _bound(fleet, _run_times(fleet))
    classes = (
        _from_trace(fleet, bins)
        if isinstance(fleet, LlmFleet)
        else _from_law(fleet, scenario, bins)
    )
    seconds = np.array([found.seconds for found in classes])
    solver = FluidSolver(
        1.0 / seconds,
        slots=slots,
        dt=fleet.dt * fleet.horizon / slots,
        wait=fleet.dt / 2.0,
        share=np.array([found.share for found in classes]),
        method="ipm",
    )
    rates = np.tile([found.rate for found in classes], (slots, 1))
    counts = np.tile(fleet.type_counts.astype(np.float64), (slots, 1))
    optimum = solver.solve(rates, counts, np.zeros(len(classes))).objective
    return _bound(fleet, optimum * (1.0 - ACCURACY))


def _bound(fleet: Fleet, job_seconds: float) -> EpisodeBound:
    return EpisodeBound(job_seconds / fleet.expected_arrivals, job_seconds, "optimal")


def _from_law(fleet: Fleet, scenario: Scenario, bins: int) -> list[_SizeClass]:
    """Bins of equal work under the scenario's size law."""
    if not isinstance(scenario, DispatchScenario):
        raise TypeError(f"{type(scenario).__name__} has no size law")
    law = scenario.size
    grid = law.mean * np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 4000)])
    tail = excess_moment(law, grid, 0)
    work_above = excess_moment(law, grid, 1) + grid * tail
    edges = np.unique(
        np.interp(np.linspace(1.0, 0.0, bins + 1), work_above[::-1] / law.mean, grid[::-1])
    )
    at = np.searchsorted(grid, edges)
    found: list[_SizeClass] = []
    for low, high in pairwise(at.tolist()):
        odds, work = tail[low] - tail[high], work_above[low] - work_above[high]
        if odds <= 1e-12:
            continue
        mean = work / odds
        for kind, rate in enumerate(fleet.class_rates):
            seconds = fleet.mean_service[:, kind] * (mean / law.mean)
            found.append(_SizeClass(float(rate * odds), seconds, float(mean / grid[high])))
    return found


def _from_trace(fleet: LlmFleet, bins: int) -> list[_SizeClass]:
    """Bins of equal counts of the trace's requests by size; every request keeps its own seconds."""
    requests = fleet.size.shape[0]
    found: list[_SizeClass] = []
    for kind in range(len(fleet.classes)):
        rows = np.flatnonzero(fleet.kind == kind)
        for part in np.array_split(rows[np.argsort(fleet.size[rows])], bins):
            if part.size:
                seconds = fleet.service[part]
                share = float((seconds.mean(axis=0) / seconds.max(axis=0)).min())
                rate = fleet.rate * part.size / requests
                found.append(_SizeClass(rate, seconds.mean(axis=0), share))
    return found


def _run_times(fleet: OpenbFleet) -> float:
    """Expected job-seconds if every job started at its first epoch."""
    length = fleet.dt * fleet.horizon
    total = 0.0
    for pods, rate in zip(fleet.pods_of, fleet.group_rates, strict=True):
        # A job that arrives with time t left is there for min(t, run time); t is uniform.
        stay = np.minimum(fleet.run_time[pods], length)
        total += float(rate) * float((length * stay - stay**2 / 2.0).mean())
    return total

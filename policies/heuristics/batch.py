"""Priority rules of batch scheduling: the lowest score runs first.

Formulas as listed by Carastan-Santos and de Camargo (SC 2017) and RLScheduler (SC 2020, arXiv
1910.08925), where s is the submit time, r the requested time, n the processors and w the waiting
time of a job:

====  ======================================
FCFS  s
SJF   r, then s
F1    n log10(r) + 870 log10(s)
WFP3  -(w / r)^3 n
UNI   -w / (r log2(n))
====  ======================================

RLScheduler's published WFP3 and UNI figures read the start time of jobs that have not started (-1),
so their w is -1 - s instead of the waiting time; that variant is kept under its own name to
reproduce them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...simulators.cloud.batch import BatchJobs
from ...simulators.interface import HOLD, Doubles, Ints, Observation, Spec
from ..interface import Controller, Information

_TINY = 1e-15
"""Keeps UNI finite for n = 1; the published code adds the same number in the same places."""


class Waiting(NamedTuple):
    """The numbers a rule reads, ``[jobs]`` each."""

    w: Doubles
    s: Doubles
    r: Doubles
    n: Doubles


Formula = Callable[[Waiting], Doubles]


def fcfs(job: Waiting) -> Doubles:
    """First come, first served."""
    return job.s


def sjf(job: Waiting) -> Doubles:
    """Shortest requested time first; the queue keeps equal ones in order of submission."""
    return job.r


def f1(job: Waiting) -> Doubles:
    """The first of the regression-fitted rules of Carastan-Santos and de Camargo."""
    return np.log10(np.maximum(job.r, 0.1)) * job.n + 870.0 * np.log10(np.maximum(job.s, 0.1))


def wfp3(job: Waiting) -> Doubles:
    """Old, short and wide jobs first (Tang et al., IPDPS 2009)."""
    return -((job.w / job.r) ** 3) * job.n


def uni(job: Waiting) -> Doubles:
    """UNICEF: old, short and narrow jobs first (Tang et al., IPDPS 2009)."""
    return -(job.w + _TINY) / (np.log2(job.n + _TINY) * job.r)


@dataclass(frozen=True, slots=True)
class BatchRule:
    """A priority rule as the batch engine wants it (``simulators.cloud.batch.Score``).

    Attributes:
        name: as in reports.
        formula: the score.
        fixed: whether the score ignores the clock.
    """

    name: str
    formula: Formula
    fixed: bool

    def __call__(self, jobs: BatchJobs, index: Ints, now: float) -> Doubles:
        submit = jobs.submit[index]
        wait = -1.0 - submit if self.fixed else now - submit
        processors = jobs.processors[index].astype(np.float64)
        return self.formula(Waiting(wait, submit, jobs.request[index], processors))


FCFS = BatchRule("FCFS", fcfs, True)
SJF = BatchRule("SJF", sjf, True)
F1 = BatchRule("F1", f1, True)
WFP3 = BatchRule("WFP3", wfp3, False)
UNI = BatchRule("UNI", uni, False)
WFP3_PUBLISHED = BatchRule("WFP3 as published", wfp3, True)
UNI_PUBLISHED = BatchRule("UNI as published", uni, True)

RULES = {rule.name: rule for rule in (FCFS, SJF, F1, WFP3, UNI, WFP3_PUBLISHED, UNI_PUBLISHED)}
"""All rules by name."""


class RuleController:
    """Commits to the waiting job with the lowest score; the first to arrive among equal ones."""

    def __init__(self, rule: BatchRule, spec: Spec):
        self._rule = rule
        self._columns = [spec.candidate_column(c) for c in ("wait", "submit", "request", "procs")]

    @property
    def name(self) -> str:
        return self._rule.name

    @property
    def information(self) -> Information:
        return "same"

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:  # noqa: ARG002
        """One legal action per agent, ``[A]`` int64."""
        seen = observation.candidates[:, :, self._columns].astype(np.float64)
        w, s, r, n = (seen[:, :, column] for column in range(4))
        legal = observation.mask & observation.active[:, None]
        legal[:, HOLD] = False
        r, n = np.where(legal, r, 1.0), np.where(legal, n, 1.0)
        wait = -1.0 - s if self._rule.fixed else w
        score = np.where(legal, self._rule.formula(Waiting(wait, s, r, n)), np.inf)
        return np.where(legal.any(axis=1), score.argmin(axis=1), HOLD).astype(np.int64)


def controllers(spec: Spec) -> tuple[Controller, ...]:
    """All rules as controllers of the batch game with this specification."""
    return tuple(RuleController(rule, spec) for rule in RULES.values())

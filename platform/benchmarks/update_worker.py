"""Measurements of updates in a process of their own, so that time and peak memory are clean.

``python -m fairlead.platform.benchmarks.update_worker JSON...`` prints one JSON line for each.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from ...policies.settings import LearnerConfig
from ...simulators.interface import Doubles
from .update_problem import Problem, Team

WARM_AGENTS, WARM_SAMPLES = 4, 64


class Work(BaseModel):
    """What to measure: the roll-out and the learner's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: Problem
    learner: LearnerConfig


class Result(BaseModel):
    """What was measured.

    Attributes:
        seconds: process-CPU seconds of one update of all agents.
        wall: seconds on the clock.
        peak: peak memory of the process, MiB; ``before``: with roll-out and weights, before it.
        finite: whether all weights are finite afterwards.
        gain: true improvement: mean over agents of the increase in the favourite's probability.
        gain_error: its standard error over agents.
        gain_late: ``gain`` of the last quarter of the agents, which move last where the order is
            fixed; ``gain_late_error``: its standard error.
        statistics: of the learner; those that are not finite are left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    wall: float
    peak: float
    before: float
    finite: bool
    gain: float
    gain_error: float
    gain_late: float
    gain_late_error: float
    statistics: dict[str, float]


def measure(work: Work) -> Result:
    """Build the team, warm the library up on a tiny one, time one update."""
    torch.set_num_threads(1)
    tiny = {"agents": WARM_AGENTS, "samples": WARM_SAMPLES}
    Team.build(work.problem.model_copy(update=tiny), work.learner).improve()
    team = Team.build(work.problem, work.learner)
    favoured = team.favoured()
    before = peak_mib()
    cpu, clock = time.process_time(), time.perf_counter()
    statistics = team.improve()
    if work.problem.device != "cpu":
        torch.cuda.synchronize()
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    peak = peak_mib()
    gain = team.favoured() - favoured
    late = gain[-max(2, gain.size // 4) :]
    return Result(
        seconds=cpu,
        wall=clock,
        peak=peak,
        before=before,
        finite=team.finite(),
        gain=_number(gain.mean()),
        gain_error=_standard_error(gain),
        gain_late=_number(late.mean()),
        gain_late_error=_standard_error(late),
        statistics={name: value for name, value in statistics.items() if math.isfinite(value)},
    )


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    size: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return size / (1024.0**2 if sys.platform == "darwin" else 1024.0)


def _standard_error(values: Doubles) -> float:
    return _number(values.std(ddof=1) / math.sqrt(values.size))


def _number(value: Any) -> float:
    """JSON holds no NaN; a gain that is none counts as no gain and shows in ``finite``."""
    return float(value) if math.isfinite(value) else 0.0


def main() -> None:
    """Measure what the arguments say, one after another."""
    for argument in sys.argv[1:]:
        sys.stdout.write(measure(Work.model_validate_json(argument)).model_dump_json() + "\n")


if __name__ == "__main__":
    main()

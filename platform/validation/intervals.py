"""Confidence intervals over independent runs, as rows that can fail.

A statistical row passes if the interval over the seeds contains the exact value; a second row
demands that the interval is narrow, for a wide one contains everything. The seeds are 0 .. 19 and
never chosen by their result, so a row fails a correct product with probability 1 - level. The
levels are fixed beforehand: 99 % for the three Pollaczek-Khinchine rows, 99.9 % for all others, so
that the whole set has about one chance in twenty of a false alarm. Run lengths are planned from the
variance of the estimate (Whitt 1989; where no formula exists, from trial runs on other seeds) such
that the half-width is expected to be two thirds of what is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles
from ..rows import Row

SEEDS = range(20)
"""Seeds of the independent runs of a statistical check."""
QUICK = 20
"""The quick set runs this many times fewer jobs per seed, and accepts 8 times wider intervals.

Means of such short runs are skewed (99 % intervals of M/M/1 held the truth in 97 % of 100 trials),
so its intervals are all at 99.99 %.
"""

STUDENT = {0.99: 2.860935, 0.999: 3.883406, 0.9999: 4.897462}
"""Two-sided quantiles of Student's t with 19 degrees of freedom, by level."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """A figure known exactly.

    Attributes:
        name: what it is.
        expected: its value.
        unit: its unit.
        level: of the interval that must contain it.
        narrow: largest accepted half-width of that interval, relative to the value.
    """

    name: str
    expected: float
    unit: str
    level: float = 0.999
    narrow: float = 0.03


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to simulate: ``jobs`` per seed in the full set, ``quick`` for the short one."""

    jobs: int
    quick: bool

    @property
    def per_seed(self) -> int:
        """Jobs of one run."""
        return self.jobs // QUICK if self.quick else self.jobs

    @property
    def seconds(self) -> float:
        """Expected work of all seeds on one core."""
        return self.per_seed * len(SEEDS) / 400_000

    @property
    def slack(self) -> float:
        """Factor on accepted half-widths: the square root of the shorter run and a higher level."""
        return 8.0 if self.quick else 1.0


def half_width(values: Sequence[float] | Doubles, level: float) -> float:
    """Half-width of the t-interval of the mean of 20 independent ``values``."""
    if len(values) != len(SEEDS):
        raise ValueError(f"the quantiles are for {len(SEEDS)} runs, got {len(values)}")
    return STUDENT[level] * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def interval_rows(
    oracles: Sequence[Oracle], run: Callable[[int, int], Sequence[float]], effort: Effort
) -> list[Row]:
    """Runs ``run(seed, jobs)`` for every seed; compares each figure it returns with its oracle."""
    figures = np.array([run(seed, effort.per_seed) for seed in SEEDS], dtype=np.float64)
    rows: list[Row] = []
    for oracle, values in zip(oracles, figures.T, strict=True):
        level = 0.9999 if effort.quick else oracle.level
        width = half_width(values, level)
        mean = float(values.mean())
        relative = width / abs(oracle.expected)
        name = f"{oracle.name}: half-width of the {100 * level:g} % interval, relative"
        rows += [
            Row.near(oracle.name, mean, oracle.unit, oracle.expected, width),
            Row.at_most(name, relative, "1", oracle.narrow * effort.slack),
        ]
    return rows
